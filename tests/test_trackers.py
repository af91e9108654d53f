"""Trackers, asked as a user's browser asks them: real servers, real files, nothing else."""

import http.client
import importlib
import json
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .commands import FULL, Project, Render, launch, signal_group

SMALL = "python train.py model=dryrun training=dryrun"
LONGER = f"{SMALL} training.iter_num=150 training.run.log_every=5 training.run.eval_every=150"
WILD = f"{SMALL} training.lr=1e30 training.optim.grad_clip=null training.warmup_steps=0"
# no word to anybody outside; MLflow's server needs none of its seven workers for jobs
SILENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "WANDB_ERROR_REPORTING": "false",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(autouse=True, scope="module")
def silent() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SILENT.items():
            patch.setenv(name, value)
        for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def project(render: Render) -> Project:
    """A project of these tests' own: names of runs that others use would be in the way."""
    return Project(render(**FULL, description="Tracked"))


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """What the condition says, once it says something."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.05)
    return found


class Server:
    """A web server of a tracker on this machine, asked for JSON."""

    def __init__(self, folder: Path, ready: str, *command: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.ready = ready
        self.command = [sys.executable, "-m", *command, "--host=127.0.0.1", f"--port={self.port}"]
        self.start()

    def start(self) -> None:
        with (self.folder / "server.log").open("a") as said:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdout=said, stderr=said, start_new_session=True
            )
        until(self.answers)

    def stop(self) -> None:
        """As a machine that fails, with all its processes."""
        signal_group(self.process)
        self.process.wait()

    def answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "server.log").read_text()
        try:
            self.get(self.ready)
        except (OSError, http.client.HTTPException):
            return False
        return True

    def get(self, where: str, **asked: str) -> bytes:
        query = urllib.parse.urlencode(asked)
        with urllib.request.urlopen(f"{self.url}{where}?{query}", timeout=20) as answer:
            return bytes(answer.read())

    def ask(self, where: str, **asked: str) -> Any:
        return json.loads(self.get(where, **asked))

    def post(self, where: str, **asked: Any) -> Any:
        request = urllib.request.Request(self.url + where, json.dumps(asked).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())


class MLflowServer(Server):
    """A `mlflow server` on SQLite."""

    def __init__(self, folder: Path) -> None:
        store = ("--backend-store-uri=sqlite:///store.db", "--artifacts-destination=./artifacts")
        super().__init__(folder, "/health", "mlflow", "server", "--workers=1", *store)

    @property
    def tracker(self) -> str:
        return f"tracker=mlflow tracker.uri={self.url}"

    def runs(self, wanted: str = "") -> list[dict[str, Any]]:
        (one,) = self.post("/api/2.0/mlflow/experiments/search", max_results=9, filter=NAMED)[
            "experiments"
        ]
        found = self.post(
            "/api/2.0/mlflow/runs/search", experiment_ids=[one["experiment_id"]], filter=wanted
        )
        return list(found.get("runs", []))

    def run(self, name: str) -> dict[str, Any]:
        (run,) = [run for run in self.runs() if run["info"]["run_name"] == name]
        return run

    def status(self, name: str) -> str:
        return str(self.run(name)["info"]["status"])

    def history(self, name: str, metric: str) -> list[tuple[int, float]]:
        run = self.run(name)["info"]["run_id"]
        found = self.ask(
            "/api/2.0/mlflow/metrics/get-history", run_id=run, metric_key=metric, max_results="9999"
        )
        return [(row["step"], float(row["value"])) for row in found["metrics"]]


NAMED = "name = 'my_project'"
MACHINE = {"iterations_per_second", "items_per_second", "data_wait", "memory_gb"}


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    server = MLflowServer(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.stop()


def begin(project: Project, command: str) -> "subprocess.Popen[str]":
    return launch(project, command.removeprefix("python train.py "))


def end(process: "subprocess.Popen[str]", status: int) -> str:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == status, said
    assert "Traceback" not in said, said
    return said


def stop_after(project: Project, command: str, folder: str, lines: int = 3) -> str:
    """SIGTERM to a run that has logged a little, as a cluster or a shell sends it."""
    process = begin(project, command)
    until(lambda: len(logged(project, folder)) >= lines or process.poll() is not None)
    process.terminate()
    return end(process, 143)


def logged(project: Project, folder: str, split: str = "train") -> list[dict[str, Any]]:
    """The run's own metrics.jsonl."""
    file = project.path / folder / "metrics.jsonl"
    text = file.read_text() if file.exists() else ""
    rows = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [row for row in rows if row["split"] == split]


def test_mlflow_has_everything_of_a_run(project: Project, mlflow: MLflowServer) -> None:
    name = """it's <script>"1" [a|b]"""
    quoted = shlex.quote('name="' + name.replace('"', '\\"') + '"')
    project.run(f"{SMALL} {mlflow.tracker} {quoted}")
    folder, run = project.path / "runs" / name, mlflow.run(name)
    assert run["info"]["status"] == "FINISHED"
    params = {param["key"]: param["value"] for param in run["data"]["params"]}
    assert params["training.optim.lr"] == "0.0001"
    assert {key.partition(".")[0] for key in params} == {"model", "training", "data"}
    assert params["model.encoder.layers"] == str(config_of(folder)["model"]["encoder"]["layers"])
    for split in ("train", "valid"):
        rows = logged(project, f"runs/{name}", split)
        assert rows
        for key in rows[0].keys() - {"step", "split"}:
            metric = f"system/{key}" if key in MACHINE else f"{split}/{key}"
            steps, values = zip(*mlflow.history(name, metric), strict=True)
            assert list(steps) == [row["step"] for row in rows]
            assert list(values) == pytest.approx([row[key] for row in rows]), key
    assert {"lr", "loss"} <= rows_keys(project, f"runs/{name}")
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert "train.py" in tags["mlflow.source.name"]
    commit = json.loads((folder / "record.json").read_text())["git"].get("commit")
    assert tags.get("mlflow.source.git.commit") == commit
    assert "sweep" not in tags
    best = min(row["cer"] for row in logged(project, f"runs/{name}", "valid"))
    assert mlflow.history(name, "best/cer")[-1][1] == pytest.approx(best)
    assert (project.path / tags["best_checkpoint"] / "weights.safetensors").is_file()
    for file in ("config.yaml", "record.json", "curves.png"):
        kept = mlflow.get("/get-artifact", run_uuid=run["info"]["run_id"], path=file)
        if file != "record.json":
            assert kept == (folder / file).read_bytes()
        else:
            assert json.loads(kept)["state"] == "running", "as it was at the start"


def config_of(folder: Path) -> Any:
    return yaml.safe_load((folder / "config.yaml").read_text())


def rows_keys(project: Project, folder: str) -> set[str]:
    return set(logged(project, folder)[0])


def test_jobs_of_a_sweep_are_runs_of_their_own_in_mlflow(
    project: Project, mlflow: MLflowServer
) -> None:
    sweep = f"--multirun training.lr=1e-3,1e-4 {mlflow.tracker} name=swept"
    project.run(f"{SMALL} {sweep}")
    jobs = mlflow.runs("tags.sweep = 'swept'")
    assert {job["info"]["run_name"] for job in jobs} == {"swept/lr=0.001", "swept/lr=0.0001"}
    for job in jobs:
        params = {param["key"]: param["value"] for param in job["data"]["params"]}
        lr = job["info"]["run_name"].partition("=")[2]
        assert params["training.optim.lr"] == lr
        assert job["info"]["status"] == "FINISHED"
        steps = [step for step, _ in mlflow.history(job["info"]["run_name"], "train/loss")]
        assert steps == [1, 2, 3, 4]


def test_a_stopped_run_resumes_in_the_same_mlflow_run(
    project: Project, mlflow: MLflowServer
) -> None:
    command = f"{LONGER} {mlflow.tracker} name=halted"
    stop_after(project, command, "runs/halted")
    before = mlflow.run("halted")
    assert before["info"]["status"] == "KILLED"
    project.run(command)
    after = mlflow.run("halted")
    assert after["info"]["run_id"] == before["info"]["run_id"]
    assert after["info"]["status"] == "FINISHED"
    steps = [step for step, _ in mlflow.history("halted", "train/loss")]
    assert steps == list(range(5, 151, 5)), "each once"
    # what is learned may change by force; MLflow's params may not
    project.run(f"{command} training.iter_num=155 training.lr=1e-5 resume=force")
    forced = mlflow.run("halted")
    assert forced["info"]["run_id"] == before["info"]["run_id"]
    tags = {tag["key"]: tag["value"] for tag in forced["data"]["tags"]}
    assert "training.optim.lr: then 0.0001, now 1e-05" in tags["changed"]


def test_a_failed_run_is_failed_in_mlflow(project: Project, mlflow: MLflowServer) -> None:
    """And stays so when it begins again with better values."""
    project.run(f"{WILD} {mlflow.tracker} name=wild-m", status=2)
    assert mlflow.status("wild-m") == "FAILED"
    project.run(f"{SMALL} {mlflow.tracker} name=wild-m")
    again, first = [run for run in mlflow.runs() if run["info"]["run_name"] == "wild-m"]
    assert (again["info"]["status"], first["info"]["status"]) == ("FINISHED", "FAILED")
    assert {"key": "training.optim.lr", "value": "0.0001"} in again["data"]["params"]


@pytest.mark.slow
@pytest.mark.long
def test_a_run_outlives_its_mlflow_server(project: Project, tmp_path: Path) -> None:
    server = MLflowServer(tmp_path)
    try:
        command = f"{LONGER} {server.tracker}"
        run = begin(project, f"{command} tracker.retry_seconds=0 name=returns")
        folder = project.path / "runs" / "returns"
        until(lambda: len(logged(project, "runs/returns")) >= 2 or run.poll() is not None)
        server.stop()
        until(lambda: "accepts no values" in (folder / "train.log").read_text(), 30)
        run.send_signal(signal.SIGSTOP)  # training is faster than a server starts
        server.start()
        run.send_signal(signal.SIGCONT)
        said = end(run, 0)
        assert said.count("accepts no values") == 1
        assert said.count("accepts values again") == 1
        assert server.status("returns") == "FINISHED"
        steps = [step for step, _ in server.history("returns", "train/loss")]
        assert steps == list(range(5, 151, 5))

        # one that takes requests and never answers costs the time of one, not of every value
        hasty = "tracker.timeout_seconds=1 tracker.retries=0"
        run = begin(project, f"{command} {hasty} name=serverless")
        until(lambda: len(logged(project, "runs/serverless")) >= 2 or run.poll() is not None)
        signal_group(server.process, signal.SIGSTOP)
        hangs = time.monotonic()
        said = end(run, 0)
        assert time.monotonic() - hangs < 20
    finally:
        server.stop()
    assert said.count("accepts no values") == 1
    assert "metrics.jsonl has it" in said
    assert [row["step"] for row in logged(project, "runs/serverless")] == list(range(5, 151, 5))
    record = json.loads((project.path / "runs" / "serverless" / "record.json").read_text())
    assert record["state"] == "finished"


NO_SERVER = {
    "nobody there": ("http://127.0.0.1:1", ["http://127.0.0.1:1", "refused", "mlflow server"]),
    "no such machine": ("http://nowhere.invalid", ["no server answers there", "tracker=none"]),
    "no port": ("http://127.0.0.1:x", ["expected http://HOST:PORT"]),
    "no scheme": ("localhost:5000", ["tracker.uri = localhost:5000", "expected http://HOST:PORT"]),
    "a mistyped scheme": ("htp://127.0.0.1", ["expected http://HOST:PORT"]),
    "a password": ("http://me:s3cr3t@127.0.0.1:1", ["a credential", "MLFLOW_TRACKING_TOKEN"]),
    "no folder": ("sqlite:///nowhere/a.db", ["a folder that you may write to"]),
    "not a database": ("sqlite:///train.py", ["sqlite:///train.py", "something else"]),
}


@pytest.mark.parametrize(("uri", "told"), NO_SERVER.values(), ids=NO_SERVER.keys())
def test_a_store_that_mlflow_cannot_use(project: Project, uri: str, told: list[str]) -> None:
    done = project.run(f"{SMALL} tracker=mlflow 'tracker.uri=\"{uri}\"' name=never", status=2)
    for words in ["tracker.uri", *told]:
        assert words in done.stderr
    assert "s3cr3t" not in done.stderr + done.stdout
    assert len(done.stderr.splitlines()) <= 4
    assert not (project.path / "runs" / "never").exists()


def test_mlflow_needs_no_server(project: Project, mlflow: MLflowServer, tmp_path: Path) -> None:
    """Jobs may begin together, and one that resumes with another store is a new run there."""
    local = f"tracker=mlflow tracker.uri=sqlite:///{tmp_path}/a.db"
    jobs = [begin(project, f"{SMALL} {local} name={name}") for name in ("local-m", "beside")]
    for job in jobs:
        assert "starting a new one" not in end(job, 0)
    assert (tmp_path / "a.db").stat().st_size > 0
    more = "training.iter_num=6 resume=force"
    done = project.run(f"{SMALL} {mlflow.tracker} name=local-m {more}")
    assert "starting a new one" in done.stdout
    assert [step for step, _ in mlflow.history("local-m", "train/loss")] == [5, 6]
    assert not (project.path / "mlflow.db").exists()


@pytest.mark.slow
def test_tensorboard_shows_a_run_and_how_it_ended(project: Project, tmp_path: Path) -> None:
    place = f"tracker=tensorboard runs_dir={tmp_path}/runs"
    project.run(f"{SMALL} {place} --multirun training.lr=1e-3,1e-4 name=pair")
    project.run(f"{WILD} {place} name=wild", status=2)
    stop_after(project, f"{LONGER} {place} name=paused", f"{tmp_path}/runs/paused")
    stop_after(project, f"{LONGER} {place} name=resumed", f"{tmp_path}/runs/resumed")
    project.run(f"{LONGER} {place} name=resumed resume=force training.lr=1e-5")

    server = Server(
        tmp_path,
        "/data/plugin/scalars/tags",
        "tensorboard.main",
        f"--logdir={tmp_path}/runs",
        "--load_fast=false",
    )
    try:
        runs = until(lambda: server.ask("/data/runs"))
        until(lambda: len(server.ask("/data/runs")) == 5)
        job, on = "pair/lr=0.001", "resumed"
        until(lambda: len(hyperparameters(server)) == 5)
        assert on in server.ask("/data/runs"), runs
        rows = server.ask("/data/plugin/scalars/scalars", run=job, tag="train/lr")
        expected = [row["lr"] for row in logged(project, f"{tmp_path}/runs/pair/lr=0.001")]
        assert [value for _, _, value in rows] == pytest.approx(expected)
        rows = server.ask("/data/plugin/scalars/scalars", run=on, tag="train/loss")
        assert [step for _, step, _ in rows] == list(range(5, 151, 5)), "each once"
        (drawn,) = server.ask("/data/plugin/images/images", run=job, tag="curves", sample="0")
        assert server.get(f"/data/plugin/images/individualImage?{drawn['query']}&x=").startswith(
            PNG
        )
        for tag, words in {
            "config/text_summary": "training.optim.lr",
            "record/text_summary": "reproduce",
            "state/text_summary": "finished",
            "best checkpoint/text_summary": "checkpoints/iteration-",
        }.items():
            texts = server.ask("/data/plugin/text/text", run=job, tag=tag)
            assert words in texts[-1]["text"]
        sessions = hyperparameters(server)
        assert sessions[job] == ("STATUS_SUCCESS", 0.001)
        assert sessions["pair/lr=0.0001"] == ("STATUS_SUCCESS", 0.0001)
        assert sessions["wild"][0] != "STATUS_SUCCESS"
        assert sessions[on] == ("STATUS_SUCCESS", 1e-5)
        assert sessions["paused"][0] != "STATUS_SUCCESS"
    finally:
        server.stop()


def hyperparameters(server: Server) -> dict[str, tuple[str, float]]:
    """Of each run: its status and learning rate, from TensorBoard's table."""
    statuses = [f"STATUS_{name}" for name in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    found = server.post(
        "/data/plugin/hparams/session_groups",
        experimentName="",
        allowedStatuses=statuses,
        colParams=[],
        startIndex=0,
        sliceSize=99,
    )
    return {
        group["sessions"][0]["name"]: (
            group["sessions"][0].get("status", "STATUS_UNKNOWN"),
            group["hparams"]["training.optim.lr"],
        )
        for group in found["sessionGroups"]
    }


def wandb_starts(folder: Path) -> list[dict[str, Any]]:
    """What each start of a run has left for `wandb sync`, in W&B's own words."""
    return [
        {"history": [], **gathered(file)}
        for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    ]


def gathered(file: Path) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    protocol: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    for data in leveldb_log(file.read_bytes()):
        record = protocol.Record.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            kept.setdefault(kind, []).append(values_of(record.history.item))
        else:
            kept.setdefault(kind, getattr(record, kind))  # the first of its kind
    return kept


def leveldb_log(data: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, after W&B's own header."""
    assert data.startswith(b":W&B")
    at, record = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # too short for another header
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            yield record
            record = b""


def values_of(items: Any) -> dict[str, Any]:
    return {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in items}


BLOCK = 32768
PNG = b"\x89PNG"
WANDB = "tracker=wandb tracker.mode=offline"


def test_wandb_offline_keeps_a_sweep_together(project: Project) -> None:
    project.run(f"{SMALL} {WANDB} --multirun training.lr=1e-3,1e-4 name=weighed")
    ids = set()
    for lr in (0.001, 0.0001):
        folder = project.path / "runs" / "weighed" / f"lr={lr}"
        (start,) = wandb_starts(folder)
        run = start["run"]
        ids.add(run.run_id)
        assert run.run_group == "weighed"
        assert run.display_name == f"weighed/lr={lr}"
        config = values_of(run.config.update)
        assert config["training"]["optim"]["lr"] == lr
        assert config.keys() - {"_wandb"} == {"model", "training", "data"}
        rows = logged(project, str(folder))
        there = [row for row in start["history"] if "train/loss" in row]
        assert [row["iteration"] for row in there] == [1, 2, 3, 4]
        for key in rows[0].keys() - {"step", "split"}:
            expected, prefix = (
                [row[key] for row in rows],
                "z_machine" if key in MACHINE else "train",
            )
            assert [row[f"{prefix}/{key}"] for row in there] == pytest.approx(expected)
        bests = [row["best/cer"] for row in start["history"] if "best/cer" in row]
        assert bests[-1] == min(row["cer"] for row in logged(project, str(folder), "valid"))
        assert any("curves" in row for row in start["history"])
        (files,) = folder.glob("wandb/offline-run-*/files")
        assert (files / folder.name / "config.yaml").read_bytes() == (
            folder / "config.yaml"
        ).read_bytes()
        assert start["exit"].exit_code == 0
    assert len(ids) == 2


def test_wandb_offline_says_how_a_run_ended(project: Project) -> None:
    command = f"{LONGER} {WANDB} name=weighed-twice"
    stop_after(project, command, "runs/weighed-twice")
    project.run(command)
    first, second = wandb_starts(project.path / "runs" / "weighed-twice")
    assert first["run"].run_id == second["run"].run_id
    assert "preempting" in first
    assert first["exit"].exit_code == 1
    assert second["exit"].exit_code == 0
    project.run(f"{WILD} {WANDB} name=wild-w", status=2)
    (failed,) = wandb_starts(project.path / "runs" / "wild-w")
    assert failed["exit"].exit_code == 1
    assert "preempting" not in failed


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "mlflow"])
def test_numbers_that_are_none(project: Project, mlflow: MLflowServer, tracker: str) -> None:
    chosen = {"tensorboard": "tracker=tensorboard", "wandb": WANDB, "mlflow": mlflow.tracker}
    skip = "training.run.on_nonfinite=skip engine.skip_at_most=99"
    done = project.run(f"{WILD} {skip} {chosen[tracker]} name=nan-{tracker}")
    assert "accepts no values" not in done.stdout + done.stderr
    assert logged(project, f"runs/nan-{tracker}")[-1]["loss"] is None


def test_a_tracker_without_its_package(project: Project, tmp_path: Path) -> None:
    hidden = (
        "import sys\nfor name in ('wandb', 'mlflow', 'tensorboard'):\n    sys.modules[name] = None"
    )
    (tmp_path / "sitecustomize.py").write_text(hidden)
    for name in ("wandb", "mlflow", "tensorboard"):
        done = project.run(f"{SMALL} tracker={name}", status=2, PYTHONPATH=str(tmp_path))
        assert f"tracker = {name}: the package {name} is missing" in done.stderr
        assert f"pip install -e '.[{name}]'" in done.stderr


def test_wandb_without_a_key(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported before training, and found wherever W&B looks."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def told(**environment: str) -> str:
        wrong = f"{SMALL} tracker=wandb training.objective.metric=bleu"  # so that it never starts
        return project.run(wrong, status=2, **environment).stderr

    for words in ("tracker = wandb: no key", "WANDB_API_KEY", "tracker.mode=offline"):
        assert words in told()
    assert "no key" not in told(WANDB_API_KEY="0" * 40)
    (tmp_path / "netrc").write_text("machine wandb.example login user password s3cr3t\n")
    assert "no key" in told()
    assert "no key" not in told(WANDB_BASE_URL="https://wandb.example")
    settings = tmp_path / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nbase_url = https://wandb.example\n")
    assert "no key" not in told()
