"""make screenshots: those of README.md, taken in a freshly rendered project."""

import io
import shutil
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text
from selenium import webdriver

from tests.terminal import Terminal

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
COLUMNS, WIDTH = 100, 1000  # characters, pixels
COMMANDS = {
    "terminal": ["model=tiny training=fastrun name=first", "mode=evaluate checkpoint=runs/first"],
    "error": ["model=tinny training.optim.lrr=1 data.seed=-1"],
    "explain": ["mode=explain key=training.lr training=fastrun training.lr=3e-4"],
}
SWEEP = "--multirun model=tiny training=fastrun training.iter_num=400 training.eval_every=20 "
SWEEP += "name=rates training.lr=1e-4,3e-4,1e-3 training.weight_decay=0.01,0.1"


def browser(width: int, height: int) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--hide-scrollbars")
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    size = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    return driver


def draw_terminal(project: Path, name: str) -> None:
    """Draw commands and what they print, in colour."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for command in COMMANDS[name]:
        shown = Terminal([sys.executable, "train.py", *command.split()], project, COLUMNS)
        console.print(Text.assemble(("$ ", "bold"), f"python train.py {command}"), soft_wrap=True)
        for row, line in enumerate(shown.lines):
            cells = [shown.screen.buffer[row][i] for i in range(len(line))]
            styles = [f"{'bold ' * cell.bold}{style(cell.fg)}" for cell in cells]
            pairs = [(c.data, s) for c, s in zip(cells, styles, strict=True)]
            console.print(Text.assemble(*pairs), soft_wrap=True)
    driver = browser(WIDTH, 900)
    with tempfile.NamedTemporaryFile("w", suffix=".html") as page:
        page.write(f'<body style="margin: 0">{console.export_svg(title="myproj")}')
        page.flush()
        driver.get(f"file://{page.name}")
        driver.find_element("tag name", "svg").screenshot(str(PICTURES / f"{name}.png"))
    driver.quit()


def style(colour: str) -> str:
    """A colour of the terminal emulator, as rich names it."""
    named = {"brown": "yellow"}.get(colour, colour.replace("bright", "bright_"))
    return f"#{colour}" if len(colour) == 6 and set(colour) <= set(string.hexdigits) else named


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder, "myproj")
        copy = [sys.executable, "-m", "copier", "copy", "-qf", "--vcs-ref=HEAD"]
        subprocess.run([*copy, "-d", "task=vision", str(ROOT), str(project)], check=True)
        for name in COMMANDS:
            draw_terminal(project, name)
        train = [sys.executable, "train.py"]
        for command in (SWEEP, "mode=report input=runs/rates"):
            subprocess.run([*train, *command.split()], cwd=project, check=True)
        driver = browser(WIDTH, 800)
        driver.get((project / "runs" / "rates" / "report.html").as_uri())
        time.sleep(3)  # for Plotly
        driver.save_screenshot(str(PICTURES / "report.png"))
        driver.quit()


if __name__ == "__main__":
    main()
