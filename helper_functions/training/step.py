"""One optimisation step: forward, backward, guard against bad numbers, update."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from helper_functions.data.dataset import Batch
from helper_functions.runtime import distributed


class Objective(Protocol):
    """What is minimised."""

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Loss terms of a batch as scalars; ``loss`` is the one to minimise."""
        ...


def autocast(device: torch.device, amp: torch.dtype | None) -> AbstractContextManager[object]:
    """Mixed precision, or nothing."""
    return nullcontext() if amp is None else torch.autocast(device.type, dtype=amp)


@dataclass(frozen=True)
class StepReport:
    """How a step went; bad ones and those that overflowed half precision have changed nothing.

    Attributes:
        step: Its number, from 1.
        rate: Learning rate.
        files: Names of its pictures.
        terms: Loss terms, summed over its batches.
        bad: Whether the loss or (in full precision) the gradient is not finite.
    """

    step: int
    rate: float
    files: list[str]
    terms: dict[str, float]
    bad: bool


class _Pending:
    """Numbers on their way from the device to the host, which does not wait for them."""

    def __init__(self, values: Tensor) -> None:
        self.event: torch.cuda.Event | None = None
        self.values = values
        if values.is_cuda:
            self.values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self.values.copy_(values, non_blocking=True)
            self.event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.event.record()

    def arrived(self) -> bool:
        return self.event is None or bool(self.event.query())  # type: ignore[no-untyped-call]

    def read(self) -> list[float]:
        if self.event is not None:
            self.event.synchronize()
        numbers: list[float] = self.values.tolist()
        return numbers


class Stepper:
    """Carries out steps; a step with bad numbers leaves weights, buffers and schedule as they were.

    On CUDA nothing here waits for the device: the update is suppressed on the device itself, and
    the report on a step arrives some steps later.

    Args:
        model: Trained in place, already on its device.
        objective: Gives the loss terms of a batch.
        optimizer: Over the model's parameters; on CUDA a fused one.
        scheduler: Moves on one step with every update.
        device: Where batches go.
        amp: Autocast type or ``None``.
        clip_grad: Highest norm of the gradient; 0: no bound.
        average: Moving average to keep up to date.
        compiled: Compile the forward pass and the objective.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        *,
        device: torch.device,
        amp: torch.dtype | None = None,
        clip_grad: float = 0.0,
        average: ModelEmaV3 | None = None,
        compiled: bool = False,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp is torch.float16)
        self.device = device
        self.amp = amp
        self.clip_grad = clip_grad
        self.average = average
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        # What a forward pass changes: running statistics.
        self.buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.trained: nn.Module = model
        if distributed.processes() > 1:
            ids = [device.index] if device.type == "cuda" else None
            # Some of timm's models hold a norm that belongs to the classifier they lack here.
            self.trained = DistributedDataParallel(
                model, device_ids=ids, find_unused_parameters=True
            )
        self.objective: Objective = torch.compile(objective) if compiled else objective
        self._pending: deque[tuple[_Pending, int, float, list[str], list[str]]] = deque()

    def __call__(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        """Train on the sum of some batches.

        Args:
            batches: Their gradients add up before the update.
            step: Number of the step, from 1.

        Returns:
            Loss terms without gradient, summed over the batches, and ``batches``, their number; all
            0 if the step is bad.
        """
        before = [buffer.clone() for buffer in self.buffers]
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(batches, 1):
            for name, term in self._backward(batch, last=number == len(batches)).items():
                sums[name] = sums.get(name, 0) + term
        rate = float(self.scheduler.get_last_lr()[0])
        loss_is_finite = sums["loss"].isfinite()
        if distributed.processes() > 1:
            everywhere = loss_is_finite.float()
            torch.distributed.all_reduce(everywhere, torch.distributed.ReduceOp.MIN)
            loss_is_finite = everywhere > 0
        good = self._update(loss_is_finite, before, step)
        bad = ~(loss_is_finite if self.scaler.is_enabled() else good)
        names = list(sums)
        values = torch.stack([bad.float(), good.float(), *(sums[name].float() for name in names)])
        files = [file for batch in batches for file in batch.files]
        self._pending.append((_Pending(values), step, rate, files, names))
        sums["batches"] = torch.full_like(sums["loss"], len(batches))
        # Not a product: 0 * inf is not a number.
        return {name: torch.where(good, term, 0) for name, term in sums.items()}

    def _backward(self, batch: Batch, *, last: bool) -> dict[str, Tensor]:
        """Add the gradient of one batch; the loss terms, without gradient."""
        batch = batch.to(self.device)
        waits = isinstance(self.trained, DistributedDataParallel) and not last
        with self.trained.no_sync() if waits else nullcontext():  # type: ignore[operator]
            with autocast(self.device, self.amp):
                terms = self.objective(self.trained, batch.images, batch.targets)
            # The processes' gradients are averaged, but losses are sums over pictures.
            loss = terms["loss"] * distributed.processes()
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return {name: term.detach() for name, term in terms.items()}

    def _update(self, loss_is_finite: Tensor, before: list[Tensor], step: int) -> Tensor:
        """Update weights, schedule and average if all is finite, which is returned."""
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        good = loss_is_finite & norm.isfinite()
        if self.clip_grad:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip_grad, norm)
        if self.device.type == "cuda":
            self._update_unless_bad(good)
            for buffer, old in zip(self.buffers, before, strict=True):
                buffer.copy_(torch.where(good, buffer, old))
        elif good:
            self.scaler.step(self.optimizer)
        else:
            for buffer, old in zip(self.buffers, before, strict=True):
                buffer.copy_(old)
        if self.scaler.is_enabled():
            self.scaler.update()
        if self.device.type == "cuda" or good:
            self.scheduler.step()  # taken back when the report tells that the step was bad
            if self.average is not None:
                self.average.update(self.model, step)
        return good

    def _update_unless_bad(self, good: Tensor) -> None:
        """Let a fused optimiser decide on the device whether to change anything."""
        if self.scaler.is_enabled():  # it has found what is not finite, and hands that on
            self.scaler.step(self.optimizer)
            return
        self.optimizer.found_inf = (~good).float()  # type: ignore[attr-defined]
        try:
            self.optimizer.step()
        finally:
            del self.optimizer.found_inf  # type: ignore[attr-defined]

    def reports(self, *, wait: bool = False) -> list[StepReport]:
        """What is known by now of steps not reported yet, in their order.

        Args:
            wait: Wait for the device and report on all.
        """
        found = []
        while self._pending and (wait or self._pending[0][0].arrived()):
            numbers, step, rate, files, names = self._pending.popleft()
            bad, good, *terms = numbers.read()
            if not good and self.device.type == "cuda":
                self.scheduler.last_epoch -= 1  # the next step() computes the rate from it
            values = dict(zip(names, terms, strict=True))
            found.append(StepReport(step, rate, files, values, bool(bad)))
        return found

    def state_dict(self) -> dict[str, Any]:
        """Everything but the weights."""
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
