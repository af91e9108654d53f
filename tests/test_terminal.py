"""What a terminal of 80 or 120 columns shows, drawn by a terminal emulator; and a file, plain."""

import re
from pathlib import Path

import pytest

from .commands import SMALL, Project
from .terminal import Terminal

pytestmark = pytest.mark.task("speech")
RUN = f"{SMALL} training.iter_num=120 training.run.eval_every=60 training.run.log_every=5"
BAR = "━"


def terminal(project: Project, arguments: str, columns: int = 80, **environment: str) -> Terminal:
    command = [project.python, "train.py", *arguments.split()]
    return Terminal(command, project.path, columns, **environment)


def bars(shown: Terminal, name: str) -> list[str]:
    """All that a bar showed, the first one after its first value."""
    return [line for frame in shown.frames for line in frame if line.lstrip().startswith(name)]


@pytest.mark.parametrize(("columns", "devices"), [(80, 2), (120, 1)])
def test_a_run_shows_a_bar_with_its_values(project: Project, columns: int, devices: int) -> None:
    how = f"training.num_workers=0 training.devices={devices}"
    shown = terminal(project, f"{RUN} name=bar{columns} {how}", columns)
    assert shown.status == 0
    valued = [line for line in bars(shown, "train") if "loss" in line and "cer" in line]
    assert valued, "\n".join(shown.lines)
    for line in valued:
        assert re.fullmatch(
            r"train +[━╸╺]+ +\d+/120 loss [\d.]+ · cer [\d.]+ · [\d.e+]+ it/s +[\d:-]+", line
        ), line
        assert line.count(BAR) >= 15, "a bar, at 80 columns too"
    end = "\n".join(shown.lines)
    assert BAR not in end, "the bar goes with the run"
    assert re.search(r"^evaluation at iteration 60: loss [\d.]+ · cer [\d.]+$", end, re.MULTILINE)
    assert re.search(r"^iteration 120: best cer [\d.]+ at iteration (60|120)$", end, re.MULTILINE)
    assert f"\nresults  runs/bar{columns}: curves.png, metrics.jsonl" in end
    assert f"\nnext     python train.py mode=evaluate checkpoint=runs/bar{columns}\n" in end
    assert "bold" in shown.styles("best cer")


def test_an_evaluation_shows_how_far_it_is(project: Project, dryrun: str) -> None:
    shown = terminal(
        project,
        f"mode=evaluate checkpoint=runs/{dryrun} training.batch_size=1",
    )
    assert shown.status == 0, "\n".join(shown.lines)
    tested = project.task.tested
    bar = rf"evaluate [━╸╺]+ +\d+/{tested} "
    assert any(re.search(bar, line) for line in bars(shown, "evaluate"))
    assert re.search(rf"^test split, {tested} items: loss [\d.]+ · cer [\d.]+$", shown.lines[-2])


def test_a_sweep_shows_its_jobs(project: Project) -> None:
    shown = terminal(
        project, f"--multirun {SMALL} name=shown hydra/launcher=local training.seed=1,2,3", 100
    )
    assert shown.status == 0, "\n".join(shown.lines)
    assert any(re.search(r"seed=\d [━╸╺]+ +\d+ s", line) for line in bars(shown, "seed="))
    best = r"jobs +[━╸╺]+ [12]/3 best cer [\d.]+ \(seed=\d\) +\d\d:\d\d"
    assert any(re.search(best, line) for line in bars(shown, "jobs")), bars(shown, "jobs")
    end = "\n".join(shown.lines)
    assert re.search(r"^3/3 seed=\d: finished, cer [\d.]+; best cer [\d.]+ \(seed=\d\)$", end, re.M)
    assert re.search(r"^variant +mean cer +± 95 % +sd +n$", end, re.MULTILINE)


def test_check_shows_a_table(project: Project) -> None:
    shown = terminal(project, f"mode=check {SMALL}")
    assert shown.status == 0
    states = {line.split()[1]: line.split()[0] for line in shown.lines if line[:1].strip()}
    assert states == {
        "config": "ok",
        "code": "warning",
        "files": "ok",
        "machine": "ok",
        "data": "ok",
        "run": "ok",
    }
    assert shown.styles("ok") == {"green"}
    assert shown.styles("warning") == {"brown"}, "yellow, as terminals of 8 colours have it"
    shown = terminal(project, f"mode=check {SMALL} training.run.device=cuda")
    assert shown.status == 2
    assert "failed   machine  1 problem" in shown.lines
    assert "  training.run.device = cuda: this torch" in "\n".join(shown.lines)


def test_errors_are_red_and_stay_one_line(project: Project) -> None:
    shown = terminal(project, "training.optim.lrr=1")
    assert shown.status == 2
    assert shown.styles("1 problem:") == {"red", "bold"}
    # the terminal wraps it, so that a command can be copied
    assert b"did you mean training.optim.lr? (training.lr for short)\r\n" in shown.raw


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(project: Project, variable: dict[str, str]) -> None:
    for arguments in (f"mode=check {SMALL}", "training.optim.lrr=1"):
        shown = terminal(project, arguments, 80, **variable)
        assert not re.search(rb"\x1b\[[\d;]*3\dm", shown.raw)


def test_a_file_gets_plain_lines_that_do_not_wrap(project: Project, tmp_path: Path) -> None:
    done = project.run(f"python train.py {RUN} name=plain", COLUMNS="40")
    assert "\x1b" not in done.stdout + done.stderr
    assert BAR not in done.stdout
    line = r"^iteration 5/120 · loss [\d.]+ · lr [\d.e-]+ · grad_norm [\d.]+ · .* left$"
    assert re.search(line, done.stdout, re.MULTILINE)
