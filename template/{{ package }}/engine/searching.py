"""A search with Optuna. Its study lies in the sweep's directory, so it goes on after a stop."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig

from . import runs
from .aliases import split_override
from .errors import UserError
from .manifest import goal_of
from .resuming import differences
from .sweeping import Job, has_failed, meaning, place, swept

log = logging.getLogger(__name__)

STUDY = "optuna.db"
SPACE = "search"  # what the study is of, kept with it
SAMPLERS = {"tpe": "TPE", "random": "Random", "gp": "GP", "cmaes": "CmaEs"}


def search(
    overrides: list[str], config: DictConfig, run: Callable[[list[Job]], dict[Path, Job]]
) -> dict[Path, Job]:
    """Run trials until the study has n_trials; return those that did not finish, by directory."""
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # two commands on one study would run each other's trials
    sweep_dir, settings = Path(config.hydra.sweep.dir), config.sweep
    runs.lock(sweep_dir, config.training.processes.takeover_seconds)
    space = {key: distribution(o) for key, o in swept(overrides).items()}
    fixed = [o for o in overrides if split_override(o)[1] not in space]
    goal = goal_of(config.training.objective.metric)
    about = {k: str(o.input_line).partition("=")[2] for k, o in swept(overrides).items()}
    about |= {"all else": " ".join(sorted(meaning(fixed))), "the objective": goal}
    study = open_study(sweep_dir / STUDY, about, settings)
    others = [t.params for t in study.get_trials() if t.state != TrialState.FAIL]
    for trial in study.get_trials(states=[TrialState.FAIL]):
        if trial.params.keys() == space.keys() and trial.params not in others:
            others.append(trial.params)
            study.enqueue_trial(trial.params)
    unfinished: dict[Path, Job] = {}
    in_vain: set[int] = set()
    while True:
        complete = len(study.get_trials(states=[TrialState.COMPLETE], deepcopy=False))
        count = min(settings.parallel, settings.n_trials - complete - len(in_vain))
        if count <= 0 or (settings.on_error == "stop" and has_failed(unfinished)):
            return unfinished
        # those that an earlier command did not end are first, unless it had not drawn all of one
        running = study.get_trials(states=[TrialState.RUNNING])
        begun = [t for t in running if len(t.params) == len(space) and t.number not in in_vain]
        trials = begun[:count]
        trials += [study.ask(space) for _ in range(count - len(trials))]
        wanted = [[*fixed, *(f"{key}={t.params[key]}" for key in space)] for t in trials]
        jobs = place(wanted, sweep_dir, set(space))
        log.info("trials %s of %d", ", ".join(str(t.number + 1) for t in trials), settings.n_trials)
        untried = [job for job in jobs if job.directory not in unfinished]
        unfinished |= run(untried)
        for trial, job in zip(trials, jobs, strict=True):
            record = runs.read_record(job.directory)
            if job.directory not in unfinished and record.get("objective") is not None:
                study.tell(trial.number, record["objective"])
                continue
            in_vain.add(trial.number)
            if record.get("state") == "finished":
                job.state, job.said = "failed", "no objective"
                unfinished.setdefault(job.directory, job)
            # the next command continues one that was cancelled, lost, in use or not begun
            if unfinished.get(job.directory, job).state == "failed":
                study.tell(trial.number, state=TrialState.FAIL)


def open_study(file: Path, about: dict[str, str], settings: DictConfig) -> Any:
    """The study in the sweep's directory, a new one or that of the same search."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    where: Any = {"storage": f"sqlite:///{file}", "direction": about["the objective"]}
    try:
        study = optuna.create_study(**where, study_name=SPACE, load_if_exists=True)
        if (then := study.user_attrs.get(SPACE, about)) is about:
            study.set_user_attr(SPACE, about)
    except SQLAlchemyError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        expected = "the study of this search, used by nobody else; give another name"
        raise UserError(f"{file}: {reason}\nexpected {expected}") from None
    if then != about:
        listed = "\n".join(differences(then, about))
        raise UserError(f"{file} is the study of another search:\n{listed}\ngive another name")
    sampler: Any = getattr(optuna.samplers, f"{SAMPLERS[settings.sampler]}Sampler")
    more = {"constant_liar": settings.parallel > 1} if settings.sampler == "tpe" else {}
    # another seed each time it goes on, or it would draw what it has drawn before
    seed = settings.seed + len(study.trials)
    study.sampler = sampler(seed=seed, **more)
    return study


def distribution(override: Override) -> Any:
    """An override's range as Optuna has it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = override.value()
    ends: list[Any]
    more: dict[str, Any]
    if isinstance(value, IntervalSweep):
        ends, more = [value.start, value.end], {"log": "log" in value.tags}
    elif isinstance(value, RangeSweep):
        ends, more = list(override.sweep_iterator()), {"step": value.step}
    else:
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    whole = all(isinstance(end, int) for end in ends)
    kind: Any = IntDistribution if whole else FloatDistribution
    return kind(ends[0], ends[-1], **more)
