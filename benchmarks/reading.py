"""How fast data comes, and what share of that the libraries which read its files take.

python -m benchmarks.reading TASK… prints the lines for RESULTS.md.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
LAUNCHES = 3
AT_64 = "model.image.size=64"
COLUMNS = ["data.features=[x,y]", "data.classes=[a,b]"]
# what each dataset of a task is called, with what it needs
DATA: dict[str, dict[str, list[str]]] = {
    "speech": {"dialtones": [], "manifest": ["data.train=made/train.jsonl"]},
    "vision": {"digits": [], "image_folder": ["data.train=made", "data.classes=[a,b]", AT_64]},
    "text": {"stdlib": [], "text_files": ["data.train=made"]},
    "blank": {"spirals": [], "table": ["data.train=made.csv", *COLUMNS]},
}

# in the project: items per second that its train loader hands out, and of the libraries alone
READ = """\
import sys, time
from itertools import islice
from multiprocessing import Pool
from {package}.engine.compose.validate import Checker
from {package}.engine.data.loader import train_loader
from {package}.project import PROJECT
{alone}
cfg = Checker(PROJECT).check(sys.argv[2:])
loader, count = train_loader(PROJECT, cfg), int(sys.argv[1])
names = [name for iteration in range(2, count + 2) for name in loader.names(iteration)]
batches = iter(loader)
next(batches)
start = time.perf_counter()
for _ in islice(batches, count):
    pass
print(len(names) / (time.perf_counter() - start))
del batches
with Pool(loader.num_workers or 1) as pool:
    pool.map(read, names[:16])
    start = time.perf_counter()
    pool.map(read, names)
    print(len(names) / (time.perf_counter() - start))
"""
NOTHING = "read = len\n"
SOUND = """\
import soundfile, soxr

def read(path):
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    soxr.resample(audio[:, 0], rate, cfg.model.encoder.sample_rate)
"""
PILLOW = """\
import numpy as np
from PIL import Image

def read(path):
    size = cfg.model.image.size
    with Image.open(path) as picture:
        np.asarray(picture.convert("L").resize((size, size), Image.Resampling.BILINEAR))
"""
# what reads a dataset's files, its name, and the least share of its rate
ALONE = {
    "manifest": (SOUND, "libsndfile's and soxr's alone", 0.85),
    "image_folder": (PILLOW, "Pillow's alone", 0.8),
}
# forty recordings of 2 to 8 seconds: half as telephones have them, half as studios
RECORDINGS = """\
import json
from pathlib import Path
import numpy as np, soundfile

folder, rng = Path("made"), np.random.default_rng(0)
folder.mkdir(exist_ok=True)
lines = []
for i in range(40):
    rate, channels, kind = ((8000, 1, "wav"), (44100, 2, "flac"))[i % 2]
    noise = rng.uniform(-0.1, 0.1, (int(rng.uniform(2, 8) * rate), channels))
    soundfile.write(folder / f"{i}.{kind}", noise, rate)
    lines.append(json.dumps({"audio": f"{i}.{kind}", "text": "noise"}))
(folder / "train.jsonl").write_text("\\n".join(lines))
"""
# forty pictures of 640 x 480 pixels
PICTURES = """\
from pathlib import Path
import numpy as np
from PIL import Image

rng = np.random.default_rng(0)
for i in range(40):
    folder = Path("made", "ab"[i % 2])
    folder.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    coarse.resize((640, 480)).save(folder / f"{i}.jpg")
"""
# forty texts of 100 kB
TEXTS = """\
from pathlib import Path
import numpy as np

folder, rng = Path("made"), np.random.default_rng(0)
folder.mkdir(exist_ok=True)
for i in range(40):
    (folder / f"{i}.txt").write_bytes(rng.integers(32, 127, 100_000, dtype=np.uint8).tobytes())
"""
# a thousand points
POINTS = """\
import numpy as np

rng = np.random.default_rng(0)
with open("made.csv", "w") as file:
    file.write("x,y,answer\\n")
    for x, y in rng.uniform(-1, 1, (1000, 2)):
        file.write(f"{x},{y},{'ab'[int(x > y)]}\\n")
"""
MAKE = {"speech": RECORDINGS, "vision": PICTURES, "text": TEXTS, "blank": POINTS}


def rows(project: Path, task: str, package: str) -> Iterator[str]:
    """Lines for the table of RESULTS.md."""
    subprocess.run([sys.executable, "-c", MAKE[task]], cwd=project, check=True)
    for data, needs in DATA[task].items():
        alone, library, least = ALONE.get(data, (NOTHING, "", 0))
        script = READ.format(package=package, alone=alone)
        for workers in (0, 2):
            settings = ["model=tiny", f"data={data}", f"training.loader.num_workers={workers}"]
            command = [sys.executable, "-c", script, "30", *settings, *needs]
            rates = [measure(command, project) for _ in range(LAUNCHES)]
            ours, floor = (statistics.median(column) for column in zip(*rates, strict=True))
            yield f"| items per second, data={data}, {workers} workers | {ours:.0f} | |"
            if library:
                share = statistics.median(a / b for a, b in rates)
                yield f"| … of {library} | {share:.2f} ({floor:.0f}) | {least} |"


def measure(command: list[str], project: Path) -> list[float]:
    """Items per second of the project, and of the libraries alone."""
    done = subprocess.run(command, cwd=project, check=True, capture_output=True, text=True)
    return [float(line) for line in done.stdout.split()]


def main() -> None:
    """Of the tasks that are named, or of all."""
    for task in sys.argv[1:] or DATA:
        with tempfile.TemporaryDirectory() as folder:
            copy = [sys.executable, "-m", "copier", "copy", "-qf", "--vcs-ref=HEAD"]
            copy += ["-d", f"task={task}", "-d", "package=measured", str(ROOT), folder]
            subprocess.run(copy, check=True, capture_output=True)
            for row in rows(Path(folder).resolve(), task, "measured"):
                print(row, flush=True)


if __name__ == "__main__":
    main()
