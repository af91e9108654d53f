"""A run from its newest checkpoint to its last iteration: schedule, checkpoints, metrics.

All processes of a run decide the same: a flag that one of them has set is set for all.
"""

import gc
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from .. import find_part
from ..checkpoints.files import find_checkpoint, newest_checkpoint
from ..checkpoints.store import Checkpoints, Stateful, load_model
from ..config import Config
from ..data.loader import eval_loader, train_loader
from ..data.order import seed_all
from ..distributed import collectives
from ..distributed.devices import move, peak_memory, set_up_device
from ..errors import Stopped, UserError
from ..inference import ComputeMetrics, MeasureBatch, measure
from ..project import Batch, Project
from ..signals import Stop
from ..terminal import format_values
from .metrics_file import MetricsFile
from .profiler import profiler
from .progress_bar import ProgressBar
from .record import begin_record, note
from .throughput import LossBuffer, Throughput

log = logging.getLogger(__name__)


class Session:
    """Keeps a run's checkpoints, metrics and progress; the loop stays in training.py."""

    # training.parallel=fsdp replaces these
    open_checkpoints = Checkpoints
    wrap_parallel = staticmethod(collectives.wrap_ddp)
    measure = staticmethod(measure)

    def __new__(cls, project: Project, cfg: Config, run_dir: Path, stop: Stop) -> Self:
        """A trial of mode=check fit=true measures what the loop does."""
        trial = find_part("train.trial")
        kind: type[Self] = trial.choose(cls) if trial else cls
        return super().__new__(kind)

    def __init__(self, project: Project, cfg: Config, run_dir: Path, stop: Stop) -> None:
        """Set up the device and seed everything. Raises UserError if the device is missing."""
        self.project, self.cfg, self.run_dir, self.stop = project, cfg, run_dir, stop
        self.run, self.metric = cfg.training.run, cfg.training.objective.metric
        self.device = set_up_device(cfg)
        self.checkpoints = self.open_checkpoints(project, cfg, run_dir)
        self.buffer = LossBuffer()
        self.limit = 60 * (self.run.max_minutes or math.inf)
        self.skips = self.run.on_nonfinite == "skip" or self.run.precision == "fp16"
        seed_all(self.run.seed)

    # Before the loop -----------------------------------------------------------------------------

    def restore(
        self, *, model: nn.Module, average: nn.Module | None = None, **others: Stateful
    ) -> None:
        """Load the newest checkpoint or, for a new run, the weights of cfg.init.

        `others`, such as optimizer=optimizer, are saved and restored by their names: any object
        with state_dict() and load_state_dict(). An `average` of the model's weights takes the
        model's place in checkpoints. Raises UserError where one does not fit.
        """
        self.loader = train_loader(self.project, self.cfg, self.stop)
        self.progress = self.checkpoints.restore(model, average, {**others, **self.loader.stateful})
        self.init: dict[str, Any] = {}
        self.start, total = self.progress.iteration, self.run.iter_num
        if self.is_complete():
            text = "complete at iteration %d of %d, by training.run.%s: nothing to train"
            log.info(text, self.start, total, self.ended_by())
        elif self.start:
            log.info("continues after iteration %d of %d", self.start, total)
        elif self.cfg.init:
            if part := find_part("checkpoints.pretrained"):
                self.init = part.load_pretrained(model, self.cfg)
            else:
                checkpoint = find_checkpoint(Path(self.cfg.init), "init")
                load_model(model, checkpoint, self.checkpoints.load_weights)
            if average is not None:
                average.load_state_dict(model.state_dict())

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model to train: compiled if training.run.compile, its gradients averaged by DDP."""
        sizes = {p: p.numel() for p in model.parameters()}
        frozen = sum(size for p, size in sizes.items() if not p.requires_grad)
        self.size = f"{sum(sizes.values()):,} parameters" + f" ({frozen:,} frozen)" * bool(frozen)
        if part := find_part("train.recompute"):
            part.recompute_blocks(model, self.cfg)
        if self.run.compile:
            model.compile(dynamic=self.run.compile_dynamic)
        self.trained = self.wrap_parallel(model)
        return self.trained

    def __enter__(self) -> Self:
        cfg, start, total = self.cfg, self.start, self.run.iter_num
        begin_record(self.project, cfg, self.run_dir, self.checkpoints.made_of, self.init)
        facts = (self.size, collectives.world_size(), self.device, self.run.precision)
        log.info("%s on %d × %s, %s", *facts)
        gc.freeze()  # a collection that goes through torch and its compiler takes 0.3 s
        self.throughput = Throughput(start, self.loader.count_items)
        self.loader.order.start = start
        self.batches = self.throughput.watch(iter(self.loader))
        self.valid = eval_loader(self.project, cfg, "valid", self.run.eval_batches, self.stop)
        self.metrics = MetricsFile(self.run_dir, start, self.progress.last_eval)
        self.stack = ExitStack()
        self.tracker: Any = None
        if collectives.is_main() and (trackers := find_part("trackers.base")):
            opened = trackers.open_tracker(cfg, self.run_dir, start)
            self.tracker = self.stack.enter_context(opened)
        self.bar = ProgressBar(self.stack, total, start, self.device.type, self.metric)
        traced = profiler(cfg, self.run_dir, self.device.type, total - start)
        self.profile_step = self.stack.enter_context(traced)
        self.throughput.restart(start)
        self._begin_boundary()
        return self

    def __exit__(self, *error: Any) -> None:
        progress = self.progress
        # before the tracker ends, which sends it
        if error[0] is None and collectives.is_main() and (curves := find_part("report.curves")):
            best = None if progress.best is None else (progress.best_iteration, progress.best)
            name = os.path.relpath(self.run_dir, self.cfg.runs_dir)
            curves.draw_curves(self.run_dir, name, self.metric, best)
        self.stack.__exit__(*error)
        if error[0] is None and (figures := self.throughput.summary()):
            text = "%.3g iterations, %.3g items a second, %.0f %% waiting for data; %.2f GB used"
            figures["data_wait"] *= 100
            log.info(text, *(figures | peak_memory(self.device)).values())
        gc.unfreeze()

    # Between two iterations ----------------------------------------------------------------------

    def _begin_boundary(self) -> None:
        self.now = self.progress.iteration
        flags = self.stop.signal > 0, self.checkpoints.is_due(self.now), self.is_time_up()
        self.stopping, self.save_due, is_time_up = collectives.any_process(*flags)
        if is_time_up:  # in all processes, and once the run is resumed
            self.progress.seconds = max(self.progress.seconds, self.limit)
        self.value: float | None = None

        # an iteration may have been skipped because the step before it spoilt the weights
        self.is_finite = self.progress.skipped == 0

    def is_eval_due(self) -> bool:
        """Every eval_every iterations and after the last one, but not once a stop is requested."""
        is_last = self.now >= self.run.iter_num or self.is_time_up()
        due = self.now % self.run.eval_every == 0 or is_last
        return due and self.now > self.progress.last_eval and not self.stopping

    def evaluate(
        self, model: nn.Module, measure_batch: MeasureBatch, compute_metrics: ComputeMetrics
    ) -> None:
        """Measure the validation split. A stop drops the result; the resumed run repeats it."""
        rows = self.measure(model, self.valid, self.cfg, measure_batch, self.stop)
        (self.stopping,) = collectives.any_process(self.stop.signal > 0)
        if self.stopping:
            return
        values, progress = compute_metrics(rows, self.cfg), self.progress
        self.metrics.write(self.now, "valid", values)
        self.bar.show_eval(self.now, values)
        self.throughput.restart(self.now)
        self.is_finite = all(map(math.isfinite, values.values()))
        value = self.value = values[self.metric] if self.is_finite else math.nan
        sign = -1 if self.project.goal(self.metric) == "maximize" else 1
        before = math.inf if progress.best is None else sign * progress.best
        progress.evals_since_best += 1
        if sign * value < before:  # never with NaN
            progress.best, progress.best_iteration = value, self.now
            progress.evals_since_best = 0
        progress.last_eval = self.now
        best = {} if progress.best is None else {self.metric: progress.best}
        if self.tracker:
            self.tracker.log(self.now, best=best, valid=values)

    def save_if_due(self) -> None:
        """Save on schedule, for a new best, before a stop and at the end; never spoilt weights.

        Raises UserError if a loss was not finite, or if a required checkpoint cannot be written.
        """
        complete = self.is_complete()
        is_best = self.progress.best_iteration == self.now
        asked = self.save_due or is_best or self.stopping
        if complete or (asked and self.is_finite and self.now > 0):
            self._check_finite()
            self.loader.gather_state()
            self.checkpoints.save(self.progress, self.value, required=complete or self.stopping)

    def is_over(self) -> bool:
        """Whether the run is complete. Raises Stopped if a signal stops it earlier."""
        if self.is_complete():
            return True
        if self.stopping:
            is_saved = self.is_finite and self.now
            where = f"saved in {self.run_dir}" if is_saved else "nothing new to save"
            log.info("stopped after iteration %d of %d; %s", self.now, self.run.iter_num, where)
            raise Stopped(self.stop.signal)
        return False

    def is_complete(self) -> bool:
        """Whether all iterations are done and evaluated, or patience or time has run out."""
        progress = self.progress
        is_patient = progress.evals_since_best != self.run.patience
        is_late = self.is_time_up() and progress.last_eval == progress.iteration
        return progress.last_eval >= self.run.iter_num or not is_patient or is_late

    def is_time_up(self) -> bool:
        """Whether the run has trained for max_minutes."""
        return self.progress.seconds >= self.limit

    # One iteration -------------------------------------------------------------------------------

    def begin_iteration(self) -> int:
        """The number of the next iteration; the first one is 1."""
        self.began = time.perf_counter()
        self.progress.iteration += 1
        self.now = self.progress.iteration
        return self.now

    def micro_batches(self) -> Iterator[Batch]:
        """This iteration's micro-batches, on the device; random numbers are seeded for each.

        Dropout depends on (seed, iteration, micro-batch, rank) alone, wherever a run resumed.
        """
        for micro_batch in range(self.run.accumulate):
            batch = move(next(self.batches), self.device)
            seed_all(self.run.seed, self.now, micro_batch, collectives.rank())
            with collectives.gradient_sync(self.trained, micro_batch == self.run.accumulate - 1):
                yield batch

    def mean_loss(self, total: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss, and the factor that turns gradients of the sums into those of the mean.

        `total` has the sum of this process's losses, and that of their weights.
        """
        loss, weight = collectives.sum_over_processes(total)
        return loss / weight, collectives.world_size() / weight  # DDP has divided by the world size

    def may_step(self, loss: Tensor, grad_norm: Tensor) -> bool:
        """Whether the optimizer may step; with on_nonfinite=skip or fp16, not after a NaN.

        Raises UserError after too many skips in a row. With on_nonfinite=stop it does not wait for
        the device: losses are checked when they are logged and before each checkpoint. With fp16
        gradients may overflow until the scaler has found their scale.
        """
        progress = self.progress
        if self.skips and any(collectives.any_process(not math.isfinite(loss + grad_norm))):
            progress.skipped += 1
            values = {"loss": loss.item(), "norm": grad_norm.item()}
            log.warning("iteration %d is skipped: %s", self.now, format_values(values))
            if progress.skipped > self.cfg.engine.skip_at_most:
                raise self._nonfinite(self.now, values)
            return False
        progress.skipped = 0
        return True

    def log(self, **values: Tensor | float) -> None:
        """Log more curves: means over the log interval, in metrics.jsonl and the tracker."""
        for name, value in values.items():
            self.buffer.extra.append((name, value.detach() if isinstance(value, Tensor) else value))

    def end_iteration(self, **values: Tensor | float) -> None:
        """Log these values every log_every iterations, tensors as means over the interval.

        The terminal shows them too. Each tensor must be finite, unless the iteration is skipped.
        """
        self.bar.step(self.now)
        tensors = {k: value.detach() for k, value in values.items() if isinstance(value, Tensor)}
        if self.progress.skipped == 0:
            self.buffer.rows.append((self.now, tensors))
        if self.now % self.run.log_every == 0 or self.now == self.run.iter_num:
            rows = self._check_finite()
            means = {k: sum(r[k] for r in rows) / len(rows) if rows else math.nan for k in tensors}
            shown: dict[str, Any] = values | means
            speed = self.throughput.read(self.now)
            logged, machine = shown | self.buffer.read_extra(), speed | peak_memory(self.device)
            self.buffer = LossBuffer()
            self.metrics.write(self.now, "train", logged | machine)
            if self.tracker:
                self.tracker.log(self.now, train=logged, machine=machine)
            rate = {"iterations_per_second": speed["iterations_per_second"]}
            self.bar.show(self.now, shown | rate)
        self.profile_step()
        self.progress.seconds += time.perf_counter() - self.began
        self._begin_boundary()

    # At the end ----------------------------------------------------------------------------------

    def conclude(self) -> float:
        """Log the result, record what ended the run; return the best objective."""
        progress, why, best = self.progress, self.ended_by(), self.progress.best
        note(self.run_dir, ended_by=why)
        early = "" if why == "iter_num" else f", stopped early by training.run.{why}"
        result = f"no evaluation had a finite {self.metric}"
        if best is not None:
            result = f"best {self.metric} {best:.4g} at iteration {progress.best_iteration}"
        log.info("iteration %d%s: %s", progress.iteration, early, result)
        return math.nan if best is None else best

    def ended_by(self) -> str:
        """The key of training.run that ended the run."""
        if self.progress.iteration >= self.run.iter_num:
            return "iter_num"
        return "max_minutes" if self.is_time_up() else "patience"

    def _check_finite(self) -> list[dict[str, float]]:
        rows = self.buffer.read()
        for iteration, values in rows:
            if not all(map(math.isfinite, values.values())):
                raise self._nonfinite(iteration, values)
        return [values for _, values in rows]

    def _nonfinite(self, iteration: int, values: dict[str, float]) -> UserError:
        newest = newest_checkpoint(self.run_dir)
        forced = ", with resume=force" if newest else ""
        skip = "if these items are to blame, training.run.on_nonfinite=skip leaves them out"
        if self.skips:
            most = self.cfg.engine.skip_at_most
            skip = f"more than engine.skip_at_most ({most}) iterations in a row are left out"
        return UserError(
            f"a loss or gradient is not finite at iteration {iteration}: {format_values(values)}\n"
            f"the items of its batch:\n{', '.join(self.loader.names(iteration))}\n{skip}\n"
            f"a lower training.lr or a longer training.warmup_steps may help{forced}\n"
            f"the last intact checkpoint: {newest or 'none yet'}"
        )
