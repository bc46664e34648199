"""The KAN layer as an autograd function over blocks of channels, which keeps only its input.

With weights w, scalers s and bases B of channel i, the layer is

    y_o = sum_i base_weight_oi * SiLU(x_i) + sum_i sum_b (w_oib * s_oi) * B_ib(x_i).

Its sums over channels fall into blocks. Only one block's bases and scaled weights exist at a time,
and the backward pass computes them again, so the memory of a training step is little more than that
of parameters, gradients and optimizer state.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.bspline import bspline_basis

# Elements of each temporary tensor: those of a CPU should fit its cache, a GPU wants large kernels.
CPU_BLOCK, GPU_BLOCK = 2**20, 2**24
MIN_CHANNELS = 8


def _blocks(x: Tensor, grid: Tensor, outputs: int) -> Iterator[slice]:
    """Yield the channels of each block."""
    elements = CPU_BLOCK if x.is_cpu else GPU_BLOCK
    size = max(elements // (grid.shape[1] * (len(x) + outputs)), MIN_CHANNELS)
    for start in range(0, x.shape[1], size):
        yield slice(start, start + size)


def bases_and_slopes(x: Tensor, grid: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Evaluate B-spline bases and their derivatives, without a gradient.

    The quotients S_{p,j} = B_{p-1,j} / (t_{j+p} - t_j) of the recursion serve both:

        B_{p,j} = (x - t_j) * S_{p,j} - (x - t_{j+p+1}) * S_{p,j+1},
        B'_{p,j} = p * (S_{p,j} - S_{p,j+1}).

    Args:
        x: (channels, rows), contiguous: twice as fast.
        grid: (channels, knots), ascending.
        order: Degree.

    Returns:
        Bases and slopes, both (channels, knots - order - 1, rows).
    """
    knots = grid.unsqueeze(-1)
    offset = x.unsqueeze(1) - knots
    if order < 2:
        basis = ((offset[:, :-1] >= 0) & (offset[:, 1:] < 0)).to(x.dtype)
    else:
        # Degree 1 has no jumps, so it needs no comparisons: with the position within interval j
        # clamped to 0..1, c_j, the hat over intervals j and j + 1 is c_j - c_{j+1}.
        position = (offset[:, :-1] * (knots[:, 1:] - knots[:, :-1]).reciprocal()).clamp_(0, 1)
        basis = position[:, :-1] - position[:, 1:]
    if order == 0:
        return basis, torch.zeros_like(basis)
    for degree in range(min(order, 2), order + 1):
        quotient = basis.mul_((knots[:, degree:] - knots[:, :-degree]).reciprocal())
        basis = offset[:, : -degree - 1] * quotient[:, :-1]
        basis.addcmul_(offset[:, degree + 1 :], quotient[:, 1:], value=-1)
    return basis, (quotient[:, :-1] - quotient[:, 1:]).mul_(order)


def active_bases(x: Tensor, grid: Tensor, order: int) -> slice:
    """Find the bases that some input of x (rows, in) can reach: at least one.

    Features after a ReLU are never negative, and two of the default grid's eight bases end below 0.
    All count on a GPU, where the host would wait for the answer, and if an input is not finite.
    """
    count = grid.shape[1] - order - 1
    if not x.is_cpu or not x.numel() or not x.isfinite().all():
        return slice(0, count)
    low, high = x.aminmax()  # basis j reaches from knot j to knot j + order + 1
    first = min(int((grid.amax(dim=0)[order + 1 :] <= low).sum()), count - 1)
    beyond = int((grid.amin(dim=0)[:count] > high).sum())
    return slice(first, max(count - beyond, first + 1))


class _KANFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, grid: Tensor, base: Tensor, spline: Tensor, scaler: Tensor, order: int
    ) -> Tensor:
        if ctx.needs_input_grad[1]:
            raise NotImplementedError("A KAN layer gives no gradient of its grid; detach the grid.")
        ctx.order, ctx.active = order, active_bases(x, grid, order)
        grid = grid[:, ctx.active.start : ctx.active.stop + order + 1]
        ctx.save_for_backward(x, grid, base, spline, scaler)
        y = F.linear(F.silu(x), base)
        for block in _blocks(x, grid, len(base)):
            bases, _ = bases_and_slopes(x[:, block].T.contiguous(), grid[block], order)
            scaled = spline[:, block, ctx.active] * scaler[:, block, None]
            y.addmm_(bases.flatten(0, 1).T, scaled.flatten(1).T)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True
            raise NotImplementedError(
                "A KAN layer has no second derivative; differentiate models.bspline.bspline_basis."
            )
        x, grid, base, spline, scaler = ctx.saved_tensors
        needs_x, _, *needs_weights, _ = ctx.needs_input_grad
        grad_x = grad_base = grad_spline = grad_scaler = None
        with torch.autocast(x.device.type, enabled=False):
            # SiLU branch.
            sigmoid = x.sigmoid()
            if needs_x:
                grad_x = (grad_y @ base) * sigmoid * (1 + x * (1 - sigmoid))
            if any(needs_weights):
                grad_base = grad_y.T @ (x * sigmoid)
                grad_spline, grad_scaler = torch.zeros_like(spline), torch.empty_like(scaler)
            # Spline branch.
            turned = grad_y.T.contiguous()
            for block in _blocks(x, grid, len(base)):
                bases, slopes = bases_and_slopes(x[:, block].T.contiguous(), grid[block], ctx.order)
                weight, factor = spline[:, block, ctx.active], scaler[:, block, None]
                if grad_x is not None:
                    grad_bases = ((weight * factor).flatten(1).T @ turned).view(slopes.shape)
                    grad_x[:, block] += (grad_bases * slopes).sum(1).T
                if grad_spline is not None and grad_scaler is not None:
                    grad_scaled = (turned @ bases.flatten(0, 1).T).view(weight.shape)
                    torch.mul(grad_scaled, factor, out=grad_spline[:, block, ctx.active])
                    torch.sum(grad_scaled.mul_(weight), -1, out=grad_scaler[:, block])
        return grad_x, None, grad_base, grad_spline, grad_scaler, None


def kan_linear(
    x: Tensor,
    grid: Tensor,
    base_weight: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor,
    spline_order: int,
) -> Tensor:
    """Apply a KAN layer in the precision of its weights; autocast does not reach inside.

    Compiled and exported graphs hold the plain expression, of operators that all programs know.

    Args:
        x: (rows, in), of the weights' type.
        grid: Knots (in, bases + spline_order + 1), ascending.
        base_weight: (out, in).
        spline_weight: (out, in, bases).
        spline_scaler: (out, in).
        spline_order: Degree of the splines.

    Returns:
        (rows, out).

    Raises:
        NotImplementedError: If a gradient of the grid or a second derivative is asked for.
    """
    with torch.autocast(x.device.type, enabled=False):
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[no-untyped-call,attr-defined]
            bases = bspline_basis(x, grid, spline_order)
            scaled = spline_weight * spline_scaler.unsqueeze(-1)
            return F.linear(F.silu(x), base_weight) + F.linear(bases.flatten(1), scaled.flatten(1))
        y: Tensor = _KANFunction.apply(
            x, grid, base_weight, spline_weight, spline_scaler, spline_order
        )
        return y
