"""The training loop: epochs of steps, evaluation, log, checkpoints; the same for every task."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm

from helper_functions.checkpoints import Checkpoint
from helper_functions.checkpoints.checkpoint import (
    BEST,
    LAST,
    LAST_BUT_ONE,
    keep_previous,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from helper_functions.data.dataset import Batch, Item
from helper_functions.data.sampler import EpochSampler
from helper_functions.data.workers import LOST_WORKERS
from helper_functions.results.training_log import TrainingLog
from helper_functions.runtime import distributed
from helper_functions.runtime.device import out_of_memory_message
from helper_functions.runtime.errors import TrainingFailed, UserError
from helper_functions.runtime.files import free_space
from helper_functions.runtime.signals import Stopped, StopRequest
from helper_functions.tasks.base import Evaluator, Task
from helper_functions.training.flags import SaveSettings, TrainSettings
from helper_functions.training.step import TrainStep
from models.failures import place, reason

# Called in the main process after each epoch with the row of ``log.csv``, the evaluated model and
# its evaluation.
Logger = Callable[[dict[str, float], nn.Module, Evaluator], None]


@dataclass
class TrainState:
    """How far a run has come; plain numbers, stored in ``last.ckpt``.

    Attributes:
        epoch: Finished epochs.
        batches: Batches of the current epoch that are done.
        step: Steps of the whole run.
        sums: Sum of every loss term over the good steps of this epoch, and of their ``batches``.
        best: Best score so far.
        best_epoch: Epoch that reached it, counted from 1.
        bad_images: Files that could not be read.
        bad_steps: Steps with bad numbers in the whole run.
        bad_in_a_row: Of them, those since the last good step.
        seconds: Time spent on this epoch.
    """

    epoch: int = 0
    batches: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: float = -math.inf
    best_epoch: int = 0
    bad_images: list[str] = field(default_factory=list)
    bad_steps: int = 0
    bad_in_a_row: int = 0
    seconds: float = 0.0


class Trainer:
    """A run: trains epoch by epoch, evaluates, logs and saves.

    Args:
        task: Computes the loss; its ``monitor`` chooses the best checkpoint.
        model: Trained in place, already on its device.
        loader: Batches; its sampler must be an ``EpochSampler``.
        evaluate: Evaluates a model; called after each epoch.
        optimizer: Over the model's parameters.
        scheduler: Stepped once an update.
        settings: How to optimize.
        saving: What to leave behind and to survive.
        device: Where batches go.
        amp: Autocast type or ``None``.
        description: Parts of every checkpoint that do not change: settings, info, args.
        loggers: Called after each epoch.
        stop: Asked after each step whether a signal has come in.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        loader: DataLoader[Any],
        evaluate: Callable[[nn.Module], Evaluator],
        optimizer: Optimizer,
        scheduler: LRScheduler,
        settings: TrainSettings,
        saving: SaveSettings,
        *,
        device: torch.device,
        amp: torch.dtype | None = None,
        description: dict[str, Any],
        loggers: Sequence[Logger] = (),
        stop: StopRequest | None = None,
    ) -> None:
        if not isinstance(loader.sampler, EpochSampler):
            raise TypeError("The loader's sampler must be an EpochSampler.")
        self.task = task
        self.model = model
        self.monitor = task.monitor
        self.loader = loader
        self.sampler = loader.sampler
        self.evaluate = evaluate
        self.settings = settings
        self.saving = saving
        self.output = saving.output_path
        self.description = description
        self.loggers = loggers
        self.stop = stop or StopRequest()
        self.train_step = TrainStep(
            task, model, optimizer, scheduler, settings, device=device, amp=amp
        )
        # The scaler skips the first steps while it looks for its scale.
        warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler\.step\(\)`")
        self.log = TrainingLog(self.output / "log.csv")
        self.state = TrainState()
        self.saved_at = time.monotonic()
        self.saved_step = 0

    def dry_run(self) -> None:
        """Try the largest and the smallest batch of an epoch; nothing of that remains.

        Raises:
            UserError: If the model cannot be trained on one of them, in any of the processes.
        """
        items = (self.loader.dataset[key] for key in self.sampler)
        item = next((item for item in items if isinstance(item, Item)), None)
        problem = ""
        if item is not None:
            for size in self.sampler.batch_sizes():
                problem = problem or self.problem([item] * size)
        for found in filter(None, distributed.all_gather(problem)):
            raise UserError(found)

    def problem(self, items: list[Item]) -> str:
        """Return a sentence on why a step on some images is impossible; '' if it is not."""
        settings, step = self.settings, self.train_step
        count, full = len(items), {"amp": step.amp, "compiled": True}
        error = self.error(items, **full)
        if error is None:
            return ""
        images = f"{count} image{'s' * (count > 1)}"
        height, width = items[0].image.shape[1:]
        what = f"A training step of {self.task.model_name(self.model)} on {images} of {width} x "
        what += f"{height} pixels is impossible"
        if memory := out_of_memory_message(error):
            return f"{what}. {memory}"
        # What makes it possible is found by trying.
        if count == 1 and self.error(items * 2, **full) is None:
            near = " or ".join(map(str, self.sampler.sizes_without_single_images()))
            advice = f"batches of several work, so choose --batch-size {near}, or larger images"
        elif step.amp and self.error(items, **{**full, "amp": None}) is None:
            advice = "choose --amp off"
        elif settings.compile and self.error(items, **{**full, "compiled": False}) is None:
            advice = "leave out --compile"
        else:
            advice = "choose another --backbone-name or --image-size"
        return f"{what}: {reason(error)}{place(error, self.model)}; {advice}."

    def error(self, items: list[Item], **how: Any) -> Exception | None:
        """Return what a dry run on some images ends with; ``None`` if it succeeds."""
        try:
            assert self.loader.collate_fn is not None
            self.train_step.dry_run(self.loader.collate_fn(items), **how)
        except (UserError, TrainingFailed):
            raise
        except Exception as error:  # models and losses fail in many ways
            return error
        return None

    def fit(self) -> None:
        """Run to the last epoch.

        Raises:
            Stopped: After saving, if a signal came in.
            UserError: After saving, if too many images cannot be read.
            TrainingFailed: If too many steps in a row had bad numbers, or a checkpoint cannot be
                written; the last one saved stays as it was.
        """
        try:
            with self.stop.explains(*LOST_WORKERS):
                while not self.is_finished():
                    self.train_epoch()
                    started = time.monotonic()
                    metrics, evaluator = self.evaluate_epoch()
                    self.state.seconds += time.monotonic() - started
                    self.finish_epoch(metrics, evaluator)
        except (Stopped, UserError) as reason:
            # Other processes save along with this one only if they stop for the same reason.
            agreed = isinstance(reason, Stopped) or distributed.world_size() == 1
            if self.state.step and agreed:
                self.save_last()
            raise

    def is_finished(self) -> bool:
        """Return whether the last epoch is done, or too many have brought no better score."""
        state, patience = self.state, self.settings.patience
        return state.epoch >= self.settings.epochs or (
            patience > 0 and state.epoch - state.best_epoch >= patience
        )

    def train_epoch(self) -> None:
        """Train on what is left of the current epoch."""
        state = self.state
        self.sampler.set_position(state.epoch, state.batches * self.sampler.batch_size)
        self.model.train()
        started, spent = time.monotonic(), state.seconds
        bar = tqdm(
            self.loader,
            desc=f"epoch {state.epoch + 1}/{self.settings.epochs}",
            total=state.batches + len(self.loader),
            initial=state.batches,
            disable=None if distributed.is_main() else True,
            leave=False,
        )
        try:
            for micro_batches, read in self.micro_batches(bar):
                if micro_batches:
                    self.step(micro_batches)
                    if state.step % self.settings.print_freq == 0:
                        self.show_losses(bar)
                state.batches += read
                state.seconds = spent + time.monotonic() - started
                if self.agree_to_save():
                    self.save_last()
        finally:
            bar.close()

    def micro_batches(self, loader: Iterator[Batch]) -> Iterator[tuple[list[Batch], int]]:
        """Yield the batches of each step that hold an image, and how many batches were read."""
        step: list[Batch] = []
        read = 0
        left = len(self.loader)
        for batch in loader:
            self.skip_unreadable(batch.failures)
            step += [batch] if len(batch.images) else []
            read += 1
            left -= 1
            if read == self.settings.accum_steps or not left:
                yield step, read
                step, read = [], 0

    def step(self, micro_batches: list[Batch]) -> None:
        """Take one step; add its loss to the sums, or report that its numbers are bad.

        Raises:
            TrainingFailed: If there are too many bad steps in a row.
        """
        state = self.state
        state.step += 1
        rate = self.learning_rate()
        result = self.train_step(micro_batches, state.step)
        if result.updated:
            terms = {**result.terms, "batches": float(len(micro_batches))}
            state.sums = {name: state.sums.get(name, 0.0) + terms[name] for name in terms}
        if not result.bad:
            state.bad_in_a_row = 0
            return
        state.bad_steps += 1
        state.bad_in_a_row += 1
        values = ", ".join(f"{name} {value:.4g}" for name, value in result.terms.items())
        files = [file for batch in micro_batches for file in batch.files]
        more = f" and {len(files) - 20} more" if files[20:] else ""
        tqdm.write(
            f"Step {state.step} is skipped: its loss or gradient is not finite ({values}; rate "
            f"{rate:.3g}; images {', '.join(files[:20])}{more}).",
            file=sys.stderr,
        )
        if state.bad_in_a_row > self.saving.max_bad_steps:
            raise TrainingFailed(
                f"The loss or gradient of {state.bad_in_a_row} steps in a row, up to step "
                f"{state.step}, is not finite; lower --lr, set --clip-grad or try --amp off. "
                f"Checkpoints in {self.output} are from before these steps."
            )

    def agree_to_save(self) -> bool:
        """Return whether it is time to save within the epoch, for all processes alike.

        Raises:
            Stopped: If a signal has come in to any of them.
        """
        saving = self.saving
        minutes = (time.monotonic() - self.saved_at) / 60
        due = bool(saving.save_every_minutes) and minutes >= saving.save_every_minutes
        steps = self.state.step - self.saved_step
        due |= bool(saving.save_every_steps) and steps >= saving.save_every_steps
        signum, anywhere = distributed.all_reduce_max([self.stop.requested(), due])
        if signum:
            raise Stopped(int(signum))
        return bool(anywhere)

    @property
    def eval_model(self) -> nn.Module:
        """The model that is evaluated and saved: the moving average where one is kept."""
        return self.model if self.train_step.ema is None else self.train_step.ema.module

    def evaluate_epoch(self) -> tuple[dict[str, float], Evaluator]:
        """Return the metrics of the evaluated model; ``raw_...`` is the score without average."""
        raw = {}
        if self.train_step.ema is not None:
            score = self.evaluate(self.model).compute()[self.monitor]
            raw = {f"raw_{self.monitor}": score}
        evaluator = self.evaluate(self.eval_model)
        return {**evaluator.compute(), **raw}, evaluator

    def skip_unreadable(self, failures: list[str]) -> None:
        """Count files that could not be read.

        Raises:
            UserError: Once there are more than allowed.
        """
        known = self.state.bad_images
        for failure in failures:
            if failure in known:
                continue
            known.append(failure)
            if len(known) > self.saving.max_bad_images:
                raise UserError(
                    f"{failure} Repair or remove the file, or allow --max-bad-images {len(known)}."
                )
            tqdm.write(f"Skipped: {failure}", file=sys.stderr)

    def learning_rate(self) -> float:
        """Return the rate of the next step (of the first parameter group)."""
        return float(self.train_step.scheduler.get_last_lr()[0])

    def show_losses(self, bar: Any) -> None:
        """Print the mean of each loss term over the epoch so far, of this process."""
        means = _means(self.state.sums)
        text = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
        rate = self.learning_rate()
        if distributed.is_main():
            tqdm.write(f"step {self.state.step}: {text}, lr {rate:.3g}", file=sys.stderr)
        bar.set_postfix(
            {**{name: f"{mean:.4g}" for name, mean in means.items()}, "lr": f"{rate:.2g}"}
        )

    def finish_epoch(self, metrics: dict[str, float], evaluator: Evaluator) -> None:
        """Log an epoch, save it, and keep it as the best if it is."""
        # The row of the log
        state = self.state
        sums = distributed.all_reduce_sum(list(state.sums.values()))
        means = _means(dict(zip(state.sums, sums, strict=True)))
        score = metrics[self.monitor]
        is_best = score > state.best
        state.epoch += 1
        if is_best:
            state.best, state.best_epoch = score, state.epoch
        row: dict[str, float] = {
            "epoch": state.epoch,
            "step": state.step,
            "lr": self.learning_rate(),
            **{name: mean for name, mean in means.items() if name.endswith("loss")},
            **{f"val_{name}": value for name, value in metrics.items()},
            **means,  # what is left of them: terms that are no loss
            "bad_steps": state.bad_steps,
            "seconds": round(state.seconds, 1),
        }
        if distributed.is_main():
            self.write_log(row)
        print(
            f"epoch {state.epoch}/{self.settings.epochs}: loss {means.get('loss', 0):.4g}, "
            f"validation {self.monitor} {score:.2f}"
            + (" (best so far)" if is_best else f" (best {state.best:.2f})")
            + f", {state.seconds:.0f} s",
            flush=True,
        )
        # Checkpoints, of a state in which the next epoch has not begun
        state.batches, state.sums, state.seconds = 0, {}, 0.0
        if is_best:
            self.save(BEST, self.content(metrics))
        if self.saving.keep_all:
            self.save(f"model-{state.epoch}-{score:.2f}.ckpt", self.content(metrics))
        self.save_last(metrics)
        for logger in self.loggers if distributed.is_main() else ():
            try:
                logger(row, self.eval_model, evaluator)
            except OSError as error:
                print(f"Note: this epoch was not logged: {error}.", file=sys.stderr)

    def write_log(self, row: dict[str, float]) -> None:
        """Write the log; a run goes on without it."""
        try:
            self.log.write(row)
        except OSError as error:
            print(f"Note: {self.log.path} could not be written: {error}.", file=sys.stderr)

    def content(self, metrics: dict[str, float] | None) -> dict[str, Any]:
        """Return what every checkpoint holds."""
        return {
            **self.description,
            "model": self.eval_model.state_dict(),
            "epoch": self.state.epoch,
            "step": self.state.step,
            "metrics": metrics or {},
        }

    def save(self, name: str, content: dict[str, Any]) -> None:
        """Write a checkpoint, in the main process.

        Raises:
            TrainingFailed: If it cannot be written; the old one is then untouched.
        """
        if not distributed.is_main():
            return
        path = self.output / name
        try:
            save_checkpoint(path, content)
        except (OSError, RuntimeError) as error:  # torch.save reports a full disk as the latter
            raise TrainingFailed(
                f"The checkpoint {path} could not be written ({str(error).splitlines()[0]}); "
                f"{free_space(self.output)}. What was saved before is intact: make room and "
                f"continue with --resume."
            ) from error

    def save_last(self, metrics: dict[str, float] | None = None) -> None:
        """Write ``last.ckpt`` with all that a resumed run needs; the one before stays beside it."""
        content = self.content(metrics)
        content["training"] = {
            "state": {**asdict(self.state), "seconds": 0.0},  # equal runs, equal files
            **self.train_step.state_dict(),
            "random_states": distributed.all_gather(random_states()),
            "sums": distributed.all_gather(self.state.sums),
        }
        if self.train_step.ema is not None:
            content["training"]["raw_model"] = self.model.state_dict()
        if distributed.is_main():
            keep_previous(self.output / LAST, self.output / LAST_BUT_ONE)
        self.save(LAST, content)
        self.saved_at, self.saved_step = time.monotonic(), self.state.step

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint.

        Raises:
            UserError: If it holds no training state, or one that does not fit this run.
        """
        training = checkpoint["training"]
        rank = distributed.rank()
        try:
            self.eval_model.load_state_dict(checkpoint["model"])
            if self.train_step.ema is not None:
                self.model.load_state_dict(training["raw_model"])
            self.train_step.load_state_dict(training)
            self.state = TrainState(**training["state"])
            self.state.sums = training["sums"][rank]
            self.saved_step = self.state.step
            restore_random_states(training["random_states"][rank])
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{checkpoint.path} does not fit this run: {reason}") from error


def _means(sums: dict[str, float]) -> dict[str, float]:
    """Return the mean of each loss term over the good batches of the epoch so far."""
    batches = max(sums.get("batches", 0.0), 1.0)
    return {name: value / batches for name, value in sums.items() if name != "batches"}
