"""The training loop. It knows batches, losses, steps and files, but nothing of the task.

A task hands in three things: batches, an objective (model, images and targets -> loss terms) and an
evaluation (-> metrics). See ``helper_functions.tasks.classify.classification`` for VoLUNet's.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm

from helper_functions.checkpoints.checkpoint import (
    Checkpoint,
    keep_previous,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from helper_functions.data.dataset import Batch, EpochSampler
from helper_functions.data.workers import LOST_WORKERS
from helper_functions.results.training_log import TrainingLog
from helper_functions.runtime import distributed
from helper_functions.runtime.errors import TrainingFailed, UserError
from helper_functions.runtime.files import free_space
from helper_functions.runtime.signals import Stopped, StopRequest
from helper_functions.training.step import Objective, Stepper

BEST = "model-highest.ckpt"
LAST = "last.ckpt"
LAST_BUT_ONE = "last-1.ckpt"


@dataclass
class Position:
    """Where a run stands; plain numbers, stored in ``last.ckpt``.

    Attributes:
        epoch: Finished epochs.
        batches: Batches of the one under way that are done.
        step: Steps of the whole run.
        sums: Sum of every loss term over the good steps of this epoch, and of their ``batches``.
        best: Best metric so far.
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


@dataclass(frozen=True)
class Tolerance:
    """What a run survives, and how much of it can be lost.

    Attributes:
        bad_images: Unreadable files that are skipped before the run stops.
        bad_steps: Steps in a row with numbers that are not finite, skipped before the run stops.
        save_steps: Steps between two saves within an epoch; 0: none.
        save_minutes: Minutes between two saves within an epoch; 0: none.
    """

    bad_images: int = 0
    bad_steps: int = 10
    save_steps: int = 0
    save_minutes: float = 10.0


def resolve_device(name: str) -> torch.device:
    """The device of ``--device``; ``auto`` takes CUDA, else MPS, else the CPU.

    Raises:
        UserError: If the device is unknown or absent.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"The device {name!r} cannot be used here; choose auto, cpu, cuda or mps."
        ) from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"The device {name!r} cannot train; choose auto, cpu, cuda or mps.")
    return device


def resolve_amp(name: str, device: torch.device) -> torch.dtype | None:
    """The autocast type of ``--amp``; ``auto`` is float16 on CUDA and off elsewhere.

    Raises:
        UserError: For float16 on MPS, whose gradients PyTorch cannot scale in all releases.
    """
    if name == "fp16" and device.type == "mps":
        raise UserError("--amp fp16 needs loss scaling, which MPS lacks; choose bf16 or off.")
    if name == "auto":
        return torch.float16 if device.type == "cuda" else None
    return {"off": None, "fp16": torch.float16, "bf16": torch.bfloat16}[name]


class Trainer:
    """A run: trains epoch by epoch, evaluates, logs and saves.

    Args:
        model: Trained in place, already on its device.
        objective: Gives the loss terms of a batch.
        evaluate: Gives the metrics of a model, by name; called after each epoch.
        metric: Name of the metric that chooses the best checkpoint; higher is better.
        loader: Batches; its sampler must be an ``EpochSampler``.
        optimizer: Any optimiser over the model's parameters.
        scheduler: Stepped once an update.
        device: Where batches go.
        amp: Autocast type or ``None``.
        epochs: Length of the run.
        output: Folder for checkpoints and logs.
        description: Parts of every checkpoint that do not change: settings, info, args.
        accum_steps: Batches whose gradients add up to one step.
        clip_grad: Highest norm of the gradient; 0: no bound.
        compiled: Compile the forward pass and the objective.
        ema_decay: Highest decay of an exponential moving average of weights and buffers; it starts
            low. The average is then what is judged and saved as the model. 0: none is kept.
        print_freq: Steps between two updates of the printed losses.
        keep_all: Keep the checkpoint of every epoch.
        tolerance: What the run survives.
        patience: Epochs without a better score after which the run ends; 0: never.
        watchers: Called after each epoch with the row of the log and the judged model.
        stop: Asked after each step whether a signal has come in.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        objective: Objective,
        evaluate: Callable[[nn.Module], dict[str, float]],
        metric: str,
        loader: DataLoader[Any],
        optimizer: Optimizer,
        scheduler: LRScheduler,
        device: torch.device,
        amp: torch.dtype | None,
        epochs: int,
        output: Path,
        description: dict[str, Any],
        accum_steps: int = 1,
        clip_grad: float = 0.0,
        compiled: bool = False,
        ema_decay: float = 0.0,
        print_freq: int = 100,
        keep_all: bool = False,
        tolerance: Tolerance | None = None,
        patience: int = 0,
        watchers: Sequence[Callable[[dict[str, float], nn.Module], None]] = (),
        stop: StopRequest | None = None,
    ) -> None:
        if not isinstance(loader.sampler, EpochSampler):
            raise TypeError("The loader's sampler must be an EpochSampler.")
        self.model = model
        self.evaluate = evaluate
        self.metric = metric
        self.loader = loader
        self.sampler = loader.sampler
        self.device = device
        self.epochs = epochs
        self.output = output
        self.description = description
        self.accum_steps = accum_steps
        self.print_freq = print_freq
        self.keep_all = keep_all
        self.tolerance = tolerance or Tolerance()
        self.patience = patience
        self.watchers = watchers
        self.stop = stop or StopRequest()
        self.average = ModelEmaV3(model, ema_decay, use_warmup=True) if ema_decay else None
        self.stepper = Stepper(
            model,
            objective,
            optimizer,
            scheduler,
            device=device,
            amp=amp,
            clip_grad=clip_grad,
            average=self.average,
            compiled=compiled,
        )
        # The scaler skips the first steps while it looks for its scale.
        warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler\.step\(\)`")
        self.log = TrainingLog(output / "log.csv")
        self.position = Position()
        self.saved_at = time.monotonic()
        self.saved_step = 0

    def fit(self) -> None:
        """Run to the last epoch.

        Raises:
            Stopped: After saving, if a signal came in.
            UserError: After saving, if too many pictures cannot be read.
            TrainingFailed: If too many steps in a row had bad numbers, or a checkpoint cannot be
                written; the last one saved stays as it was.
        """
        try:
            with self.stop.explains(*LOST_WORKERS):
                while not self.is_finished():
                    self.train_epoch()
                    started = time.monotonic()
                    metrics = self.judge()
                    self.position.seconds += time.monotonic() - started
                    self.finish_epoch(metrics)
        except (Stopped, UserError) as reason:
            # Other processes save along with this one only if they stop for the same reason.
            agreed = isinstance(reason, Stopped) or distributed.processes() == 1
            if self.position.step and agreed:
                self.save_last()
            raise

    def is_finished(self) -> bool:
        """Whether the last epoch is done, or too many have brought no better score."""
        at = self.position
        return at.epoch >= self.epochs or (
            self.patience > 0 and at.epoch - at.best_epoch >= self.patience
        )

    def train_epoch(self) -> None:
        """Train on what is left of the epoch under way."""
        at = self.position
        self.sampler.set_position(at.epoch, at.batches * self.sampler.batch_size)
        self.model.train()
        # Sums stay on the device: reading them every step would make the host wait for it.
        sums = {name: torch.tensor(value, device=self.device) for name, value in at.sums.items()}
        started, spent = time.monotonic(), at.seconds
        bar = tqdm(
            self.loader,
            desc=f"epoch {at.epoch + 1}/{self.epochs}",
            total=at.batches + len(self.loader),
            initial=at.batches,
            disable=None if distributed.is_main() else True,
            leave=False,
        )
        try:
            for batches, taken in self.groups(bar):
                if batches:
                    terms = self.stepper(batches, at.step + 1)
                    sums = {name: sums.get(name, 0) + term for name, term in terms.items()}
                    at.step += 1
                    if at.step % self.print_freq == 0:
                        self.show_losses(bar, sums)
                at.batches += taken
                at.seconds = spent + time.monotonic() - started
                self.notice_bad_steps()
                if self.agree_to_save():
                    at.sums = {name: float(value) for name, value in sums.items()}
                    self.save_last()
        finally:
            bar.close()
            at.sums = {name: float(value) for name, value in sums.items()}
        self.notice_bad_steps(wait=True)

    def groups(self, loader: Iterator[Batch]) -> Iterator[tuple[list[Batch], int]]:
        """The batches of each step that hold a picture, and how many batches were taken."""
        group: list[Batch] = []
        taken = 0
        left = len(self.loader)
        for batch in loader:
            self.skip_unreadable(batch.failures)
            group += [batch] if len(batch.images) else []
            taken += 1
            left -= 1
            if taken == self.accum_steps or not left:
                yield group, taken
                group, taken = [], 0

    def agree_to_save(self) -> bool:
        """Whether it is time to save within the epoch, for all processes alike.

        Raises:
            Stopped: If a signal has come in to any of them.
        """
        tolerance, at = self.tolerance, self.position
        minutes = (time.monotonic() - self.saved_at) / 60
        due = bool(tolerance.save_minutes) and minutes >= tolerance.save_minutes
        due |= bool(tolerance.save_steps) and at.step - self.saved_step >= tolerance.save_steps
        signum, anywhere = distributed.highest([self.stop.requested(), due])
        if signum:
            raise Stopped(int(signum))
        return bool(anywhere)

    def notice_bad_steps(self, *, wait: bool = False) -> None:
        """Report steps with bad numbers.

        Raises:
            TrainingFailed: If there are too many in a row.
        """
        at = self.position
        for report in self.stepper.reports(wait=wait):
            if not report.bad:
                at.bad_in_a_row = 0
                continue
            at.bad_steps += 1
            at.bad_in_a_row += 1
            terms = ", ".join(f"{name} {value:.4g}" for name, value in report.terms.items())
            shown = report.files[:20]
            more = f" and {len(report.files) - len(shown)} more" if report.files[20:] else ""
            tqdm.write(
                f"Step {report.step} is skipped: its loss or gradient is not finite ({terms}; rate "
                f"{report.rate:.3g}; pictures {', '.join(shown)}{more}).",
                file=sys.stderr,
            )
            if at.bad_in_a_row > self.tolerance.bad_steps:
                raise TrainingFailed(
                    f"The loss or gradient of {at.bad_in_a_row} steps in a row, up to step "
                    f"{report.step}, is not finite; lower --lr, set --clip-grad or try --amp off. "
                    f"Checkpoints in {self.output} are from before these steps."
                )

    @property
    def judged(self) -> nn.Module:
        """The model that is evaluated and saved: the average where one is kept."""
        return self.model if self.average is None else self.average.module

    def judge(self) -> dict[str, float]:
        """Metrics of the judged model; ``plain_...`` is the score of the weights themselves."""
        if self.average is None:
            return self.evaluate(self.model)
        plain = self.evaluate(self.model)[self.metric]
        return {**self.evaluate(self.judged), f"plain_{self.metric}": plain}

    def skip_unreadable(self, failures: list[str]) -> None:
        """Count files that could not be read.

        Raises:
            UserError: Once there are more than allowed.
        """
        at = self.position
        for failure in failures:
            if failure in at.bad_images:
                continue
            at.bad_images.append(failure)
            if len(at.bad_images) > self.tolerance.bad_images:
                raise UserError(
                    f"{failure} Mend or remove the file, or allow --max-bad-images "
                    f"{len(at.bad_images)}."
                )
            tqdm.write(f"Skipped: {failure}", file=sys.stderr)

    def means(self, sums: dict[str, Any]) -> dict[str, float]:
        """Mean of each loss term over the good batches of the epoch so far, of this process."""
        values = {name: float(value) for name, value in sums.items()}
        batches = max(values.pop("batches", 0.0), 1.0)
        return {name: value / batches for name, value in values.items()}

    def show_losses(self, bar: Any, sums: dict[str, Tensor]) -> None:
        """Print the mean of each loss term over the epoch so far."""
        means = self.means(sums)
        text = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
        rate = self.stepper.scheduler.get_last_lr()[0]
        if distributed.is_main():
            tqdm.write(f"step {self.position.step}: {text}, lr {rate:.3g}", file=sys.stderr)
        bar.set_postfix(
            {**{name: f"{mean:.4g}" for name, mean in means.items()}, "lr": f"{rate:.2g}"}
        )

    def finish_epoch(self, metrics: dict[str, float]) -> None:
        """Log an epoch, save it, and keep it as the best if it is."""
        at = self.position
        names = list(at.sums)
        means = self.means(
            dict(zip(names, distributed.total([at.sums[name] for name in names]), strict=True))
        )
        score = metrics[self.metric]
        is_best = score > at.best
        at.epoch += 1
        if is_best:
            at.best, at.best_epoch = score, at.epoch
        losses = {name: mean for name, mean in means.items() if name.endswith("loss")}
        row: dict[str, float] = {
            "epoch": at.epoch,
            "step": at.step,
            "lr": float(self.stepper.scheduler.get_last_lr()[0]),
            **losses,
            **{f"val_{name}": value for name, value in metrics.items()},
            **means,  # what is left of them: readings that are no loss
            "bad_steps": at.bad_steps,
            "seconds": round(at.seconds, 1),
        }
        if distributed.is_main():
            self.write_log(row)
        print(
            f"epoch {at.epoch}/{self.epochs}: loss {means.get('loss', 0):.4g}, "
            f"validation {self.metric} {score:.2f}"
            + (" (best so far)" if is_best else f" (best {at.best:.2f})")
            + f", {at.seconds:.0f} s",
            flush=True,
        )
        self.position = Position(
            epoch=at.epoch,
            step=at.step,
            best=at.best,
            best_epoch=at.best_epoch,
            bad_images=at.bad_images,
            bad_steps=at.bad_steps,
            bad_in_a_row=at.bad_in_a_row,
        )
        if is_best:
            self.save(BEST, self.content(metrics))
        if self.keep_all:
            self.save(f"model-{at.epoch}-{score:.2f}.ckpt", self.content(metrics))
        self.save_last(metrics)
        for watcher in self.watchers if distributed.is_main() else ():
            try:
                watcher(row, self.judged)
            except OSError as error:
                print(f"Note: the run goes on unwatched: {error}.", file=sys.stderr)

    def write_log(self, row: dict[str, float]) -> None:
        """Write the log; a run goes on without it."""
        try:
            self.log.write(row)
        except OSError as error:
            print(f"Note: {self.log.path} could not be written: {error}.", file=sys.stderr)

    def content(self, metrics: dict[str, float] | None) -> dict[str, Any]:
        """What every checkpoint holds."""
        return {
            **self.description,
            "model": self.judged.state_dict(),
            "epoch": self.position.epoch,
            "step": self.position.step,
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
        self.notice_bad_steps(wait=True)
        content = self.content(metrics)
        content["training"] = {
            "position": {**asdict(self.position), "seconds": 0.0},  # equal runs, equal files
            **self.stepper.state_dict(),
            "random_states": distributed.gather(random_states()),
            "sums": distributed.gather(self.position.sums),
        }
        if self.average is not None:
            content["training"]["plain_model"] = self.model.state_dict()
        if distributed.is_main():
            keep_previous(self.output / LAST, self.output / LAST_BUT_ONE)
        self.save(LAST, content)
        self.saved_at, self.saved_step = time.monotonic(), self.position.step

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue where a checkpoint stands.

        Raises:
            UserError: If it holds no training state, or one that does not fit this run.
        """
        training = checkpoint["training"]
        rank = distributed.rank()
        try:
            self.judged.load_state_dict(checkpoint["model"])
            if self.average is not None:
                self.model.load_state_dict(training["plain_model"])
            self.stepper.load_state_dict(training)
            self.position = Position(**training["position"])
            self.position.sums = training["sums"][rank]
            self.saved_step = self.position.step
            restore_random_states(training["random_states"][rank])
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{checkpoint.path} does not fit this run: {reason}") from error
