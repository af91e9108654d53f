"""What runs before Hydra: the command line, the config of every job, the run's directory.

All of it is told before anything is written and, unless devices are asked for or a checkpoint's
model differs, before torch is imported.
"""

import logging
import os
import re
import shlex
import string
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import RangeSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf

from . import runs, sweeping
from .aliases import Aliases, split_override
from .composing import CONF, compose, name_this_run, register
from .credentials import credential_problems
from .errors import UserError, refuse
from .launching import PART_OF_A_SWEEP, check_parent, launcher_problems
from .manifest import find_checkpoint

if TYPE_CHECKING:
    from ..config import Config

ROOM = 2**18  # bytes: for what is written before the run itself can say that a disk is full
MOST_VALUES = 10_000  # of one key in a sweep
EXPLAIN = [("mode", value) for value in ("=explain", "='explain'", '="explain"')]


def prepare(argv: list[str], conf: Path) -> list[str]:
    """Check a command line against conf/ and return it as Hydra is to see it. Raises UserError."""
    for stream in (sys.stdout, sys.stderr):  # a terminal or locale without Unicode
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    register()
    check_parent()
    name_this_run()
    os.environ[runs.COMMAND] = shlex.join(["python", "train.py", *argv])
    # until Hydra sets up logging, what matters is told as an error or again by the run itself
    logging.getLogger().addHandler(logging.NullHandler())
    # intermixed: Hydra itself takes flags before or after the overrides, not among them
    args = get_args_parser().parse_intermixed_args(argv)
    if args.help:
        # Hydra's own page composes the config and reads every group first: three times as slow
        print(help_page(conf))
        raise SystemExit(0)
    if args.config_name or args.config_path or args.config_dir or args.experimental_rerun:
        raise UserError(
            "--config-name, --config-path, --config-dir, --experimental-rerun: values come from\n"
            "conf/ alone; what differs belongs in a file of conf/experiment: experiment=NAME"
        )
    if args.resolve and not args.cfg:
        raise UserError("--resolve is for --cfg: --cfg job --resolve")
    if sum(map(bool, (args.run, args.multirun, args.cfg, args.info, args.shell_completion))) > 1:
        raise UserError("give one of --run, --multirun, --cfg, --info and --shell-completion")
    if args.shell_completion:
        return argv
    # no shell puts the home directory into checkpoint=~/x
    given = [re.sub(r"^([\w./@+]+=[\"']?)~(?=/)", rf"\1{Path.home()}", o) for o in args.overrides]
    flags = [arg for arg in argv if arg not in args.overrides]
    refuse([*_grammar_problems(given), *credential_problems(given)])
    aliases = Aliases(conf)
    overrides = aliases.expand(given)
    refuse(aliases.problems)
    if overrides:  # types take as long to import as all of --cfg job
        from .checking import keep_text

        overrides = keep_text(overrides)
    typed = dict(zip(overrides, given, strict=True))
    if args.cfg or args.info or args.hydra_help:
        try:
            composed = compose(conf, overrides)
        except Exception as error:
            _checked([overrides], conf, typed)
            raise UserError(f"Hydra cannot compose this: {error}") from None
        if args.cfg == "job" and not (args.package or args.resolve):
            # what Hydra prints, which would compose it a second time
            print(OmegaConf.to_yaml(composed), end="", flush=True)
            if overrides:
                _checked([overrides], conf, typed)
            raise SystemExit(0)
        return flags + overrides

    if any(split_override(o)[1:] in EXPLAIN for o in overrides):
        if args.multirun:
            raise UserError("mode=explain explains one config: leave out --multirun")
        _explain(overrides, conf, typed)
        raise SystemExit(0)
    recorded = _recorded(overrides, conf)
    overrides = recorded + overrides
    jobs: list[sweeping.Job] = []
    elsewhere = False
    multirun = args.multirun or sweeping.is_asked_for(conf, overrides)
    if multirun:
        flags += [] if args.multirun else ["--multirun"]  # Hydra 1.4 reads no hydra.mode of a group
        overrides = sweeping.last_of_each(overrides)
        configs, jobs, elsewhere = _check_sweep(overrides, conf, typed)
        if configs[0].mode == "train" and (nodes := configs[0].training.processes.nodes) > 1:
            raise UserError(
                f"training.processes.nodes = {nodes}: a sweep's jobs use one machine each\n"
                "expected 1, which RUN_NODES sets, or no --multirun"
            )
    else:
        if launcher := [o for o in overrides if re.match("hydra/launcher=(?!basic$)", o)]:
            raise UserError(
                f"{launcher[0]}: this starts the jobs of --multirun; add it, for one job too"
            )
        configs = _checked([overrides], conf, typed)
    if configs[0].mode == "report":
        if multirun:
            raise UserError("mode=report compares runs that are there: leave out --multirun")
        from .reporting import compare_runs

        compare_runs(configs[0])
        raise SystemExit(0)
    from .preflight import file_problems, machine_problems, report
    from .resuming import resume_problems

    problems = [problem for cfg in _distinct(configs) for problem in file_problems(cfg)]
    first = configs[0]
    if first.mode == "check":
        report(first, problems)
        raise SystemExit(0)
    if first.mode == "train":
        for cfg, job in zip(configs, jobs, strict=False):
            problems += resume_problems(cfg, job.directory)
        # torch is needed for this: other runs are told when they load it
        asking = {repr(cfg.training.run): cfg for cfg in configs if _asks_for_devices(cfg)}
        for cfg in [] if elsewhere else asking.values():
            problems += machine_problems(cfg, Path(cfg.runs_dir, cfg.name))
    refuse(problems)
    for source in (CONF, Path(__file__).parents[1]):
        if Path(first.runs_dir, first.name).resolve().is_relative_to(source.resolve()):
            raise UserError(
                f"runs_dir = {first.runs_dir}: expected a folder outside {runs.shorter(source)}"
            )
    _check_writable(Path(first.runs_dir), f"runs_dir = {first.runs_dir}")
    if first.mode == "train" and not multirun and runs.is_first_node(first):
        _claim_run(first, Path(first.runs_dir, first.name))
    if not runs.is_first_node(first):
        # the first node writes the run's files and speaks
        return [*flags, *overrides, "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    _announce(first, recorded)
    return flags + overrides


def _explain(overrides: list[str], conf: Path, typed: dict[str, str]) -> None:
    """Print every value and where it comes from, of a config that is refused as well."""
    from .checking import Checker
    from .checking import typed as config_of
    from .explaining import explain

    checker = Checker(conf, typed)
    forced = [checker.forced(override) for override in overrides]
    try:
        cfg = compose(conf, forced)
    except Exception as error:
        checker.check(overrides)  # says what is wrong: without files there is nothing to explain
        raise UserError(f"Hydra cannot compose this: {error}") from None
    key = cfg.get("key")
    explain(cfg, conf, forced, typed, Aliases(conf).targets.get(str(key), key))
    try:
        config_of(cfg)
    except UserError:
        checker.check(overrides)  # says so with places


def _check_sweep(
    overrides: list[str], conf: Path, typed: dict[str, str]
) -> tuple[list["Config"], list[sweeping.Job], bool]:
    """The configs of a sweep, its jobs as far as they are known, and if they run elsewhere."""
    given = sweeping.swept(overrides)
    plain = [o for o in overrides if split_override(o)[1] not in given]
    try:
        base = compose(conf, plain, own_section=True)
    except UserError:
        raise
    except Exception as error:
        refuse(sweeping.sweep_problems(overrides, is_grid=False))
        _checked(sweeping.corners(overrides), conf, typed)  # says what is wrong
        # nothing, with what is swept
        refuse(
            f"{override}: only the options that are swept have this key, and Hydra composes the "
            f"config without them too\ntype ++{override}"
            for override in plain
            if f"'{split_override(override)[1]}'" in str(error)
        )
        raise UserError(f"Hydra cannot compose this: {error}") from None
    in_yaml = sweeping.search_space(base.hydra.sweeper.get("params") or {}, overrides)
    space = [split_override(override)[1] for override in in_yaml]
    overrides = [*in_yaml, *overrides]
    refuse(_grammar_problems(overrides))
    refuse(sweeping.sweep_problems(overrides, sweeping.is_grid(base)))
    launcher = base.hydra.runtime.choices["hydra/launcher"]
    refuse(launcher_problems(launcher, base.hydra.launcher))
    elsewhere = launcher not in ("basic", "local", "joblib")
    if sweeping.is_grid(base):
        jobs = sweeping.grid_jobs(overrides, base)
        return _checked([job.overrides for job in jobs], conf, typed, space), jobs, elsewhere
    if sweeping.is_ours(base):
        refuse(sweeping.search_problems(str(base.sweep.get("sampler")), sweeping.swept(overrides)))
    return _checked(sweeping.corners(overrides), conf, typed, space), [], elsewhere


def _asks_for_devices(cfg: "Config") -> bool:
    run = cfg.training.run
    return run.device not in ("auto", "cpu") or run.devices != 1


def _claim_run(cfg: "Config", run: Path) -> None:
    """Before Hydra writes to it: the directory is ours, and may go on with this config."""
    from .resuming import check_resume

    if run.exists() and not run.is_dir():
        raise UserError(f"name = {cfg.name}: {run} is a file; give another name")
    if any(run.glob(f"*/.hydra/{runs.OVERRIDES}")):
        raise UserError(f"name = {cfg.name}: {run} holds the jobs of a sweep; give another name")
    if run.is_dir() and any(run.iterdir()) and not any((run / it).exists() for it in runs.OF_A_RUN):
        raise UserError(f"name = {cfg.name}: {run} holds no run but files; give another name")
    _check_writable(run, f"name = {cfg.name}")
    runs.lock(run, cfg.training.processes.takeover_seconds)
    check_resume(cfg, run)


def help_page(conf: Path) -> str:
    """conf/help.txt with the groups and aliases that conf/ has now."""
    groups = {
        folder.name: ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        for folder in sorted(conf.iterdir())
        if folder.is_dir() and folder.name not in ("hydra", "local")
    }
    page = string.Template((conf / "help.txt").read_text("utf-8"))
    aliases = _two_columns(Aliases(conf).targets)
    return page.safe_substitute(groups=_two_columns(groups), aliases=aliases)


def _two_columns(rows: dict[str, str]) -> str:
    width = max(map(len, rows), default=0)
    return "\n".join(f"  {left:{width}}  {right}" for left, right in rows.items())


def _checked(
    job_overrides: list[list[str]],
    conf: Path,
    typed: dict[str, str],
    space: Collection[str] = (),
) -> list["Config"]:
    from .checking import Checker

    checker = Checker(conf, typed, space)
    configs: list[Config] = []
    problems: list[str] = []
    for overrides in job_overrides:
        try:
            configs.append(checker.check(overrides, one_of_many=len(job_overrides) > 1))
        except UserError as error:
            problems += error.problems
    refuse(problems)
    return configs


def _grammar_problems(overrides: list[str]) -> Iterator[str]:
    parser = OverridesParser.create()
    for override in overrides:
        prefix, key, value = split_override(override)
        try:
            parsed = parser.parse_override(override).value()
            if not re.match(r"\w", key):
                raise HydraException
            if isinstance(parsed, RangeSweep):
                span = abs(float(parsed.stop or 0) - float(parsed.start or 0))
                if span > MOST_VALUES * abs(float(parsed.step)):
                    yield f"{override}: expected a range of at most {MOST_VALUES} values"
        except Exception:  # also RecursionError, and ValueError of a number of 5,000 digits
            if not value or not re.fullmatch(r"\w[\w./@]*", key):
                yield f"{override}: expected KEY=VALUE, as in training.lr=3e-4"
            else:
                text = '["a b","c"]' if value[1:2] in ("[", "{") else _quoted(value[1:])
                shell = f"{prefix}{key}={text}".replace("'", "'\\''")
                yield f"{override}: Hydra reads such a text only in quotes, as in\n'{shell}'"


def _quoted(text: str) -> str:
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', text)
    return f'"{escaped}"'


def _recorded(overrides: list[str], conf: Path) -> list[str]:
    """The model and data choices that evaluate and recognize take from the run's own command."""
    values = {key: value[1:] for _, key, value in map(split_override, overrides)}
    if values.get("mode", "train") == "train" or not values.get("checkpoint"):
        return []
    parsed = OverridesParser.create().parse_override(f"checkpoint={values['checkpoint']}")
    if parsed.is_sweep_override():
        raise UserError(
            f"checkpoint={values['checkpoint']}: one checkpoint at a time\n"
            "a path with a comma in it needs quotes: 'checkpoint=\"…\"'"
        )
    try:
        run = runs.run_of(find_checkpoint(Path(str(parsed.value()))))
    except UserError:
        return []  # told with everything else that is wrong
    from .resuming import recorded_overrides

    return recorded_overrides(run, overrides, conf) if run else []


def _announce(cfg: "Config", recorded: list[str]) -> None:
    """Say the name, and of an evaluation what is and what is not as in the checkpoint's run."""
    from .resuming import unlike_the_run

    if PART_OF_A_SWEEP not in os.environ:
        print(f"name={cfg.name}", flush=True)
    if recorded:
        print(f"with {' '.join(recorded)}, as the run recorded", flush=True)
    if cfg.mode != "train" and cfg.checkpoint:
        run = runs.run_of(find_checkpoint(Path(cfg.checkpoint)))
        for line in unlike_the_run(cfg, run):
            print(f"unlike the run: {line}", flush=True)


def _distinct(configs: list["Config"]) -> list["Config"]:
    """One config of each kind that reads other files: a sweep's jobs mostly share theirs."""
    kinds = {
        cfg.model_dump_json(exclude={"model": True, "training": {"optim", "loader"}}): cfg
        for cfg in configs
    }
    return list(kinds.values())


def _check_writable(folder: Path, given: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:  # without a name, which a kill would leave
            file.write(bytes(ROOM))
    except OSError as error:
        broken = [p for p in (folder, *folder.parents) if p.is_symlink() and not p.exists()]
        why = f"{broken[0]} is a link to nothing" if broken else error.strerror
        raise UserError(
            f"{given}: cannot write in {folder} ({why})\n"
            "expected a folder that you may write to; choose one with runs_dir=FOLDER"
        ) from None
