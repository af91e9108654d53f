"""Checks the command line before Hydra starts: aliases, grammar, config, files. No torch here."""

import atexit
import gc
import logging
import os
import random
import re
import shlex
import signal
import string
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, RangeSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf

from . import find_part, see
from .compose.aliases import Aliases
from .compose.compose import ComposeError, compose, options
from .compose.credentials import credential_problems
from .errors import WITHOUT, UserError, refuse
from .overrides import split_override
from .run_dir.code import is_copy, restart, run_copy
from .run_dir.lock import lock
from .run_dir.paths import COMMAND, JOB_DIR, OF_A_RUN, OVERRIDES, find_run, output_dir, relative

if TYPE_CHECKING:
    from .compose.validate import Checker
    from .config import Config
    from .project import Project
    from .sweeps.grid import Job

ROOM = 2**18  # bytes that are written before the run itself can report a full disk
MOST_VALUES = 10_000  # of one key in a sweep
COLUMN = 51  # the widest first column on the page of --help
EXPLAIN = re.compile(r"\+*mode=(['\"]?)explain\1")


def prepare(argv: list[str], conf: Path, load_project: Callable[[], "Project"]) -> list[str]:
    """Check a command line against conf/ and return Hydra's arguments. Raises UserError.

    Exits after --help, --cfg job and the modes check, explain and report, which Hydra never sees.
    """
    signal.signal(signal.SIGINT, _interrupt)
    gc.freeze()  # collections skip what was imported, and the one at exit skips everything
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):  # a terminal or locale without Unicode
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    _refuse_torchrun()
    letters = "".join(random.choices(string.ascii_lowercase, k=4))  # child processes inherit them
    os.environ.setdefault("RUN_NAME", f"{time.strftime('%Y%m%d-%H%M%S')}-{letters}")
    os.environ[COMMAND] = shlex.join(["python", "train.py", *argv])
    if (slurm := find_part("slurm")) and (code := slurm.first_code(conf.parent)):
        restart(code)
    # drop logs until Hydra sets up logging: errors are raised, and the run repeats the warnings
    logging.getLogger().addHandler(logging.NullHandler())
    # intermixed: Hydra itself accepts flags before or after the overrides, not between them
    parser = get_args_parser()
    parser.error = _refuse_flags  # type: ignore[method-assign]
    argv = [argument for argument in argv if argument != "--"]  # after which Hydra reads no flags
    args = parser.parse_intermixed_args(argv)
    if args.help:
        # Hydra's own page composes the config and reads every group first: three times as slow
        print(help_page(load_project()))
        raise SystemExit(0)
    refuse(_flag_problems(args))
    if args.shell_completion:
        if "COMP_LINE" not in os.environ and any("query=" in it for it in args.overrides):
            raise UserError("-sc query=…: a shell calls it; give -sc install=bash")
        return argv
    # shells do not expand the ~ of checkpoint=~/x
    given = [re.sub(r"^([\w./@+]+=[\"']?)~(?=/)", rf"\1{Path.home()}", o) for o in args.overrides]
    flags = [arg for arg in argv if arg not in args.overrides]
    refuse([*_grammar_problems(given, args.multirun), *credential_problems(given)])
    aliases = Aliases(conf)
    overrides = aliases.expand(given)
    refuse(aliases.problems)
    if args.cfg == "job" and not (overrides or args.package or args.resolve):
        # Hydra's own output, without importing the types, which would double the time
        print(OmegaConf.to_yaml(compose(conf, [])), end="", flush=True)
        raise SystemExit(0)
    from .compose.validate import Checker, quote_text

    project = load_project()
    overrides = quote_text(project, overrides)
    checker = Checker(project, dict(zip(overrides, given, strict=True)))
    if args.cfg or args.info or args.hydra_help:
        composed = checker.compose(overrides)
        if args.cfg == "job" and not (args.package or args.resolve):
            print(OmegaConf.to_yaml(composed), end="", flush=True)
            checker.validate(composed, overrides)
            raise SystemExit(0)
        return flags + overrides
    if any(map(EXPLAIN.fullmatch, overrides)):
        if args.multirun:
            raise UserError("mode=explain explains one config: leave out --multirun")
        _explain(overrides, aliases, checker)
        raise SystemExit(0)
    recorded = _recorded_overrides(project, overrides)
    overrides = recorded + overrides
    if args.multirun:
        # Hydra would read or refuse all but the last override of a key
        last = {split_override(o)[1]: o for o in overrides}
        overrides = [o for o in overrides if o.startswith("~") or last[split_override(o)[1]] is o]
        cfg = _prepare_sweep(overrides, checker)
    else:
        cfg = _prepare_run(overrides, checker)
    if cfg.format == "json":
        sys.stdout = sys.stderr  # JSON alone goes to standard output
    if not cfg.engine.is_first_node:
        # the first node writes the run's files and prints
        return [*flags, *overrides, "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    if not (args.multirun and is_copy(conf.parent)):  # the command that made the copy did
        _announce(project, cfg, recorded)
    return flags + overrides


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Ctrl-C. Of a KeyboardInterrupt OmegaConf makes other errors, which Hydra may ignore."""
    if any("omegaconf" in at.f_code.co_filename for at, _ in traceback.walk_stack(frame)):
        os.write(2, b"\ninterrupted\n")
        os._exit(130)
    raise KeyboardInterrupt


def _refuse_torchrun() -> None:
    if "TORCHELASTIC_RUN_ID" in os.environ or {"LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys():
        count = os.environ.get("LOCAL_WORLD_SIZE", "N")
        raise UserError(
            "each process of torchrun would be a run of its own; train.py starts them itself:\n"
            f"python train.py training.devices={count}{see('speed.md#several-devices')}"
        )


def _refuse_flags(message: str) -> NoReturn:
    raise UserError(f"{message}\nflags are -- and a word, as python train.py --help lists them")


def _flag_problems(args: Any) -> Iterator[str]:
    if args.config_name or args.config_path or args.config_dir or args.experimental_rerun:
        given = "--config-name, --config-path, --config-dir, --experimental-rerun"
        why = "values come from conf/ alone; what differs belongs in a file: experiment=NAME"
        yield f"{given}:\n{why}{see('config.md#where-a-key-lives')}"
    if args.resolve and not args.cfg:
        yield "--resolve is for --cfg: --cfg job --resolve"
    if sum(map(bool, (args.run, args.multirun, args.cfg, args.info, args.shell_completion))) > 1:
        yield "give one of --run, --multirun, --cfg, --info and --shell-completion"


def _grammar_problems(overrides: list[str], multirun: bool) -> Iterator[str]:
    parser = OverridesParser.create()
    for override in overrides:
        prefix, key, value = split_override(override)
        try:
            parsed: Any = parser.parse_override(override).value()
            if not re.match(r"\w", key):
                raise HydraException
            if isinstance(parsed, Glob) and not multirun:
                yield f"{override}: it selects several options; add --multirun"
            if isinstance(parsed, RangeSweep):
                span = abs(float(parsed.stop or 0) - float(parsed.start or 0))
                if span > MOST_VALUES * abs(float(parsed.step)):
                    yield f"{override}: expected a range of at most {MOST_VALUES} values"
        except Exception:  # also RecursionError, and ValueError for a number of 5,000 characters
            if not value or not re.fullmatch(r"\w[\w./@]*", key):
                yield f"{override}: expected KEY=VALUE, as in training.lr=3e-4"
            else:
                text = re.sub(r'(\\*)"', r'\1\1\\"', value[1:])
                quoted = ", as in\n" + shlex.quote(f'{prefix}{key}="{text}"')
                if value[1:2] in ("[", "{"):
                    quoted = ""  # each text in it needs its own quotes
                yield f"{override}: Hydra reads such a text only in quotes{quoted}"


def _recorded_overrides(project: "Project", overrides: list[str]) -> list[str]:
    """The overrides of groups that other modes than train take from the run's own command."""
    values = {key: value[1:] for _, key, value in map(split_override, overrides)}
    if values.get("mode", "train") == "train" or not values.get("checkpoint"):
        return []
    parsed = OverridesParser.create().parse_override(f"checkpoint={values['checkpoint']}")
    if parsed.is_sweep_override():
        raise UserError(
            f"checkpoint={values['checkpoint']}: one checkpoint at a time\n"
            "a path with a comma in it needs quotes: 'checkpoint=\"…\"'"
        )
    from .checkpoints.files import find_checkpoint
    from .checkpoints.resume import recorded_overrides

    try:
        run = find_run(find_checkpoint(Path(str(parsed.value()))))
    except UserError:
        return []  # reported with the other problems
    return recorded_overrides(project, run, overrides) if run else []


def _prepare_run(overrides: list[str], checker: "Checker") -> "Config":
    (cfg,), project = _check_all([overrides], checker), checker.project
    if of_jobs := [o for o in overrides if re.match("hydra/launcher=(?!serial$)|wait=", o)]:
        raise UserError(f"{of_jobs[0]}: it is for --multirun; add it, for a single job too")
    if cfg.mode == "report":
        if not (report := find_part("report.table")):
            raise UserError(f"mode=report: {WITHOUT.format('report')}")
        report.compare_runs(project, cfg)
        raise SystemExit(0)
    _check_files(project, [cfg], [], here=True)
    if cfg.mode == "train" and cfg.engine.requeue and JOB_DIR not in os.environ:
        run_copy(project.root, cfg, Path(cfg.runs_dir, cfg.name))
    if cfg.mode == "train" and cfg.engine.is_first_node:
        _claim_run(project, cfg)
    return cfg


def _claim_run(project: "Project", cfg: "Config") -> None:
    """Check and lock the run's directory before Hydra writes to it."""
    from .checkpoints.resume import check_resume

    run = Path(output_dir(cfg.mode, cfg.runs_dir, cfg.name, None))
    if any(run.glob(f"*/.hydra/{OVERRIDES}")):
        raise UserError(f"name = {cfg.name}: {run} holds the jobs of a sweep; give another name")
    known = (*OF_A_RUN, *project.modes)
    if run.is_dir() and any(run.iterdir()) and not any((run / it).exists() for it in known):
        raise UserError(f"name = {cfg.name}: {run} has files but no run; give another name")
    refuse(_unwritable(run, f"name = {cfg.name}"))
    for path in run.glob(".hydra/*"):
        if path.is_dir():
            raise UserError(f"name = {cfg.name}: {path} is a folder, expected a file; remove it")
    lock(run, cfg.engine.takeover_seconds)
    check_resume(project, cfg, run)


def _prepare_sweep(overrides: list[str], checker: "Checker") -> "Config":
    from .sweeps.grid import grid_jobs, probe_jobs, search_space, sweep_problems, swept
    from .sweeps.sweeper import is_grid, is_ours

    given = swept(overrides)
    plain = [o for o in overrides if split_override(o)[1] not in given]
    try:
        base = compose(checker.conf, plain, own_section=True)
    except ComposeError as error:
        refuse(sweep_problems(overrides, is_grid=False))
        _check_all(probe_jobs(overrides), checker)  # raises if a job does not compose either
        # the jobs compose: only the config without the swept options does not
        refuse(
            f"{override}: only the options that are swept have this key, and Hydra composes the "
            f"config without them too\ntype ++{override}"
            for override in plain
            if f"'{split_override(override)[1]}'" in str(error)
        )
        raise
    in_yaml = search_space(checker.conf, base.hydra.sweeper.get("params") or {}, overrides)
    checker.space = [split_override(override)[1] for override in in_yaml]
    overrides = [*in_yaml, *overrides]
    if isinstance(base.sweep, str):
        raise UserError(f"sweep={base.sweep}: {WITHOUT.format('search')}")
    all_known = is_grid(base)
    launcher = base.hydra.runtime.choices["hydra/launcher"]
    refuse(_grammar_problems(overrides, multirun=True))
    refuse(sweep_problems(overrides, all_known))
    if "_sweeps." not in str(base.hydra.launcher.get("_target_")):
        expected = options(checker.conf, "hydra/launcher", str(launcher))
        raise UserError(f"hydra/launcher={launcher}: it cannot start these jobs\n{expected}")
    kind = find_part(f"sweeps.{'slurm' if launcher == 'slurm' else 'local'}")
    refuse(kind.find_problems(base))
    search = find_part("sweeps.search") if is_ours(base) and not all_known else None
    if search:
        refuse(search.find_problems(str(base.sweep.get("sampler")), swept(overrides)))
    jobs = grid_jobs(checker.project, overrides, Path(base.hydra.sweep.dir)) if all_known else []
    configs = _check_all([job.overrides for job in jobs] or probe_jobs(overrides), checker)
    if search:
        refuse(search.pruner_problems(configs))
    first = configs[0]
    if first.mode == "report":
        raise UserError("mode=report compares existing runs: leave out --multirun")
    if first.mode == "train" and first.engine.nodes > 1:
        raise UserError(
            f"engine.nodes = {first.engine.nodes}: a sweep's jobs use one machine each\n"
            "expected 1, which RUN_NODES sets, or no --multirun"
        )
    _check_files(checker.project, configs, jobs, here=launcher != "slurm")
    return first


def _check_all(jobs: list[list[str]], checker: "Checker") -> list["Config"]:
    configs: list[Config] = []
    problems: list[str] = []
    for overrides in jobs:
        try:
            configs.append(checker.check(overrides))
        except UserError as error:
            problems += error.problems
    if problems and {"mode=check", "format=json"} <= set(jobs[0]):
        from .check import Check, report

        report([Check("config", problems=problems)], "json")
    refuse(problems)
    return configs


def _check_files(project: "Project", cfgs: list["Config"], jobs: list["Job"], here: bool) -> None:
    """Check the configs' files, and this machine if they run `here`; mode=check then exits."""
    from .check import file_problems, report, run_checks
    from .checkpoints.resume import resume_problems

    # a sweep's jobs mostly read the same files and use the same devices
    others: Any = {"model": True, "training": {"optim", "loader"}}
    different = {cfg.model_dump_json(exclude=others): cfg for cfg in cfgs}.values()
    problems = [problem for cfg in different for problem in file_problems(project, cfg)]
    first = cfgs[0]
    folder, given = Path(first.runs_dir, first.name).resolve(), f"runs_dir = {first.runs_dir}"
    sources = (project.conf, Path(__file__).parents[1])
    inside = [relative(it) for it in sources if folder.is_relative_to(it.resolve())]
    problems += [f"{given}: expected a folder outside {it}" for it in inside]
    problems += [] if inside else _unwritable(Path(first.runs_dir), given)
    if first.mode == "check":
        fit = find_part("fit")
        checks = fit.run_and_measure if fit else run_checks
        report(checks(project, first, problems, len(cfgs)), first.format)
        raise SystemExit(0)
    if first.mode == "train":
        for cfg, job in zip(cfgs, jobs, strict=False):
            problems += resume_problems(project, cfg, job.directory)
        # this imports torch: other runs check it once they have imported torch
        for cfg in different if here else ():
            run = cfg.training.run
            if run.device not in ("auto", "cpu") or run.devices != 1:
                from .train.preflight import machine_problems

                problems += machine_problems(project, cfg, Path(cfg.runs_dir, cfg.name))
    refuse(problems)


def _unwritable(folder: Path, given: str) -> Iterator[str]:
    """Why nothing can be written in a folder, or made in the one that would hold it."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:  # unnamed: a kill leaves nothing
            file.write(bytes(ROOM))
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        if is_missing and not os.path.lexists(folder):
            yield from _unwritable(folder.parent, given)
        else:
            is_broken = is_missing and folder.is_symlink()
            why = f"{folder} is a link to nothing" if is_broken else error.strerror
            expected = "expected a folder that you may write to; choose one with runs_dir=FOLDER"
            yield f"{given}: cannot write in {folder} ({why})\n{expected}"


def _explain(overrides: list[str], aliases: Aliases, checker: "Checker") -> None:
    """Print every value and its origin, then validate: an invalid config is printed too."""
    from .compose.explain import explain, find_origins

    composed = checker.compose(overrides, force=True)
    key = aliases.expand([str(composed.key)])[0] if composed.get("key") else None
    explain(composed, find_origins(checker.conf, overrides, checker.spelling), key)
    checker.validate(composed, overrides)


def _announce(project: "Project", cfg: "Config", recorded: list[str]) -> None:
    """Print the run's name and, for other modes, how the config differs from the trained run's."""
    if JOB_DIR not in os.environ:
        print(f"name={cfg.name}", flush=True)
    if recorded:
        print(f"with {' '.join(recorded)}, as the run recorded", flush=True)
    if cfg.checkpoint:
        from .checkpoints.files import find_checkpoint
        from .checkpoints.resume import unlike_the_run

        for line in unlike_the_run(project, cfg, find_run(find_checkpoint(Path(cfg.checkpoint)))):
            print(f"unlike the run: {line}", flush=True)


def help_page(project: "Project") -> str:
    """conf/help.txt with the project's modes, and the groups and aliases that conf/ has now."""
    conf = project.conf
    modes = {project.command(name): mode.help for name, mode in project.modes.items()}
    groups = {
        folder.relative_to(conf).as_posix(): ", ".join(options)
        for folder in sorted(conf.glob("*/**/"))
        if folder.relative_to(conf).parts[0] not in ("engine", "hydra", "local")
        and (options := sorted(file.stem for file in folder.glob("*.yaml")))
    }
    page = string.Template((conf / "help.txt").read_text("utf-8"))
    parts = {"modes": modes, "groups": groups, "aliases": Aliases(conf).targets}
    columns = {}
    for name, rows in parts.items():
        width = min(COLUMN, max(map(len, rows), default=0))
        columns[name] = "\n".join(f"  {left:{width}}  {right}" for left, right in rows.items())
    return page.safe_substitute(columns)
