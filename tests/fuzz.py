"""Random command lines, config files and run files: each is accepted, or refused in a few lines.

python -m tests.fuzz 2000 tries that many cases with a new seed, in a project rendered for it;
python -m tests.fuzz 1 SEED CASE repeats one. All cases share one process (`worker`), which calls
what train.py calls up to the point where a run would begin.
"""

import contextlib
import faulthandler
import importlib
import io
import json
import logging
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 60  # for one case; the slowest take about two
MOST_LINES = 13
LONGEST_LINE = 500
SMALL = ["model=dryrun", "training=dryrun"]
RUN = Path("runs/dry")
FORBIDDEN = re.compile(r"os\.(system|exec|posix_spawn|spawn|fork|startfile)|pty\.spawn")

NUMBERS = """
    0 1 -1 2 7 1.5 -0.0 1e-4 1e400 nan inf -inf 1_000 0x1F 00 1e5 99999999999999999999
"""
WORDS = """
    true false null on off None ??? a ä 日本 🚀 a-b a/b a.b a:b % @ ~ ~/x ../x /proc/none
    train check base tiny auto cosine loss dry runs runs/dry
"""
HARD = [
    *("x" * 5000, "[" * 3000, "[" * 60 + "]" * 60, "9" * 5000, "${a" * 500, "", "=", "\t", "a\nb"),
    *("\u2028", "\u202e", "a\x1b[31mb", "(", ")", "{", "}", "]", "#x"),
]
QUOTED = [
    *("''", '""', "'a b'", '"a=b"', r"'it\'s'", r'"\\"', r'"\\\""', "'a", '"', "'a,b'", '"1"'),
    *("'~/x'", '"ü (1).wav"', "'\n'", '"\x01"', "'${nix}'", "'...'", '"\udcff"'),
]
INTERPOLATIONS = [
    *("${training.run.seed}", "${nix}", "${nix.a}", "${.a}", "${..a}", "${", "${}", "a${name}b"),
    *("${oc.env:HOME}", "${oc.env:NOT_SET}", "${oc.env:NOT_SET,1}", "${oc.decode:'[1'}"),
    *("${oc.select:nix,2}", "${oc.create:{a:1}}", "${oc.dict.keys:model}", "${hydra:runtime.cwd}"),
    *("${now:%Y}", "${nix:1}", "${output_dir:1}", "${job_name:a}", "${oc.deprecated:name}"),
    *("${training}", "${training.run}", "${oc.env:${name}}", "${training.iter_num}"),
]
SWEEPS = [
    *("1,2", "a,b", "1e-4,3e-4,1e400", ",", "1,", "[1,2],[3]", "{a:1},{a:2}", "'a,b',c"),
    *("choice(1,2)", "choice(a)", "choice()", "range(1,4)", "range(4,1)", "range(0,1,0.3)"),
    *("range(3)", "range(0,1,0)", "range(0,3,-1)", "interval(0,1)", "interval(1,0)"),
    *("interval(a,b)", "glob(*)", "glob([d*,t*],exclude=dryrun)", "glob(nix*)", "sort(3,1,2)"),
    *("sort(3,1,reverse=true)", "shuffle(1,2,3)", "shuffle(range(1,4))", "sort(range(1,4))"),
    *("tag(log,interval(1e-5,1e-2))", "tag(a,b,choice(1,2))", "tag(1,2)", "sort(a,1)"),
    *("extend_list(1,2)", "extend_list()", "range(0,1e9)", "range(0,3,1e-9)"),
]
CASTS = ["int", "float", "str", "bool", "json_str", "nix", "sort", "choice", "glob", "extend_list"]
MADE_UP = [
    *("nix", "training.nix", "training.optim.betas.0", "training.optim.betas.9", "model.nix.a"),
    *(
        "training.run",
        "model",
        "training.optim.lr.a",
        "training.",
        ".training",
        "a..b",
        "training.",
    ),
    *("training[run]", "training/run", "model@training", "model@nix", "model@:nix", "model@a:b"),
    *(
        "model@_global_",
        "model@_group_",
        "nix@model",
        "training/nix",
        "hydra",
        "defaults",
        "_self_",
    ),
    *("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name", "hydra.mode"),
    *("hydra.output_subdir", "hydra.job.chdir", "hydra.verbose", "hydra.launcher.n_jobs"),
    *("hydra.sweeper.params", "hydra.sweeper.params.training.lr", "hydra.callbacks", "hydra.nix"),
    *("hydra.job_logging.handlers.x", "hydra.searchpath", "hydra.job.env_set.A", "hydra.sweeper"),
    *("hydra/launcher", "hydra/sweeper", "hydra/job_logging", "hydra/hydra_logging", "hydra/nix"),
    *("hydra/output", "hydra/help", "hydra/env", "ü", "a b", "1", "_target_", "model._target_", ""),
    *("training.optim.lr,training.run.seed", "training.*", "x" * 300, "a." * 200 + "b", "mode.a"),
    *("hf_token", "tracker.api_key", "sweep.sampler", "sweep.n_trials", "input", "key", "format"),
]
FLAGS = [
    *("--help", "-h", "--hydra-help", "--version", "--info", "--info all", "--info nix", "-i"),
    *("--info config", "--info defaults", "--info defaults-tree", "--info searchpath"),
    *("--info plugins", "--resolve", "--cfg", "-c job", "-c all", "-c hydra", "-c nix", "--", "-"),
    *("--package training", "-p nix", "-p _global_", "--multirun", "-m", "--config-name nix"),
    *("--config-path /", "-cd nix", "--experimental-rerun nix", "-sc query=bash", "--run"),
    *("--nix", "-x", "--cfg=job", "--multirun=1", "--help=1", "-mm", "---"),
]


@dataclass
class Case:
    """A command line and, perhaps, a file that is not what it was."""

    arguments: list[str]
    file: Path | None = None
    damage: str = ""
    content: bytes | None = None
    failures: list[str] = field(default_factory=list)
    status: object = None
    printed: str = ""
    error: str = ""

    def __str__(self) -> str:
        changed = f" with {self.file} {self.damage}" if self.file else ""
        text = f"{shlex.join(self.arguments)}{changed}"
        return text if len(text) < 400 else f"{text[:400]}…"


class Cases:
    """Draws cases for the project in the current folder."""

    def __init__(self, package: str) -> None:
        engine = f"{package}.engine"
        self.seal: Any = importlib.import_module(f"{engine}.checkpoints.files")._seal
        compose: Any = importlib.import_module(f"{engine}.compose.compose")
        omegaconf: Any = importlib.import_module("omegaconf")
        cfg = omegaconf.OmegaConf.to_container(compose.compose(Path("conf").absolute(), []))
        leaves: Any = importlib.import_module(f"{engine}.overrides").leaves
        self.keys = [key for key, _ in leaves(cfg)]
        self.sections = sorted({key.rpartition(".")[0] for key in self.keys} - {""})
        self.groups = sorted(p.name for p in Path("conf").iterdir() if p.is_dir())
        self.options = {
            g: sorted(f.stem for f in Path("conf", g).glob("*.yaml")) for g in self.groups
        }
        self.conf_files = sorted(Path("conf").rglob("*.yaml"))
        self.run_files = sorted(path for path in RUN.rglob("*") if path.is_file())

    def draw(self, chance: random.Random) -> Case:
        draw: Callable[[random.Random], Case] = chance.choice(
            [
                *([self.command] * 8),
                *([self.flags] * 2),
                *([self.wrong_type] * 2),
                *([self.broken_conf] * 3),
                *([self.broken_run] * 5),
            ]
        )
        return draw(chance)

    def command(self, chance: random.Random) -> Case:
        overrides = [self.override(chance) for _ in range(chance.choice([1, 1, 1, 2, 2, 3]))]
        return Case([*self.mode(chance), *overrides])

    def mode(self, chance: random.Random) -> list[str]:
        key = chance.choice([*self.keys, *self.sections, "nix", "training.lr"])
        return chance.choice(
            [
                *([[*SMALL, "mode=check"]] * 4),
                *([[*SMALL, "name=new"]] * 3),
                ["mode=explain"],
                ["mode=explain", f"key={key}"],
                ["mode=explain", f"key={key}", "format=json"],
                *([["--cfg", shown] for shown in ("job", "all", "hydra")]),
                ["--cfg", "job", "--resolve"],
                ["--cfg", "job", "--package", key],
                ["--info"],
                *([[*SMALL, "--multirun", "mode=check"]] * 3),
                [*SMALL, "--multirun", "name=new"],
                [*SMALL, "--multirun", "name=new", "sweep=optuna"],
                ["mode=evaluate", f"checkpoint={RUN}"],
                ["mode=recognize", f"checkpoint={RUN}", "input=conf"],
                ["mode=report"],
                [],
            ]
        )

    def override(self, chance: random.Random) -> str:
        prefix = chance.choice([*[""] * 6, "+", "++", "~", "+++", "~~", "-", "!"])
        if chance.random() < 0.25:
            group = chance.choice(self.groups)
            options = [*self.options[group], *self.options[chance.choice(self.groups)], "nix"]
            package = chance.choice([*[""] * 6, "@", "@training", "@nix.a", "@_global_", "@:a"])
            value = chance.choice([*options, f"[{','.join(options[:2])}]", ",".join(options[:3])])
            value = value if chance.random() < 0.8 else self.value(chance)
            return f"{prefix}{group}{package}={value}"
        key = chance.choice([*self.keys, *self.sections] if chance.random() < 0.7 else MADE_UP)
        if prefix == "~" and chance.random() < 0.5:
            return f"~{key}"
        equals = chance.choice([*["="] * 12, "", "==", " = ", ":"])
        return f"{prefix}{key}{equals}{self.value(chance)}"

    def value(self, chance: random.Random, depth: int = 0) -> str:
        def inner() -> str:
            return self.value(chance, depth + 1)

        def several() -> str:
            return ",".join(inner() for _ in range(chance.randrange(4)))

        kind = chance.randrange(8 if depth > 3 else 16)
        if kind == 0 and depth == 0:
            return chance.choice(HARD)
        if kind < 3:
            return chance.choice(NUMBERS.split())
        if kind < 5:
            return chance.choice(WORDS.split())
        if kind < 6:
            return chance.choice(QUOTED)
        if kind < 8:
            return chance.choice(INTERPOLATIONS)
        if kind < 10:
            return f"[{several()}]"
        if kind < 12:
            keys = [chance.choice(["a", "1", "lr", "_target_", "'b c'", "", "kind", "null"])]
            return "{" + ",".join(f"{key}:{inner()}" for key in keys * chance.randrange(3)) + "}"
        if kind < 13:
            return f"{chance.choice(CASTS)}({several()})"
        return chance.choice(SWEEPS)

    def flags(self, chance: random.Random) -> Case:
        given = [flag.split() for flag in chance.sample(FLAGS, chance.choice([1, 1, 2]))]
        overrides = [self.override(chance)] if chance.random() < 0.4 else []
        parts = [*given, overrides]
        chance.shuffle(parts)
        return Case([argument for part in parts for argument in part])

    def wrong_type(self, chance: random.Random) -> Case:
        key = chance.choice([*self.keys, *self.sections])
        wrong = ["x", "-1", "[1]", "[]", "{a:1}", "{}", "null", "true", "1.5", "''", "1e400", "???"]
        return Case(["mode=check", *SMALL, f"{key}={chance.choice(wrong)}"])

    def broken_conf(self, chance: random.Random) -> Case:
        file = chance.choice(self.conf_files)
        group = file.parent.relative_to("conf").as_posix()
        chosen = [] if group == "." else [f"{group}={file.stem}"]
        commands = [["mode=check"], ["mode=check"], ["mode=explain"], ["--cfg", "job"], ["--help"]]
        commands += [["name=new"], ["--cfg", "all"], ["--multirun", "mode=check", "name=a,b"]]
        case = Case([*chance.choice(commands), *chosen], file)
        return self.damage(case, chance)

    def broken_run(self, chance: random.Random) -> Case:
        checkpoint = chance.choice([RUN, RUN, RUN / "checkpoints", *RUN.glob("checkpoints/*")])
        commands = [
            ["mode=evaluate", f"checkpoint={checkpoint}"],
            ["mode=recognize", f"checkpoint={checkpoint}", "input=conf"],
            ["mode=check", *SMALL, f"checkpoint={checkpoint}"],
            ["mode=check", *SMALL, "name=dry"],
            ["mode=explain", f"checkpoint={checkpoint}"],
            ["mode=report"],
            ["mode=report", f"input={RUN}"],
            [*SMALL, "name=dry"],
            [*SMALL, "name=dry", "resume=force"],
            [*SMALL, "name=dry", "training.iter_num=8"],
            [*SMALL, "name=new", f"init={checkpoint}"],
            [*SMALL, "--multirun", "name=dry", "training.seed=1,2"],
        ]
        case = Case(chance.choice(commands), chance.choice(self.run_files))
        return self.damage(case, chance)

    def damage(self, case: Case, chance: random.Random) -> Case:
        """Choose what becomes of the case's file."""
        assert case.file
        content = case.file.read_bytes()
        half = chance.randrange(len(content) + 1)
        noise = chance.randbytes(chance.randrange(1, 9))
        line = b"\n".join(content.splitlines()[: chance.randrange(9)])
        contents = {
            "cut short": content[:half],
            "empty": b"",
            "of noise": chance.randbytes(200),
            "with noise in it": content[:half] + noise + content[half:],
            "with a zero byte": content[:half] + b"\x00" + content[half:],
            "nested deeply": chance.choice([b"[", b'{"a":', b"- ", b"{a: "]) * 200_000,
            "of one long line": b"a" * 1_000_000,
            "of many lines": b"a: 1\n" * 50_000,
            "of a bomb": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
            + b"".join(b"%c: &%c [%s]\n" % (c, c, (b"*%c," % (c - 1)) * 9) for c in b"bcdefghi"),
            "a number": b"5\n",
            "a text": b"text\n",
            "null": b"null\n",
            "a list": b"[1, {a: 2}]\n",
            "an odd list": b"- ''\n- =\n- 5\n- model=nix\n- '~model'\n- a: 1\n",
            "odd defaults": b"defaults: "
            + chance.choice([b"5", b"[null]", b"[5]", b"{a: b}", b"[{a: b, c: d}]", b"[nix: 1]"])
            + b"\n",
            "other defaults": b"defaults: ["
            + chance.choice(
                [b"override /nix: a", b"/model: tiny", b"_self_, _self_", b"../x", b"a@b: c"]
            )
            + b"]\n",
            "in conflict": line + b"\n<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> other\n",
            "with a BOM": b"\xef\xbb\xbf" + content,
            "in UTF-16": content.decode("utf-8", "replace").encode("utf-16"),
            "with CRLF": content.replace(b"\n", b"\r\n"),
            "with tabs": content.replace(b"  ", b"\t"),
            "with an odd package": b"# @package "
            + chance.choice([b"nix.a", b"..", b""])
            + b"\n"
            + content,
            "tagged": b"a: !!python/object/apply:os.system [touch PWNED]\n",
            "dated": content + b"\nnix: 2020-01-01\n? [a]\n: b\n",
        }
        if case.file.is_relative_to("conf"):
            del contents["of a bomb"]  # its author would harm nobody else
        case.damage = chance.choice([*contents, *["with another value"] * 12, *REPLACED])
        case.content = contents.get(case.damage)
        if case.damage == "with another value":
            case.content = self.with_another_value(case.file, content, chance)
        return case

    def with_another_value(self, file: Path, content: bytes, chance: random.Random) -> bytes:
        """Sound in form; one value is of another type, and what seals the file is renewed."""
        yaml: Any = importlib.import_module("yaml")
        if file.suffix == ".jsonl":
            lines = content.decode().splitlines()
            at = chance.randrange(len(lines))
            lines[at] = json.dumps(_changed(json.loads(lines[at]), chance)).replace("9e99", "1e400")
            return "\n".join(lines).encode()
        if file.suffix == ".json":
            about = _changed(json.loads(content), chance)
            is_manifest = file.name == "checkpoint.json" and isinstance(about, dict)
            text = str(self.seal(about)) if is_manifest else json.dumps(about)
            return text.encode("utf-8", "surrogatepass")
        if file.suffix == ".yaml":
            header = b"".join(re.findall(rb"(?m)^# @package.*\n", content))
            text = str(yaml.safe_dump(_changed(yaml.safe_load(content), chance)))
            return header + text.encode()
        return content[::-1]


REPLACED = [
    "replaced by a folder",
    "replaced by a broken link",
    "linked to itself",
    "unreadable",
    "gone",
]


def _changed(node: Any, chance: random.Random) -> Any:
    """The same, but for one value somewhere in it."""
    odd: list[Any] = [None, -1, 9e99, "", "x", "../../x", "/proc/none", [], {}, [1], {"a": 1}, True]
    odd += ["x" * 5000, 10**400, "${nix}", "???", "\x00", "1e400", [[]], {"a": {"b": None}}]
    if isinstance(node, dict) and node and chance.random() < 0.9:
        key = chance.choice(list(node))
        if chance.random() < 0.15:
            return {k: v for k, v in node.items() if k != key}
        return {**node, key: _changed(node[key], chance)}
    if isinstance(node, list) and node and chance.random() < 0.6:
        at = chance.randrange(len(node))
        return [*node[:at], _changed(node[at], chance), *node[at + 1 :]]
    return chance.choice(odd)


class Worker:
    """Runs cases in this process, in a project of its own."""

    def __init__(self, package: str) -> None:
        sys.path.insert(0, "")
        hydra: Any = importlib.import_module("hydra")
        engine = f"{package}.engine"
        self.cli: Any = importlib.import_module(f"{engine}.cli")
        self.errors: Any = importlib.import_module(f"{engine}.errors")
        self.lock: Any = importlib.import_module(f"{engine}.run_dir.lock")
        self.project: Any = importlib.import_module(f"{package}.project").PROJECT
        compose: Any = importlib.import_module(f"{engine}.compose.compose")
        self.main: Any = hydra.main(str(Path("conf").absolute()), "config", **compose.HYDRA_MAIN)
        self.global_hydra: Any = importlib.import_module("hydra.core.global_hydra").GlobalHydra
        self.conf = Path("conf").absolute()
        importlib.import_module("torch")
        self.cases = Cases(package)
        self.environment = {k: v for k, v in os.environ.items() if k != "RUN_NAME"}
        self.here = Path.cwd()
        self.before = {path: path.read_bytes() for path in _files()}
        self.shipped = {path.name for path in self.here.iterdir()}
        self.elsewhere = [Path(tempfile.gettempdir()), Path("/dev"), Path("/proc/none")]
        self.case = Case([])
        self.watching = False
        sys.addaudithook(self.audit)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note what a case must not do: start a program, or write outside runs/."""
        if not self.watching:
            return
        if event == "subprocess.Popen" and Path(str(arguments[0])).name != "git":
            self.case.failures.append(f"started {arguments[:2]}")
        elif FORBIDDEN.match(event):
            self.case.failures.append(f"called {event} {arguments[:2]}")
        is_write = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if is_write or event in ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink"):
            relative_to_a_folder = event != "open" and arguments[-1] != -1
            if not isinstance(arguments[0], int) and not relative_to_a_folder:
                self.check_place(event, Path(os.fsdecode(arguments[0])).resolve())

    def check_place(self, event: str, path: Path) -> None:
        moved = any("runs_dir" in argument for argument in self.case.arguments)
        if path.is_relative_to(self.here):
            top = path.relative_to(self.here).parts[:1]
            allowed = top == ("runs",) or (moved and top[0] not in self.shipped)
        else:
            allowed = any(path.is_relative_to(place) for place in self.elsewhere)
            allowed &= not path.is_relative_to(self.here.parent)
        if not allowed and "__pycache__" not in path.parts:
            self.case.failures.append(f"{event} of {path}")

    def run(self, case: Case) -> None:
        """Note in the case what is wrong with how it ends."""
        self.case = case
        self.prepare_file(case)
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        self.watching = True
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                case.status = self.start(case.arguments)
        except BaseException as error:
            case.failures.append(_summary(error))
        finally:
            self.watching = False
            faulthandler.cancel_dump_traceback_later()
        case.printed, case.error = _text(out), _text(err)
        lines = case.error.splitlines()
        if case.status not in (None, 0, 2):
            case.failures.append(f"status {case.status}: {' / '.join(lines[-3:])[:300]}")
        if case.status == 2:
            problems = re.split(r"\n(?=  (?! ))", case.error)
            longest = max(problems, key=lambda problem: problem.count("\n"))
            if longest.count("\n") > MOST_LINES:
                case.failures.append(f"{longest.count(chr(10))} lines: {longest[:200]}")
            elif any(len(line) > LONGEST_LINE for line in lines):
                case.failures.append(f"a line of {max(map(len, lines))} characters")
            elif not lines:
                case.failures.append("no word of what is wrong")
        self.restore()

    def start(self, arguments: list[str]) -> object:
        """What train.py does, with a job that does nothing; the exit status."""
        import torch

        torch.manual_seed(0)
        sys.argv = ["train.py", *arguments]
        try:
            with self.errors.exit_on_user_error():
                sys.argv[1:] = self.cli.prepare(sys.argv[1:], self.conf, lambda: self.project)
                if not any(re.fullmatch(r"--multirun|-\w*m\w*", arg) for arg in sys.argv):
                    self.main(_nothing)()
        except SystemExit as left:
            return left.code
        return 0

    def prepare_file(self, case: Case) -> None:
        if not case.file:
            return
        if case.damage in REPLACED and case.damage != "unreadable":
            case.file.unlink()
        case.file.parent.mkdir(parents=True, exist_ok=True)
        if case.damage == "replaced by a folder":
            case.file.mkdir()
        elif case.damage == "replaced by a broken link":
            case.file.symlink_to("nowhere")
        elif case.damage == "linked to itself":
            case.file.symlink_to(case.file.name)
        elif case.damage == "unreadable":
            case.file.chmod(0)
        elif case.content is not None:
            case.file.write_bytes(case.content)

    def restore(self) -> None:
        """Files, environment, logging and Hydra as they were before the case."""
        os.chdir(self.here)
        os.environ.clear()
        os.environ.update(self.environment)
        for path in list(self.lock._locks):
            self.lock._locks.pop(path).close()
        for handler in list(logging.getLogger().handlers):
            logging.getLogger().removeHandler(handler)
            handler.close()
        self.global_hydra.instance().clear()
        file = self.case.file
        if file and file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        elif file and (file.is_symlink() or file.exists()):
            file.unlink()
        for path in _files():
            if path not in self.before:
                path.unlink()
        for path, content in self.before.items():
            if not path.is_file() or path.stat().st_size != len(content) or path == file:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        for folder in sorted(Path().rglob("*/"), reverse=True):
            if not folder.is_symlink() and folder.parts[0] != ".git" and not any(folder.iterdir()):
                folder.rmdir()


def _nothing(_: Any) -> None:
    """The job of a case that is accepted."""


def _files() -> list[Path]:
    skipped = (".git", "__pycache__")
    return [
        path
        for path in Path().rglob("*")
        if (path.is_symlink() or path.is_file()) and not set(skipped) & set(path.parts)
    ]


def _text(captured: io.TextIOWrapper) -> str:
    with contextlib.suppress(UnicodeEncodeError):
        captured.flush()
    buffer: Any = captured.buffer
    return str(buffer.getvalue().decode("utf-8", "replace"))


def _summary(error: BaseException) -> str:
    """The exception and the innermost lines of the engine that it came through."""
    frames = []
    trace = error.__traceback__
    while trace:
        code = trace.tb_frame.f_code
        if "/engine/" in code.co_filename:
            frames.append(f"{Path(code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    message = str(error).splitlines()[0][:160] if str(error) else ""
    return f"{type(error).__name__} in {' '.join(frames[-2:])}: {message}"


def worker(package: str, seed: str, first: int, count: int) -> None:
    """Run the cases; print one JSON line for each before it, and for each failure."""
    answers = os.fdopen(os.dup(1), "w")
    running = Worker(package)
    for number in range(first, first + count):
        case = running.cases.draw(random.Random(f"{seed}:{number}"))
        print(json.dumps({"case": number, "what": str(case)}), file=answers, flush=True)
        began = time.monotonic()
        running.run(case)
        took = time.monotonic() - began
        print(json.dumps({"failures": case.failures, "took": took}), file=answers, flush=True)


def given(package: str) -> None:
    """Run the cases that standard input describes, a JSON line each; print how they end."""
    answers = os.fdopen(os.dup(1), "w")
    running = Worker(package)
    for line in sys.stdin:
        arguments, file, damage, content = json.loads(line)
        case = Case(arguments, Path(file) if file else None, damage)
        case.content = content.encode("utf-8", "surrogateescape")
        running.run(case)
        ended = [case.status, case.printed, case.error, case.failures]
        print(json.dumps(ended), file=answers, flush=True)


def outcomes(
    project: Path, python: str, cases: list[tuple[str, str, str, str]]
) -> list[tuple[int, str, str, list[str]]]:
    """Status, output, errors and failures of cases: arguments, a file, its damage or its text."""
    package = next(project.glob("*/project.py")).parent.name
    lines = [json.dumps([shlex.split(arguments), *rest]) for arguments, *rest in cases]
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(project, Path(folder, "project"), symlinks=True)
        done = subprocess.run(
            [python, __file__, "given", package],
            cwd=copy,
            input="\n".join(lines),
            capture_output=True,
            text=True,
        )
    answers = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(answers) == len(cases), done.stderr
    return answers


def fuzz(project: Path, python: str, seed: str, count: int, first: int = 0) -> Iterator[str]:
    """Run cases in a project that has a finished run named dry; yield what fails."""
    package = next(project.glob("*/project.py")).parent.name
    end = first + count
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "project")
        shutil.copytree(project, copy, symlinks=True)
        while first < end:
            arguments = [__file__, "worker", package, seed, str(first), str(end - first)]
            done = subprocess.run([python, *arguments], cwd=copy, capture_output=True, text=True)
            case: dict[str, Any] = {}
            for answer in map(json.loads, done.stdout.splitlines()):
                case |= answer
                if "failures" in answer:
                    first = case["case"] + 1
                    for failure in case.pop("failures"):
                        yield f"{failure}\n    {case['what']}\n    {_again(seed, case['case'])}"
            if first < end:  # the worker itself has ended
                assert first == case.get("case"), done.stderr
                last = done.stderr.strip().splitlines()[-1:]
                again = _again(seed, first)
                yield f"ends with {done.returncode} {last}\n    {case['what']}\n    {again}"
                first += 1
                shutil.rmtree(copy)
                shutil.copytree(project, copy, symlinks=True)


def _again(seed: str, number: int) -> str:
    return f"python -m tests.fuzz 1 {seed} {number}"


def main() -> int:
    import copier

    from .commands import FULL, NAMED

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    seed = sys.argv[2] if len(sys.argv) > 2 else str(int(time.time()))
    first = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    print(f"seed {seed}", flush=True)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder, "project")
        root = str(Path(__file__).parent.parent)
        copier.run_copy(root, project, NAMED | FULL, vcs_ref="HEAD", defaults=True, quiet=True)
        train = [sys.executable, "train.py", *SMALL, "name=dry"]
        subprocess.run(train, cwd=project, check=True, capture_output=True)
        for failure in fuzz(project, sys.executable, seed, count, first):
            failed += 1
            print(failure, flush=True)
    print(f"{failed} failures in {count} cases")
    return int(failed > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    elif sys.argv[1:2] == ["given"]:
        given(sys.argv[2])
    else:
        sys.exit(main())
