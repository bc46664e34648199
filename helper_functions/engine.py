"""The training loop. It knows batches, losses, steps and files, but nothing of the task.

A task hands in three things: batches, an objective (model and batch -> loss terms) and an
evaluation (-> metrics). See ``helper_functions.classification`` for VoLUNet's.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm

from helper_functions.checkpoints import (
    Checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from helper_functions.datasets import Batch, EpochSampler
from helper_functions.errors import TrainingFailed, UserError
from helper_functions.stopping import Stopped, StopRequest
from helper_functions.training_log import TrainingLog

BEST = "model-highest.ckpt"
LAST = "last.ckpt"


class Objective(Protocol):
    """What is minimised."""

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Loss terms of a batch as scalars; ``loss`` is the one to minimise."""
        ...


@dataclass
class Position:
    """Where a run stands; plain numbers, stored in ``last.ckpt``.

    Attributes:
        epoch: Finished epochs.
        batches: Batches of it that are done.
        step: Steps of the whole run.
        sums: Sum of every loss term over the steps of this epoch.
        steps_in_epoch: How many steps the sums cover.
        best: Best metric so far.
        best_epoch: Epoch that reached it, counted from 1.
        bad_images: Files that could not be read.
    """

    epoch: int = 0
    batches: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    steps_in_epoch: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    bad_images: list[str] = field(default_factory=list)


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


def autocast(device: torch.device, amp: torch.dtype | None) -> AbstractContextManager[object]:
    """Mixed precision, or nothing."""
    return nullcontext() if amp is None else torch.autocast(device.type, dtype=amp)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor; without waiting only on CUDA, as elsewhere that can read freed memory."""
    return tensor.to(device, non_blocking=device.type == "cuda")


class Trainer:
    """A run: trains epoch by epoch, evaluates, logs and saves.

    Args:
        model: Trained in place, already on its device.
        objective: Gives the loss terms of a batch.
        evaluate: Gives the metrics of a model, by name; called after each epoch.
        metric: Name of the metric that chooses the best checkpoint; higher is better.
        loader: Batches; its sampler must be an ``EpochSampler``.
        optimizer: Any optimiser over the model's parameters.
        scheduler: Stepped once an iteration.
        device: Where batches go.
        amp: Autocast type or ``None``.
        epochs: Length of the run.
        ema_decay: Highest decay of an exponential moving average of weights and buffers; it starts
            low. The average is then what is judged and saved as the model. 0: none is kept.
        output: Folder for checkpoints and logs.
        description: Parts of every checkpoint that do not change: settings, info, args.
        print_freq: Steps between two updates of the printed losses.
        max_bad_images: How many unreadable files are skipped before the run stops.
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
        ema_decay: float = 0.0,
        print_freq: int = 100,
        max_bad_images: int = 0,
        stop: StopRequest | None = None,
    ) -> None:
        if not isinstance(loader.sampler, EpochSampler):
            raise TypeError("The loader's sampler must be an EpochSampler.")
        self.model = model
        self.objective = objective
        self.evaluate = evaluate
        self.metric = metric
        self.loader = loader
        self.sampler = loader.sampler
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp is torch.float16)
        self.device = device
        self.amp = amp
        self.epochs = epochs
        self.output = output
        self.description = description
        self.print_freq = print_freq
        self.max_bad_images = max_bad_images
        self.average = ModelEmaV3(model, ema_decay, use_warmup=True) if ema_decay else None
        self.stop = stop or StopRequest()
        # The scaler skips the first steps while it looks for its scale; the schedule goes on.
        warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler\.step\(\)`")
        self.log = TrainingLog(output / "log.csv")
        self.position = Position()
        # First step with a loss that is not finite; stays on the device until it is asked for.
        self.first_bad_step = torch.tensor(-1, device=device)

    def fit(self) -> None:
        """Run to the last epoch.

        Raises:
            Stopped: After saving, if a signal came in.
            UserError: After saving, if too many pictures cannot be read.
            TrainingFailed: If a loss is not finite; ``last.ckpt`` stays as it was.
        """
        try:
            with self.stop.explains(RuntimeError):  # of a loader whose workers are gone
                while self.position.epoch < self.epochs:
                    started = time.monotonic()
                    self.train_epoch()
                    self.check_finite()
                    metrics = self.judge()
                    self.finish_epoch(metrics, time.monotonic() - started)
        except (Stopped, UserError):
            if self.position.step:
                self.save(LAST)
            raise

    def train_epoch(self) -> None:
        """Train on what is left of the epoch under way."""
        at = self.position
        batch_size = self.loader.batch_size or 1
        self.sampler.set_position(at.epoch, at.batches * batch_size)
        self.model.train()
        # Sums stay on the device: reading them every step would make the host wait for it.
        sums = {name: torch.tensor(value, device=self.device) for name, value in at.sums.items()}
        bar = tqdm(
            self.loader,
            desc=f"epoch {at.epoch + 1}/{self.epochs}",
            total=at.batches + len(self.loader),
            initial=at.batches,
            disable=None,
            leave=False,
        )
        try:
            for batch in bar:
                self.skip_unreadable(batch.failures)
                if len(batch.images):
                    terms = self.train_step(batch)
                    sums = {name: sums.get(name, 0) + term for name, term in terms.items()}
                    at.steps_in_epoch += 1
                    at.step += 1
                    if at.steps_in_epoch % self.print_freq == 0:
                        self.show_losses(bar, sums)
                at.batches += 1
                self.stop.check()
        finally:
            bar.close()
            at.sums = {name: float(value) for name, value in sums.items()}

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """Forward, backward and update on one batch; the loss terms, without gradient."""
        batch = batch._replace(
            images=to_device(batch.images, self.device),
            targets=to_device(batch.targets, self.device),
        )
        with autocast(self.device, self.amp):
            terms = self.objective(self.model, batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(terms["loss"]).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        if self.average is not None:
            self.average.update(self.model, self.position.step + 1)
        bad = ~terms["loss"].detach().isfinite() & (self.first_bad_step < 0)
        self.first_bad_step = torch.where(bad, self.position.step + 1, self.first_bad_step)
        return {name: term.detach() for name, term in terms.items()}

    @property
    def judged(self) -> nn.Module:
        """The model that is evaluated and saved: the average where one is kept."""
        return self.model if self.average is None else self.average.module

    def judge(self) -> dict[str, float]:
        """Metrics of the judged model; ``plain_...`` is the score of the weights themselves."""
        metrics = self.evaluate(self.judged)
        if self.average is not None:
            metrics[f"plain_{self.metric}"] = self.evaluate(self.model)[self.metric]
        return metrics

    def check_finite(self) -> None:
        """Make sure that no loss so far was infinite or not a number.

        Raises:
            TrainingFailed: Naming the first such step.
        """
        step = int(self.first_bad_step)
        if step >= 0:
            advice = "lower --lr" if self.amp is None else "lower --lr or try --amp off"
            raise TrainingFailed(
                f"The loss of step {step} is not finite, so the training has diverged; {advice}. "
                f"Checkpoints in {self.output} are from before that step."
            )

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
            if len(at.bad_images) > self.max_bad_images:
                raise UserError(
                    f"{failure} Mend or remove the file, or allow --max-bad-images "
                    f"{len(at.bad_images)}."
                )
            tqdm.write(f"Skipped: {failure}", file=sys.stderr)

    def show_losses(self, bar: Any, sums: dict[str, Any]) -> None:
        """Print the mean of each loss term over the epoch so far."""
        self.check_finite()
        means = {name: float(value) / self.position.steps_in_epoch for name, value in sums.items()}
        text = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
        rate = self.scheduler.get_last_lr()[0]
        tqdm.write(f"step {self.position.step}: {text}, lr {rate:.3g}", file=sys.stderr)
        bar.set_postfix(loss=f"{means['loss']:.4g}")

    def finish_epoch(self, metrics: dict[str, float], seconds: float) -> None:
        """Log an epoch, save it, and keep it as the best if it is."""
        at = self.position
        means = {name: total / max(at.steps_in_epoch, 1) for name, total in at.sums.items()}
        score = metrics[self.metric]
        is_best = score > at.best
        at.epoch += 1
        if is_best:
            at.best, at.best_epoch = score, at.epoch
        losses = {name: mean for name, mean in means.items() if name.endswith("loss")}
        row: dict[str, float] = {
            "epoch": at.epoch,
            "step": at.step,
            "lr": float(self.scheduler.get_last_lr()[0]),
            **losses,
            **{f"val_{name}": value for name, value in metrics.items()},
            **means,  # what is left of them: readings that are no loss
            "seconds": round(seconds, 1),
        }
        self.log.write(row)
        print(
            f"epoch {at.epoch}/{self.epochs}: loss {means.get('loss', 0):.4g}, "
            f"validation {self.metric} {score:.2f}"
            + (" (best so far)" if is_best else f" (best {at.best:.2f})")
            + f", {seconds:.0f} s",
            flush=True,
        )
        if is_best:
            self.save(BEST, metrics)
        self.position = Position(
            epoch=at.epoch,
            step=at.step,
            best=at.best,
            best_epoch=at.best_epoch,
            bad_images=at.bad_images,
        )
        self.save(LAST, metrics)

    def save(self, name: str, metrics: dict[str, float] | None = None) -> None:
        """Write a checkpoint; ``last.ckpt`` also holds what a resumed run needs.

        Raises:
            TrainingFailed: If the training has diverged; nothing is written then.
        """
        self.check_finite()
        content = {
            **self.description,
            "model": self.judged.state_dict(),
            "epoch": self.position.epoch,
            "step": self.position.step,
            "metrics": metrics or {},
        }
        if name == LAST:
            content["training"] = {
                "position": asdict(self.position),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "scaler": self.scaler.state_dict(),
                "random_states": random_states(),
            }
            if self.average is not None:
                content["training"]["plain_model"] = self.model.state_dict()
        save_checkpoint(self.output / name, content)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue where a checkpoint stands.

        Raises:
            UserError: If it holds no training state, or one that does not fit this run.
        """
        training = checkpoint["training"]
        try:
            self.judged.load_state_dict(checkpoint["model"])
            if self.average is not None:
                self.model.load_state_dict(training["plain_model"])
            self.optimizer.load_state_dict(training["optimizer"])
            self.scheduler.load_state_dict(training["scheduler"])
            self.scaler.load_state_dict(training["scaler"])
            self.position = Position(**training["position"])
            restore_random_states(training["random_states"])
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{checkpoint.path} does not fit this run: {reason}") from error
