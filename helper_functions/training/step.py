"""One optimization step: forward, backward, guard against bad numbers, update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from helper_functions.checkpoints.checkpoint import random_states, restore_random_states
from helper_functions.data.dataset import Batch
from helper_functions.runtime import distributed
from helper_functions.runtime.device import autocast
from helper_functions.tasks.base import Task
from helper_functions.training.flags import TrainSettings


class StepResult(NamedTuple):
    """How a step went.

    Attributes:
        terms: Terms of the loss, summed over the micro-batches.
        updated: Whether the weights have changed.
        bad: Whether the loss or (in full precision) the gradient is not finite. A step that
            overflows half precision is neither: the scaler looks for its scale.
    """

    terms: dict[str, float]
    updated: bool
    bad: bool


class TrainStep:
    """Runs steps; a step with bad numbers leaves weights, buffers and schedule as they were.

    Args:
        task: Computes the loss.
        model: Trained in place, already on its device.
        optimizer: Over the model's parameters.
        scheduler: Moves on one step with every update.
        settings: Clipping, moving average, compiling.
        device: Where batches go.
        amp: Autocast type or ``None``.

    Attributes:
        ema: Moving average of the weights and buffers; ``None`` without one.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        settings: TrainSettings,
        *,
        device: torch.device,
        amp: torch.dtype | None = None,
    ) -> None:
        self.task = task
        self.sums_over_images = task.sums_over_images
        self.loss = torch.compile(task.loss) if settings.compile else task.loss
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.clip_grad = settings.clip_grad
        self.device = device
        self.amp = amp
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp is torch.float16)
        decay = settings.ema_decay
        self.ema = ModelEmaV3(model, decay, use_warmup=True) if decay else None
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        # What a forward pass changes: running statistics.
        self.buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.trained: nn.Module = model
        if distributed.world_size() > 1:
            ids = [device.index] if device.type == "cuda" else None
            # Some of timm's models hold a norm that belongs to the classifier they lack here.
            self.trained = DistributedDataParallel(
                model, device_ids=ids, find_unused_parameters=True
            )

    def __call__(self, micro_batches: Sequence[Batch], step: int) -> StepResult:
        """Train on the sum (or the mean) of some micro-batches.

        Args:
            micro_batches: Their gradients add up before the update.
            step: Number of the step, from 1.
        """
        # Forward and backward
        buffers = [buffer.clone() for buffer in self.buffers]
        self.optimizer.zero_grad(set_to_none=True)
        images = sum(len(batch.images) for batch in micro_batches)
        sums: dict[str, Tensor] = {}
        for index, batch in enumerate(micro_batches, 1):
            share = len(batch.images) / images
            terms = self.backward(batch, share, last=index == len(micro_batches))
            sums = {name: sums.get(name, 0) + term for name, term in terms.items()}

        # Guard: all processes skip the same steps
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        numbers = torch.stack([norm.float(), *(term.float() for term in sums.values())]).tolist()
        values = dict(zip(sums, numbers[1:], strict=True))
        infinite = [not math.isfinite(values["loss"]), not math.isfinite(numbers[0])]
        bad_loss, bad_norm = distributed.all_reduce_max(infinite)
        good = not (bad_loss or bad_norm)

        # Update
        if good:
            if self.clip_grad:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip_grad, norm)
            self.scaler.step(self.optimizer)
            self.scheduler.step()
            if self.ema is not None:
                self.ema.update(self.model, step)
        else:
            for buffer, old in zip(self.buffers, buffers, strict=True):
                buffer.copy_(old)
        self.scaler.update()
        overflow = self.scaler.is_enabled() and not bad_loss
        return StepResult(values, updated=good, bad=not (good or overflow))

    def backward(self, batch: Batch, share: float, *, last: bool) -> dict[str, Tensor]:
        """Add the gradient of one micro-batch and return the terms of its loss.

        Args:
            batch: The micro-batch.
            share: Of the images of the step that this process sees, those in this batch.
            last: Whether it is the last one of the step, after which processes exchange gradients.
        """
        batch = batch.to(self.device)
        processes = distributed.world_size()
        waits = isinstance(self.trained, DistributedDataParallel) and not last
        with self.trained.no_sync() if waits else nullcontext():  # type: ignore[operator]
            with autocast(self.device, self.amp):
                terms = self.loss(self.trained, batch.images, batch.targets, share / processes)
            # Gradients add up over micro-batches and are averaged over processes: right for a mean
            # once it counts by its share, and for a sum once it is not divided.
            scale = processes if self.sums_over_images else share
            self.scaler.scale(terms["loss"] * scale).backward()  # type: ignore[no-untyped-call]
        return {name: term.detach() for name, term in terms.items()}

    def dry_run(self, batch: Batch, *, amp: torch.dtype | None, compiled: bool) -> None:
        """Compute a loss and its gradient in this process alone, then undo what that has changed.

        Raises whatever the model or the loss does.

        Args:
            batch: Images and targets.
            amp: Autocast type or ``None``.
            compiled: Whether to run the loss as the steps do; else as it is written.
        """
        # Statistics may belong to the loss as well, and some networks move weights themselves.
        modules = [part for part in vars(self.task).values() if isinstance(part, nn.Module)]
        modules.append(self.model)
        tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
        values = [tensor.detach().clone() for tensor in tensors]
        states, was_training = random_states(), self.model.training
        self.model.train()
        try:
            batch = batch.to(self.device)
            loss = self.loss if compiled else self.task.loss
            with autocast(self.device, amp):
                terms = loss(self.model, batch.images, batch.targets, 1.0)
            terms["loss"].backward()  # type: ignore[no-untyped-call]
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, values, strict=True):
                    tensor.copy_(value)
            for tensor in tensors:
                tensor.grad = None
            self.model.train(was_training)
            restore_random_states(states)

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the weights."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo what happened since ``state_dict``."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
