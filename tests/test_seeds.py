"""Seeds and folds: statistics against scipy's and made-up data, tables, the report, JSON."""

import importlib.util
import json
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from .commands import ROOT, SMALL, Project, prepared, record, table
from .tasks import Task
from .test_report import browser as browser
from .test_report import show

Array = NDArray[np.float64]
FILE = ROOT / "template" / "{{ package }}" / "engine" / "statistics.py"
SIMULATIONS = [50, pytest.param(1000, marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def statistics() -> ModuleType:
    """The engine's module, which imports nothing of the engine."""
    spec = importlib.util.spec_from_file_location("engine_statistics", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_seed(values: Array) -> dict[tuple[int, int, None], float]:
    return {(seed, 0, None): float(value) for seed, value in enumerate(values)}


def by_fold(values: Array) -> dict[tuple[int, int, int], float]:
    """Of an array [seeds, folds]."""
    folds = values.shape[1]
    return {(s, f, folds): float(values[s, f]) for s in range(len(values)) for f in range(folds)}


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_a_paired_comparison_is_that_of_scipy(statistics: ModuleType, n: int) -> None:
    rng = np.random.default_rng(n)
    one, other = rng.normal(size=(2, n)) + rng.normal(size=n)
    found = statistics.compare({"one": by_seed(one), "other": by_seed(other)}, "one", "other")
    expected = stats.ttest_rel(one, other)
    low, high = expected.confidence_interval(0.95)
    assert [found["mean"] - found["ci95"], found["mean"] + found["ci95"]] == pytest.approx(
        [low, high]
    )
    assert found["significant"] == (expected.pvalue < 0.05)
    assert found["agree"] == (np.sign(one - other) == np.sign(found["mean"])).sum()
    mean = stats.ttest_1samp(one, 0).confidence_interval(0.95)
    estimate = statistics.estimate(by_seed(one))
    assert estimate["mean"] - estimate["ci95"] == pytest.approx(mean.low)
    assert estimate["sd"] == pytest.approx(one.std(ddof=1))


@pytest.mark.parametrize("simulations", SIMULATIONS)
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_hold_the_truth_as_often_as_they_say(
    statistics: ModuleType, simulations: int, seeds: int
) -> None:
    """The seed shifts both variants alike, as an easy or a hard initialization does."""
    rng = np.random.default_rng(seeds)
    held = {"mean": 0, "difference": 0, "significant": 0}
    for _ in range(simulations):
        shared = rng.normal(0, 0.3, seeds)
        one = 1.0 + shared + rng.normal(0, 0.1, seeds)
        other = 1.2 + shared + rng.normal(0, 0.1, seeds)
        equal = 1.0 + shared + rng.normal(0, 0.1, seeds)
        variants = {"one": by_seed(one), "other": by_seed(other), "equal": by_seed(equal)}
        mean = statistics.estimate(variants["one"])
        found = statistics.compare(variants, "one", "other")
        held["mean"] += abs(mean["mean"] - 1.0) <= mean["ci95"]
        held["difference"] += abs(found["mean"] + 0.2) <= found["ci95"]
        held["significant"] += statistics.compare(variants, "one", "equal")["significant"]
    # what chance allows once in a thousand tests
    low, high = stats.binom.ppf([0.0005, 0.9995], simulations, 0.95)
    assert low <= held["mean"] <= high
    assert low <= held["difference"] <= high
    assert low <= simulations - held["significant"] <= high


def cross_validate(rng: np.random.Generator, seeds: int, folds: int) -> Array:
    """Errors of a ridge regression on random features, minus those of a stronger one, by fold."""
    inputs = rng.normal(size=(40, 5))
    answers = inputs @ np.full(5, 0.5) + rng.normal(size=40)
    differences = np.empty((seeds, folds))
    for seed in range(seeds):
        features = np.tanh(inputs @ np.random.default_rng(seed).normal(size=(5, 8)))
        for fold in range(folds):
            held = np.zeros(40, bool)
            held[40 * fold // folds : 40 * (fold + 1) // folds] = True
            square, right = features[~held].T @ features[~held], features[~held].T @ answers[~held]
            one, other = (
                np.mean(
                    (
                        features[held] @ np.linalg.solve(square + p * np.eye(8), right)
                        - answers[held]
                    )
                    ** 2
                )
                for p in (1, 10)
            )
            differences[seed, fold] = one - other
    return differences


@pytest.mark.parametrize("simulations", SIMULATIONS)
def test_intervals_of_folds_are_not_too_narrow(statistics: ModuleType, simulations: int) -> None:
    """Those of folds counted as independent are."""
    rng = np.random.default_rng(1)
    found = [cross_validate(rng, seeds=4, folds=5) for _ in range(simulations)]
    truth = -0.0166  # the mean of 10,000
    corrected, plain = 0, 0
    for differences in found:
        of_folds = statistics.estimate(by_fold(differences))
        corrected += abs(of_folds["mean"] - truth) <= of_folds["ci95"]
        independent = statistics.estimate(by_seed(differences.ravel()))
        plain += abs(independent["mean"] - truth) <= independent["ci95"]
        assert of_folds["ci95"] == pytest.approx(
            independent["ci95"] * np.sqrt((1 / 20 + 1 / 4) / (1 / 20))
        )
    assert corrected >= stats.binom.ppf(0.0005, simulations, 0.95)
    if simulations == 1000:
        assert plain < stats.binom.ppf(0.0005, simulations, 0.95)


@pytest.mark.parametrize(("effect", "expected"), [(0.2, 199), (0.5, 34), (1, 10), (2, 5)])
def test_the_number_of_seeds_finds_the_difference_in_four_of_five_studies(
    statistics: ModuleType, effect: float, expected: int
) -> None:
    """The numbers are those of G*Power; the studies are made up."""
    assert statistics.count_seeds(effect) == expected
    rng = np.random.default_rng(1)
    fewer, enough = (
        np.mean(stats.ttest_1samp(rng.normal(effect, 1, (4000, n)), 0, axis=1).pvalue < 0.05)
        for n in (expected - 1, expected)
    )
    assert fewer < 0.82
    assert enough > 0.78
    assert statistics.count_seeds(0.01) is None


TEXTS = {
    "lower by 0.1 ± 0.056, 5 of 5 (paired t-test)": (
        [1.0, 2, 3, 4, 5],
        [0.1, 0.05, 0.15, 0.06, 0.14],
    ),
    "no significant difference; about 15 seeds would be needed (higher by 0.1 ± 0.16, 3 of 5; ": (
        [1.0, 2, 3, 4, 5],
        [-0.1, 0.0, -0.2, -0.25, 0.05],
    ),
    "a difference of -0.1 in each of 2 pairs, so without an interval": ([1.0, 2], [0.1, 0.1]),
    "too few seeds or folds in common (1)": ([1.0], [0.1]),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_comparison_reads_well(statistics: ModuleType, text: str) -> None:
    one, more = map(np.array, TEXTS[text])
    variants = {"lr=1": by_seed(one), "lr=2": by_seed(one + more)}
    assert f"lr=1 against lr=2: {text}" in statistics.compare(variants, "lr=1", "lr=2")["text"]


def test_only_seeds_that_both_have_are_compared(statistics: ModuleType) -> None:
    variants = {
        "a": {(1, 0, None): 1.0, (2, 0, None): 2.0, (3, 0, None): 9.0},
        "b": {(2, 0, None): 2.5, (1, 0, None): 1.25, (4, 0, None): 0.0},
        "of other folds": {(1, 0, 5): 1.0, (2, 0, 5): 1.0},
    }
    found = statistics.compare(variants, "a", "b")
    assert (found["n"], found["mean"]) == (2, -0.375)
    assert statistics.compare(variants, "a", "of other folds")["n"] == 0


@pytest.fixture(scope="module")
def study(project: Project) -> Any:
    """A sweep of two learning rates and three seeds: what it prints."""
    grid = f"{SMALL} training.objective.metric=loss training.lr=1e-4,1e-2"
    return project.run(f"python train.py --multirun name=seeds {grid} 'training.seed=range(3)'")


def objectives(project: Project) -> dict[str, Array]:
    """The objectives of each learning rate, by seed."""
    runs = project.path / "runs" / "seeds"
    return {
        rate: np.array([record(runs / f"lr={rate},seed={seed}")["objective"] for seed in range(3)])
        for rate in ("0.0001", "0.01")
    }


@pytest.mark.task("blank")
def test_a_sweep_of_seeds_prints_variants(project: Project, study: Any) -> None:
    found = objectives(project)
    best, other = sorted(found, key=lambda rate: found[rate].mean())
    lines = study.stdout.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("variant "))
    assert lines[begin].split() == ["variant", "mean", "loss", "±", "95", "%", "sd", "n"]
    for line, rate in zip(lines[begin + 1 : begin + 3], (best, other), strict=True):
        low, high = stats.ttest_1samp(found[rate], 0).confidence_interval(0.95)
        expected = [
            f"lr={rate}",
            f"{found[rate].mean():.4g}",
            f"{(high - low) / 2:.4g}",
            f"{found[rate].std(ddof=1):.4g}",
            "3",
        ]
        assert line.split() == expected
    paired = stats.ttest_rel(found[best], found[other])
    (compared,) = [line for line in lines if line.startswith(f"lr={best} against lr={other}: ")]
    assert ("no significant difference" in compared) == (paired.pvalue >= 0.05)
    assert f"lower by {(found[other] - found[best]).mean():.4g} ± " in compared
    assert compared.endswith("paired t-test)")
    # the best variant's best seed, and the command of the variant
    seed = int(found[best].argmin())
    assert lines[-2] == f"best: runs/seeds/lr={best},seed={seed}"
    given = f"{SMALL} training.objective.metric=loss training.optim.lr={best}"
    assert sorted(shlex.split(lines[-1])) == sorted(["python", "train.py", *given.split()])


@pytest.mark.task("blank")
def test_sweep_csv_has_a_row_for_each_job_with_its_variant(project: Project, study: Any) -> None:
    rows = table(project.path / "runs" / "seeds")
    found = objectives(project)
    assert len(rows) == 6
    for row in rows:
        rate = row["training.optim.lr"]
        assert row["variant"] == f"lr={rate}"
        assert float(row["loss"]) == found[rate][int(row["training.run.seed"])]
        assert float(row["mean"]) == pytest.approx(found[rate].mean())
        assert float(row["sd"]) == pytest.approx(found[rate].std(ddof=1))
        assert row["n"] == "3"


@pytest.mark.task("blank")
def test_a_script_reads_the_table_as_json(project: Project, study: Any) -> None:
    grid = f"{SMALL} training.objective.metric=loss training.lr=1e-4,1e-2 format=json"
    done = project.run(f"python train.py --multirun name=seeds {grid} 'training.seed=range(3)'")
    assert done.stderr.count("finished before: ") == 6, "format is not of a job"
    result, found = json.loads(done.stdout), objectives(project)
    best = min(found, key=lambda rate: found[rate].mean())
    assert (result["metric"], result["goal"]) == ("loss", "minimize")
    assert result["variants"][0]["variant"] == f"lr={best}"
    assert result["variants"][0]["mean"] == pytest.approx(found[best].mean())
    assert {it["job"] for it in result["jobs"]} == {
        f"lr={rate},seed={seed}" for rate in found for seed in range(3)
    }
    assert {it["state"] for it in result["jobs"]} == {"finished"}
    (comparison,) = result["comparisons"]
    assert comparison["text"] in study.stdout
    assert result["best"]["run"].startswith(f"runs/seeds/lr={best},seed=")
    assert result["best"]["command"] in study.stdout


@pytest.mark.task("blank")
def test_the_report_has_variants_of_seeds_and_folds(
    project: Project, study: Any, browser: WebDriver
) -> None:
    folds = "data.folds=2 data.fold=0,1 training.lr=1e-4,1e-2"
    by_loss = "training.objective.metric=loss"
    printed = project.run(f"python train.py --multirun name=folds {SMALL} {by_loss} {folds}").stdout
    assert "corrected resampled t-test)" in printed
    report = "python train.py mode=report 'input=[runs/seeds,runs/folds]'"
    result = json.loads(project.run(f"{report} format=json").stdout)
    assert {(it["variant"], it["n"]) for it in result["variants"]} == {
        *((f"folds=null,lr={rate}", 3) for rate in (0.0001, 0.01)),
        *((f"folds=2,lr={rate}", 2) for rate in (0.0001, 0.01)),
    }
    means = [it["mean"] for it in result["variants"]]
    assert means == sorted(means)
    of_seeds = {f"folds=null,lr={float(rate)}": it for rate, it in objectives(project).items()}
    for it in result["variants"]:
        if it["variant"] in of_seeds:
            assert it["mean"] == pytest.approx(of_seeds[it["variant"]].mean())
    assert len(result["runs"]) == 10
    show(browser, project.path / "runs/report.html")
    rows = browser.find_elements(By.CSS_SELECTOR, "#variants tr")
    assert [row.text.split()[1] for row in rows][1:] == [it["variant"] for it in result["variants"]]
    shown = browser.find_element(By.CSS_SELECTOR, "#variants p").text
    assert shown == "; ".join(it["text"] for it in result["comparisons"])


NAMES = """
import json, sys
from my_project.engine.compose.validate import Checker
from my_project.project import PROJECT

def names(cfg, split):
    if hasattr(cfg.data, "tokenizer"):
        from my_project.texts import read_documents
        return [name for name, _ in read_documents(cfg.data, split)]
    items = PROJECT.open_items(cfg, split)
    return [items.name(i) for i in range(len(items))]

checker, found = Checker(PROJECT), []
for given in json.loads(sys.argv[1]):
    of_set = []
    for more in ([], *(["data.folds=4", f"data.fold={fold}"] for fold in range(4))):
        cfg = checker.check([*given, *more])
        of_set.append([names(cfg, split) for split in ("train", "valid", "test")])
    found.append(of_set)
print(json.dumps(found))
"""


def own_data(task: Task, folder: Path) -> list[str]:
    """Overrides for data of one's own, as mode=describe would find them."""
    if task.name == "speech":  # nothing is read of the recordings
        lines = [json.dumps({"audio": f"{i}.wav", "text": "one"}) + "\n" for i in range(150)]
        (folder / "recordings.jsonl").write_text("".join(lines))
        return [f"data.train={folder}/recordings.jsonl"]
    task.own_data.write(folder)
    return {
        "text": [f"data.train={folder}/stories.jsonl"],
        "vision": [
            f"data.train={folder}/photos",
            "data.classes=[flower,leaves,pagoda,portrait,trees]",
        ],
        "blank": [
            f"data.train={folder}/flowers.csv",
            "data.answer=species",
            'data.features=["petal width (cm)"]',
            "data.classes=[setosa,versicolor,virginica]",
        ],
    }[task.name]


def test_folds_divide_one_set(project: Project, tmp_path: Path) -> None:
    task = project.task
    given = [f"data={task.embedded}"], [f"data={task.own}", *own_data(task, tmp_path)]
    done = project.run(shlex.join(["python", "-c", NAMES, json.dumps(given)]))
    for (train, valid, test), *folds in json.loads(done.stdout):
        assert not {*train, *valid} & {*test}
        items = sorted([*train, *valid])
        assert sorted(name for of_fold in folds for name in of_fold[1]) == items
        sizes = [len(of_fold[1]) for of_fold in folds]
        assert max(sizes) - min(sizes) <= 5, "one for each class"
        for of_fold in folds:
            assert sorted([*of_fold[0], *of_fold[1]]) == items
            assert of_fold[2] == test


@pytest.mark.task("blank", "text")
def test_what_is_wrong_with_folds_is_reported(project: Project, tmp_path: Path) -> None:
    table = [f"data={project.task.own}", *own_data(project.task, tmp_path)]
    too_many, why, most = {
        "blank": ("data.folds=50", "45, since setosa has 50 items", "2200, the sum of data.items"),
        "text": ("data.folds=450", "360, since ", ""),
    }[project.task.name]
    cases = {
        "data.folds = 1: expected greater than or equal to 2": ["data.folds=1"],
        "data.fold = 3: expected 0 to 2, since data.folds is 3": ["data.folds=3", "data.fold=3"],
        "data.fold = 1: expected 0 where data.folds is null; data.folds=5": ["data.fold=1"],
        f"data.folds = 9999: expected at most {most}": ["data.folds=9999"],
        "data.folds = 3: expected null where data.valid is no fraction": [
            *table,
            "data.folds=3",
            "data.valid=other.csv",
        ],
        f"{too_many.replace('=', ' = ')}: expected at most {why}": [*table, too_many],
    }
    for expected, outcome in zip(cases, prepared(project, [*cases.values()]), strict=True):
        assert outcome.startswith("refused ")
        assert expected in outcome
