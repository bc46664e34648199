"""The released optimisation: Adam in two parameter groups under OneCycle."""

from __future__ import annotations

from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR


def make_optimizer(model: nn.Module, lr: float, weight_decay: float) -> Adam:
    """Adam with L2 decay on matrices and filters, none on biases and other 1-D parameters."""
    trained = [
        (name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad
    ]
    no_decay = [p for name, p in trained if p.ndim < 2 or name.endswith(".bias")]
    decay = [p for name, p in trained if p.ndim >= 2 and not name.endswith(".bias")]
    groups = [
        {"params": no_decay, "weight_decay": 0.0},
        {"params": decay, "weight_decay": weight_decay},
    ]
    return Adam(groups, lr=lr, weight_decay=weight_decay)


def make_scheduler(
    optimizer: Adam, lr: float, total_steps: int, pct_start: float = 0.2
) -> OneCycleLR:
    """OneCycle over the whole run, stepped once an iteration.

    The rate goes lr/25 -> lr -> lr/250000, Adam's beta1 0.95 -> 0.85 -> 0.95, both by cosines that
    turn after ``pct_start`` of the steps.
    """
    return OneCycleLR(optimizer, max_lr=lr, total_steps=total_steps, pct_start=pct_start)
