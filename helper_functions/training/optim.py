"""Adam in two parameter groups, under OneCycle as VoLUNet's release or at a constant rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR


def _groups(
    named: list[tuple[str, nn.Parameter]], lr: float, weight_decay: float, *, decay_all: bool
) -> list[dict[str, Any]]:
    """Return parameters without and with L2 decay: matrices and filters, or all."""
    trained = [(name, p) for name, p in named if p.requires_grad]
    decayed = [decay_all or (p.ndim >= 2 and not name.endswith(".bias")) for name, p in trained]
    no_decay = [p for (_, p), flag in zip(trained, decayed, strict=True) if not flag]
    decay = [p for (_, p), flag in zip(trained, decayed, strict=True) if flag]
    return [
        {"params": no_decay, "lr": lr, "weight_decay": 0.0},
        {"params": decay, "lr": lr, "weight_decay": weight_decay},
    ]


def _can_fuse(groups: list[dict[str, Any]]) -> bool:
    """Whether PyTorch has Adam as one operator here, which makes no copies of large parameters.

    On CUDA it also leaves everything as it was when told on the device that numbers are bad.
    """
    parameters = [p for group in groups for p in group["params"]]
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)


def _with_own_fused(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A saved state, to be computed on as the optimiser does that loads it."""
    fused = optimizer.defaults["fused"]
    return {**state, "param_groups": [{**g, "fused": fused} for g in state["param_groups"]]}


def make_optimizer(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    factors: dict[str, float] | None = None,
    *,
    betas: Sequence[float] = (0.9, 0.999),
    decay_all: bool = False,
) -> Adam:
    """Adam over a model's parameters.

    Args:
        model: What is trained.
        lr: Peak learning rate.
        weight_decay: L2 on parameters with two or more dimensions.
        factors: Multiples of ``lr`` for submodules that learn at a rate of their own, by name.
        betas: Decay of the running means.
        decay_all: Whether ``weight_decay`` is on every parameter.
    """
    factors = {name: factor for name, factor in (factors or {}).items() if factor != 1}
    groups = []
    for prefix, factor in {"": 1.0, **factors}.items():
        named = [
            (name, parameter)
            for name, parameter in model.named_parameters()
            if next((part for part in factors if name.startswith(f"{part}.")), "") == prefix
        ]
        groups += _groups(named, lr * factor, weight_decay, decay_all=decay_all)
    groups = [group for group in groups if group["params"]]
    optimizer = Adam(groups, betas=(betas[0], betas[1]), fused=_can_fuse(groups) or None)
    # How to compute is a matter of the device, not of the checkpoint that is resumed.
    optimizer.register_load_state_dict_pre_hook(_with_own_fused)
    return optimizer


def make_scheduler(
    optimizer: Adam, total_steps: int, pct_start: float = 0.2, schedule: str = "one-cycle"
) -> LRScheduler:
    """Return a constant rate, or OneCycle over the whole run, stepped once an iteration.

    Each group's rate goes lr/25 -> lr -> lr/250000, Adam's beta1 0.95 -> 0.85 -> 0.95, both by
    cosines that turn after ``pct_start`` of the steps.
    """
    if schedule == "constant":
        return ConstantLR(optimizer, factor=1.0, total_iters=0)
    peaks = [group["lr"] for group in optimizer.param_groups]
    if pct_start * total_steps == 1:
        pct_start *= 1 - 1e-9  # a rise of exactly one step divides by zero in PyTorch
    return OneCycleLR(optimizer, max_lr=peaks, total_steps=total_steps, pct_start=pct_start)
