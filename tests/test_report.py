"""mode=report in a real browser, curves.png, the bar and the last words of a run."""

import csv
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import Select, WebDriverWait

from .commands import SMALL, Project, words_of_figure

pytestmark = pytest.mark.task("speech")

DRYRUN = "python train.py model=dryrun training=dryrun"
LONG = "and-a-name-that-is-much-longer-than-a-column-can-be-1"
HOSTILE = 'it\'s "a" <script>document.title=1;<!-- b'


@pytest.fixture(scope="module")
def runs(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of four jobs, a plain run, one that failed, and some that are not whole."""
    runs = tmp_path_factory.mktemp("runs")
    rates = "training.lr=1e-4,1e-2 training.weight_decay=0,0.1"
    project.run(f"{DRYRUN} runs_dir={runs} --multirun name=sweep {rates}")
    project.run(f"{DRYRUN} runs_dir={runs} name=plain training.lr=2e-3 training.num_workers=1")
    project.run(f"python train.py mode=evaluate checkpoint={runs}/plain runs_dir={runs}")
    by_loss = "training.objective.metric=loss"
    project.run(f"{DRYRUN} runs_dir={runs} name=by-the-loss-{LONG} {by_loss}")
    project.run(f"{DRYRUN} runs_dir={runs} name=failed training.lr=1e30", status=2)

    hostile = runs / HOSTILE
    hostile.mkdir()
    rows = [(i, i if i != 4321 else 1e6) for i in range(20_000)]
    lines = [json.dumps({"step": i, "split": "train", "loss": v}) for i, v in rows]
    lines += ['{"step": 7, "split": "valid", "loss": null, "cer": 0.5}', '{"step": 20000, "spl']
    (hostile / "metrics.jsonl").write_text("\n".join(lines))
    (runs / "begun").mkdir()
    (runs / "begun" / "config.yaml").write_text((runs / "plain" / "config.yaml").read_text())
    (runs / "odd").mkdir()
    (runs / "odd" / "config.yaml").write_text("model: [")
    (runs / "odd" / "metrics.jsonl").write_text('[1]\n"x"\n{"step": 1, "split": "valid"}\n\xff\n')
    return runs


@pytest.fixture(scope="module")
def said(project: Project, runs: Path) -> str:
    """What the report of all these runs prints."""
    done = project.run(f"python train.py mode=report runs_dir={runs}")
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def browser() -> Iterator[WebDriver]:
    driver_path = shutil.which("chromedriver")
    if driver_path is None and "BROWSER_EXPECTED" not in os.environ:
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(driver_path)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def show(browser: WebDriver, page: Path, width: int = 1366, dark: bool = False) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(page.as_uri())
    WebDriverWait(browser, 20).until(lambda b: curves(b) > 0)


def set_value(browser: WebDriver, control: str, value: str) -> None:
    """Move a control of the page, as a user does, and let it redraw."""
    script = "const c = document.getElementById(arguments[0]); c.value = arguments[1];"
    browser.execute_script(script + "(c.oninput || c.onchange)();", control, value)


def drawn(browser: WebDriver, name: str) -> Any:
    """The curve of a run as it is drawn: x and y."""
    traces = browser.execute_script(
        "return document.getElementById('curves').data.map(t => [t.name, t.x, t.y]);"
    )
    return next((x, y) for trace, x, y in traces if trace == name)


def curves(browser: WebDriver) -> int:
    return len(browser.find_elements(By.CSS_SELECTOR, "#curves .scatterlayer .trace"))


def column(browser: WebDriver, name: str) -> list[str]:
    """The shown cells of a column of the table, from top to bottom."""
    heads = [h.text.rstrip(" ▲▼") for h in browser.find_elements(By.CSS_SELECTOR, "#head th")]
    cells = f"#rows tr:not([hidden]) > :nth-child({heads.index(name) + 1})"
    return [cell.text.strip() for cell in browser.find_elements(By.CSS_SELECTOR, cells)]


def click(browser: WebDriver, name: str) -> None:
    heads = browser.find_elements(By.CSS_SELECTOR, "#head button")
    next(head for head in heads if head.text.rstrip(" ▲▼") == name).click()


def data_of(page: Path) -> Any:
    found = re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


@pytest.mark.usefixtures("said")
def test_the_table_sorts_and_filters(browser: WebDriver, runs: Path) -> None:
    show(browser, runs / "report.html")
    names = column(browser, "run")
    assert len(names) == 10
    assert "sweep/lr=0.01,weight_decay=0" in names
    best = [float(text) for text in column(browser, "best valid/cer") if text]
    assert best == sorted(best)
    assert len(best) == 5
    # a run with another objective has no place among them
    by_loss = next(i for i, name in enumerate(names) if name.startswith("by-the-loss"))
    assert column(browser, "best valid/cer")[by_loss] == ""
    assert float(column(browser, "best valid/loss")[by_loss]) > 0
    assert names[by_loss].endswith("can-be-1")  # elided in the middle
    assert "…" in names[by_loss]
    assert set(column(browser, "at iteration")) <= {"2", "4", ""}
    evaluated = [float(text) for text in column(browser, "evaluate test/cer") if text]
    assert len(evaluated) == 1
    click(browser, "lr")
    up = column(browser, "lr")
    assert up[:4] == ["1e-4", "1e-4", "1e-4", "0.002"]
    assert up[-2:] == ["", ""]  # what is missing comes last
    click(browser, "lr")
    down = [float(text) for text in column(browser, "lr") if text]
    assert down == sorted(down, reverse=True)
    assert column(browser, "lr")[-2:] == ["", ""]
    browser.find_element(By.ID, "filter").send_keys("SWEEP/")
    assert len(column(browser, "run")) == 4


@pytest.mark.usefixtures("said")
def test_curves_are_switched_off_and_on(browser: WebDriver, runs: Path) -> None:
    show(browser, runs / "report.html")
    Select(browser.find_element(By.ID, "metric")).select_by_visible_text("train/loss")
    WebDriverWait(browser, 5).until(lambda b: curves(b) == 8)
    before = curves(browser)
    row = next(r for r in browser.find_elements(By.CSS_SELECTOR, "#rows tr") if "plain" in r.text)
    row.find_element(By.TAG_NAME, "input").click()
    assert curves(browser) == before - 1
    browser.find_element(By.ID, "all").click()
    assert curves(browser) == 0
    browser.find_element(By.ID, "all").click()
    assert curves(browser) == before


@pytest.mark.usefixtures("said")
def test_columns_are_hidden_and_shown(browser: WebDriver, runs: Path) -> None:
    show(browser, runs / "report.html")
    browser.find_element(By.TAG_NAME, "summary").click()
    labels = browser.find_elements(By.CSS_SELECTOR, "#columns label")
    state = next(label for label in labels if label.text == "state")
    assert "finished" in column(browser, "state")
    state.click()
    heads = [head.text for head in browser.find_elements(By.CSS_SELECTOR, "#head th")]
    assert "state" not in heads
    assert "finished" not in browser.find_element(By.ID, "rows").text
    state.click()
    assert "finished" in column(browser, "state")


@pytest.mark.usefixtures("said")
def test_curves_by_items_and_time_and_smoothed(browser: WebDriver, runs: Path) -> None:
    show(browser, runs / "report.html")
    set_value(browser, "metric", "train/loss")
    steps, losses = drawn(browser, "plain")
    assert steps == [1, 2, 3, 4]
    set_value(browser, "x", "items")
    assert drawn(browser, "plain")[0] == [4 * step for step in steps]  # the dryrun's batch
    set_value(browser, "x", "minutes")
    minutes = drawn(browser, "plain")[0]
    assert minutes == sorted(minutes)
    assert 0 < minutes[-1] < 5
    set_value(browser, "smooth", "0.5")
    smooth = drawn(browser, "plain")[1]
    assert smooth[0] == losses[0]
    assert smooth[1] == pytest.approx((losses[0] + losses[1]) / 2)


@pytest.mark.usefixtures("said")
def test_a_sweep_has_ticks_at_its_values(browser: WebDriver, runs: Path) -> None:
    show(browser, runs / "report.html")
    ticks = browser.find_elements(By.CSS_SELECTOR, "#sweeps .xtick text")
    values = [tick.get_attribute("textContent") for tick in ticks]
    assert values == ["1e-4", "0.01", "0", "0.1"]
    titles = browser.find_elements(By.CSS_SELECTOR, "#sweeps .axis-title")
    keys = [title.get_attribute("textContent") for title in titles]
    assert keys == ["lr", "weight_decay", "valid/cer"]


@pytest.mark.usefixtures("said")
def test_a_click_on_a_run_shows_it(browser: WebDriver, runs: Path) -> None:
    show(browser, runs / "report.html")
    buttons = browser.find_elements(By.CSS_SELECTOR, "#rows button")
    next(button for button in buttons if button.text == "plain").click()
    dialog = browser.find_element(By.ID, "run")
    assert "python train.py model=dryrun training=dryrun training.optim.lr=2e-3" in dialog.text
    rows = [row.text.split() for row in dialog.find_elements(By.TAG_NAME, "tr")]
    assert ["training.optim.lr", "0.002", "1e-4"] in rows  # against today's conf/
    other = Select(browser.find_element(By.ID, "other"))
    other.select_by_visible_text("sweep/lr=0.01,weight_decay=0")
    rows = [row.text.split() for row in dialog.find_elements(By.TAG_NAME, "tr")]
    assert rows[0] == ["key", "this", "run", "the", "other"]
    assert ["training.optim.lr", "0.002", "0.01"] in rows
    assert len(rows) == 4  # the rate, its decay, the workers
    pictures = dialog.find_elements(By.TAG_NAME, "img")
    WebDriverWait(browser, 10).until(lambda _: all(p.get_property("complete") for p in pictures))
    assert all(int(str(p.get_property("naturalWidth"))) > 100 for p in pictures)
    sources = [p.get_attribute("src") or "" for p in pictures]
    assert any(source.endswith("plain/curves.png") for source in sources)
    for link in dialog.find_elements(By.TAG_NAME, "a"):
        assert Path((link.get_attribute("href") or "").removeprefix("file://")).is_file()
    dialog.find_element(By.TAG_NAME, "button").click()
    assert not dialog.is_displayed()


@pytest.mark.usefixtures("said")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1366, 390])
def test_it_fits_a_laptop_and_a_phone(
    browser: WebDriver, runs: Path, width: int, dark: bool
) -> None:
    show(browser, runs / "report.html", width, dark)
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width
    paint = "return getComputedStyle(document.body).backgroundColor"
    channels = re.findall(r"\d+", browser.execute_script(paint))
    assert (max(map(int, channels[:3])) < 60) == dark
    mark = browser.find_element(By.CSS_SELECTOR, "#curves .xtick text")
    text = re.findall(r"\d+", mark.value_of_css_property("fill"))
    assert (min(map(int, text[:3])) > 150) == dark


@pytest.mark.usefixtures("said")
def test_it_opens_without_a_network(browser: WebDriver, runs: Path) -> None:
    browser.get_log("performance")  # type: ignore[attr-defined]
    browser.get_log("browser")  # type: ignore[attr-defined]
    show(browser, runs / "report.html")
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]  # type: ignore[attr-defined]
    asked = [
        e["params"]["request"]["url"] for e in events if e["method"].endswith("requestWillBeSent")
    ]
    assert asked
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    said = [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[attr-defined]
    assert [
        message for message in said if "WebGL" not in message and "GL Driver" not in message
    ] == []


@pytest.mark.usefixtures("said")
def test_a_hostile_name_is_only_a_name(browser: WebDriver, runs: Path) -> None:
    show(browser, runs / "report.html")
    assert HOSTILE in column(browser, "run")
    assert browser.title.startswith("10 runs in")


def test_what_is_not_whole_is_read_as_far_as_it_goes(said: str, runs: Path) -> None:
    assert f"{HOSTILE}/metrics.jsonl: 1 damaged of 20002 lines, left out" in said
    assert "odd/metrics.jsonl: 3 damaged of 4 lines, left out" in said
    assert "odd/config.yaml: damaged" in said
    assert "begun: no metrics yet" in said
    assert "no config.yaml" in said
    assert len(data_of(runs / "report.html")["remarks"]) >= 5


@pytest.mark.usefixtures("said")
def test_the_csv_has_keys_states_and_metrics(runs: Path) -> None:
    with (runs / "report.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert len(rows) == 10
    assert rows["plain"]["training.optim.lr"] == "0.002"
    assert rows["plain"]["state"] == "finished"
    assert rows["failed"]["state"] == "failed"
    assert rows["begun"]["state"] == "unknown"
    assert rows[HOSTILE]["valid/cer"] == "0.5"
    columns = list(rows["plain"])
    assert "training.run.seed" not in columns  # the same in all
    # it changes nothing of what is learned, so it does not stand between the others
    assert columns.index("training.loader.num_workers") > columns.index("began")
    metrics = (runs / "plain" / "metrics.jsonl").read_text().splitlines()
    valid = [json.loads(line)["cer"] for line in metrics if '"valid"' in line]
    assert float(rows["plain"]["best valid/cer"]) == min(valid)
    assert float(rows["plain"]["valid/cer"]) == valid[-1]


FEWER_POINTS = """
import runpy
from my_project.engine.report import table
table.POINTS = 4000
runpy.run_path("train.py", run_name="__main__")
"""


def test_a_thinned_curve_keeps_its_spikes(project: Project, runs: Path) -> None:
    project.run(f"python -c {shlex.quote(FEWER_POINTS)} mode=report runs_dir={runs}")
    data = data_of(runs / "report.html")
    names = [row[0] for row in data["rows"]]
    x, y = data["curves"][names.index(HOSTILE)]["train/loss"]
    assert len(y) < 400
    assert max(y) == 1e6
    assert x[y.index(1e6)] == 4321
    assert (x[0], x[-1]) == (0, 19_999)


def test_some_runs_alone(project: Project, runs: Path) -> None:
    done = project.run(f"python train.py mode=report runs_dir={runs} input={runs}/sweep")
    assert done.stdout.startswith("4 runs\n")
    assert (runs / "sweep" / "report.html").is_file()
    several = f"input=[{runs}/sweep,{runs}/plain,{runs}/sweep]"
    done = project.run(f"python train.py mode=report runs_dir={runs} '{several}'")
    assert done.stdout.startswith("5 runs\n")
    sweep = Project(project.path).run(f"python train.py mode=check runs_dir={runs} name=new")
    assert "starts at iteration 1" in sweep.stdout  # reports are no runs


WRITE = """
from pathlib import Path
from my_project.engine.run_dir.paths import write_csv
write_csv(Path("cells.csv"), [
    ["+a", "-b", "@c", "\\td", "-1e-05", "-0.5", "1", "a=b"], [-1.5, None, float("-inf")]
])
"""


def test_a_spreadsheet_runs_no_cell(project: Project, dryrun: str, tmp_path: Path) -> None:
    shutil.copytree(project.path / "runs" / dryrun, tmp_path / "=cmd|' -x'!A0")
    shutil.copytree(project.path / "runs" / dryrun, tmp_path / ".fit-killed" / "trial")  # no run
    project.run(f"python train.py mode=report runs_dir={tmp_path}")
    with (tmp_path / "report.csv").open(newline="") as file:
        assert [row[0] for row in csv.reader(file)][1:] == ["'=cmd|' -x'!A0"]
    project.run(f"python -c {shlex.quote(WRITE)}")
    with (project.path / "cells.csv").open(newline="") as file:
        cells = list(csv.reader(file))
    assert cells[0] == ["'+a", "'-b", "'@c", "'\td", "-1e-05", "-0.5", "1", "a=b"]
    assert cells[1] == ["-1.5", "", "-inf"]


def test_a_killed_run_does_not_show_as_running(project: Project, tmp_path: Path) -> None:
    project.run(f"{DRYRUN} runs_dir={tmp_path} name=killed")
    record = tmp_path / "killed" / "record.json"
    record.write_text(record.read_text().replace('"finished"', '"running"'))
    project.run(f"python train.py mode=report runs_dir={tmp_path}")
    assert ",killed," in (tmp_path / "report.csv").read_text().splitlines()[1]


def test_no_runs_are_told(project: Project, tmp_path: Path) -> None:
    for command, told in (
        (f"runs_dir={tmp_path}", "no runs in it"),
        (f"input={tmp_path}/none", "no such directory"),
        (f"input={tmp_path}", "no runs in it"),
    ):
        done = project.run(f"python train.py mode=report {command}", status=2)
        assert told in done.stderr
        assert "expected a run's directory" in done.stderr
    assert not list(tmp_path.iterdir())
    done = project.run("python train.py --multirun mode=report", status=2)
    assert "leave out --multirun" in done.stderr


def test_a_run_ends_with_curves_and_commands(project: Project, tmp_path: Path) -> None:
    name = "it is (here)=1"
    done = project.run(
        f"{DRYRUN} runs_dir={tmp_path} '\"name={name}\"'".replace('"name=', 'name="')
    )
    with Image.open(tmp_path / name / "curves.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 10
    (line,) = [line for line in done.stdout.splitlines() if "mode=evaluate" in line]
    project.run(line.removeprefix("next").strip())
    assert "mode=report" in done.stdout
    words = words_of_figure(project, f"{SMALL} runs_dir={tmp_path} name=seen")
    rows = [json.loads(x) for x in (tmp_path / "seen" / "metrics.jsonl").read_text().splitlines()]
    best = min((row["cer"], row["step"]) for row in rows if row["split"] == "valid")
    titles = ["loss", f"cer: best {best[0]:.4g} at iteration {best[1]}", "grad norm", "lr"]
    titles += ["iterations per second", "items per second", "data wait", "memory gb"]
    assert [word for word in words if word in titles] == titles
    assert {"seen", "train", "valid", "best checkpoint"} <= set(words)
    # a picture that cannot be drawn costs nobody a run
    (tmp_path / "odd" / "curves.png").mkdir(parents=True)
    (tmp_path / "odd" / ".lock").touch()  # as a run leaves one
    done = project.run(f"{DRYRUN} runs_dir={tmp_path} name=odd")
    assert "curves.png could not be drawn" in done.stdout
