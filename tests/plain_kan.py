"""The KAN layer written down plainly: every basis of every input, then one product.

Oracle of the tests and baseline of the benchmarks; saves what autograd saves.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def plain_bases(x: Tensor, grid: Tensor, order: int) -> Tensor:
    """Cox and de Boor for x (rows, in) on a grid (in, knots): (rows, in, knots - order - 1)."""
    x = x[:, :, None]
    bases = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
    for degree in range(1, order + 1):
        rising = (x - grid[:, : -degree - 1]) / (grid[:, degree:-1] - grid[:, : -degree - 1])
        falling = (grid[:, degree + 1 :] - x) / (grid[:, degree + 1 :] - grid[:, 1:-degree])
        bases = rising * bases[:, :, :-1] + falling * bases[:, :, 1:]
    return bases


def plain_kan_linear(
    x: Tensor,
    grid: Tensor,
    base_weight: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor,
    order: int,
) -> Tensor:
    """Arguments and result are those of ``models.kan_function.kan_linear``."""
    with torch.autocast(x.device.type, enabled=False):
        bases = plain_bases(x, grid, order)
        scaled = spline_weight * spline_scaler[:, :, None]
        return F.silu(x) @ base_weight.T + bases.flatten(1) @ scaled.flatten(1).T
