"""The KAN layer as one operator that is lean in memory, ``volunet::kan_linear``.

For weights w (spline_weight), scalers s and bases b = 1..m of channel i the layer is

    y_o = sum_i base_weight_oi * SiLU(x_i) + sum_i sum_b (w_oib * s_oi) * B_ib(x_i),

so its gradients, with g = dL/dy, are sums over the rows r of

    dL/dw_oib = s_oi * sum_r g_ro B_ib(x_ri),    dL/ds_oi = sum_b w_oib * sum_r g_ro B_ib(x_ri),
    dL/dx_ri = sum_b B'_ib(x_ri) * sum_o g_ro w_oib s_oi + the part through SiLU.

Every sum over channels falls into blocks of channels. Only one block's bases and scaled weights
exist at a time; the backward pass computes them again rather than keeping them, and writes each
block's gradients where they belong. What is kept between the passes is the input alone.

Both passes are operators that ``torch.compile`` calls and does not look into. Second derivatives,
``vmap`` and a gradient of the grid do not exist: each is refused with a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.bspline import ChannelBases

# Numbers in each buffer of a block of channels. A processor's buffers should stay in its cache; a
# GPU wants few and large operations.
BLOCK_NUMBERS = {"cpu": 2**19, "other": 2**24}
FEWEST_CHANNELS = 8


def block_size(rows: int, outputs: int, channels: int, knots: int, device: torch.device) -> int:
    """Channels of a block, so that all blocks are of about equal size."""
    numbers = BLOCK_NUMBERS["cpu" if device.type == "cpu" else "other"]
    size = max(numbers // (knots * (rows + outputs)), FEWEST_CHANNELS)
    return math.ceil(channels / math.ceil(channels / size))


class _Blocks:
    """Walks through the channels of a layer, block by block, in buffers made once."""

    def __init__(
        self, x: Tensor, grid: Tensor, spline_weight: Tensor, spline_scaler: Tensor, order: int
    ) -> None:
        rows, channels = x.shape
        outputs = len(spline_weight)
        size = block_size(rows, outputs, channels, grid.shape[1], x.device)
        self.x = x.T.contiguous()
        self.weight = spline_weight
        self.scaler = spline_scaler
        self.bases = ChannelBases(grid, order, size, rows)
        self.size = size
        self._scaled = spline_weight.new_empty(outputs * size * spline_weight.shape[2])

    def __iter__(self) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """Channels of a block, their bases (channels * bases, rows), and what ``slope`` needs."""
        for block, x in enumerate(torch.split(self.x, self.size)):
            bases, quotients = self.bases(x, block)
            start = block * self.size
            yield slice(start, start + len(x)), bases.flatten(0, 1), quotients

    def scaled_weight(self, channels: slice) -> Tensor:
        """Spline weights of some channels times their scalers, (out, channels * bases)."""
        weight = self.weight[:, channels]
        scaled = self._scaled[: weight.numel()].view(weight.shape)
        # Spread the scalers first: a product with a broadcast last dimension is several times
        # slower than copying and multiplying.
        scaled.copy_(self.scaler[:, channels].unsqueeze(-1).expand_as(weight))
        return scaled.mul_(weight).flatten(1)


@torch.library.custom_op("volunet::kan_linear", mutates_args=())
def _kan_linear(
    x: Tensor,
    grid: Tensor,
    base_weight: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor,
    spline_order: int,
) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        y = base_weight @ F.silu(x).T
        blocks = _Blocks(x, grid, spline_weight, spline_scaler, spline_order)
        for channels, bases, _ in blocks:
            y.addmm_(blocks.scaled_weight(channels), bases)
        return y.T.contiguous()


@_kan_linear.register_fake
def _(
    x: Tensor,
    grid: Tensor,  # noqa: ARG001
    base_weight: Tensor,
    spline_weight: Tensor,  # noqa: ARG001
    spline_scaler: Tensor,  # noqa: ARG001
    spline_order: int,  # noqa: ARG001
) -> Tensor:
    return x.new_empty(x.shape[0], base_weight.shape[0])


@torch.library.custom_op("volunet::kan_linear_backward", mutates_args=())
def _kan_linear_backward(
    gradient: Tensor,
    x: Tensor,
    grid: Tensor,
    base_weight: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor,
    spline_order: int,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the input, base weights, spline weights and scalers; empty if not needed."""
    of_x, of_base, of_weight, of_scaler = _gradients(
        x, base_weight, spline_weight, spline_scaler, needed
    )
    with torch.autocast(x.device.type, enabled=False):
        turned = gradient.T.contiguous()
        if needed[1]:
            torch.mm(turned, F.silu(x), out=of_base)
        if needed[0]:
            torch.mm(gradient, base_weight, out=of_x)
            of_x.copy_(torch.ops.aten.silu_backward(of_x, x))
        if not (needed[0] or needed[2] or needed[3]):
            return of_x, of_base, of_weight, of_scaler
        blocks = _Blocks(x, grid, spline_weight, spline_scaler, spline_order)
        product = torch.empty_like(blocks._scaled)
        for channels, bases, quotients in blocks:
            weight, scaler = spline_weight[:, channels], spline_scaler[:, channels]
            if needed[0] and quotients is not None:
                of_bases = blocks.scaled_weight(channels).T @ turned
                of_bases = of_bases.view(*weight.shape[1:], len(x))
                slope = blocks.bases.slope(quotients, of_bases)
                of_x[:, channels] += slope.T
            if not (needed[2] or needed[3]):
                continue
            of_scaled = product[: weight.numel()].view(weight.shape)
            torch.mm(turned, bases.T, out=of_scaled.flatten(1))
            if needed[2]:
                part = of_weight[:, channels]
                part.copy_(scaler.unsqueeze(-1).expand_as(weight)).mul_(of_scaled)
            if needed[3]:
                of_scaler[:, channels] = of_scaled.mul_(weight).sum(-1)
    return of_x, of_base, of_weight, of_scaler


def _gradients(
    x: Tensor, base_weight: Tensor, spline_weight: Tensor, spline_scaler: Tensor, needed: list[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where gradients will be written; (0,) for those that are not needed."""
    x, base_weight, spline_weight, spline_scaler = (
        tensor.new_empty(tensor.shape if wanted else (0,))
        for tensor, wanted in zip(
            (x, base_weight, spline_weight, spline_scaler), needed, strict=True
        )
    )
    return x, base_weight, spline_weight, spline_scaler


@_kan_linear_backward.register_fake
def _(
    gradient: Tensor,  # noqa: ARG001
    x: Tensor,
    grid: Tensor,  # noqa: ARG001
    base_weight: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor,
    spline_order: int,  # noqa: ARG001
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _gradients(x, base_weight, spline_weight, spline_scaler, needed)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    *tensors, ctx.spline_order = inputs
    if tensors[1].requires_grad:
        raise NotImplementedError("A KAN layer gives no gradient of its grid; detach the grid.")
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    needed = [wanted for index, wanted in enumerate(ctx.needs_input_grad[:5]) if index != 1]
    found = _kan_linear_backward(gradient, *ctx.saved_tensors, ctx.spline_order, needed)
    of_x, *of_weights = (
        part if wanted else None for part, wanted in zip(found, needed, strict=True)
    )
    return of_x, None, *of_weights, None


def _no_second_derivative(ctx: Any, *gradients: Tensor) -> None:
    raise NotImplementedError(
        "A KAN layer has no second derivative; differentiate models.bspline.bspline_basis instead."
    )


def _no_vmap(*arguments: object) -> Any:
    raise NotImplementedError("A KAN layer takes rows in one call, not through vmap.")


_kan_linear.register_autograd(_backward, setup_context=_keep)
_kan_linear_backward.register_autograd(_no_second_derivative)
_kan_linear.register_vmap(_no_vmap)
_kan_linear_backward.register_vmap(_no_vmap)


def kan_linear(
    x: Tensor,
    grid: Tensor,
    base_weight: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor,
    spline_order: int,
) -> Tensor:
    """Apply a KAN layer, blockwise; autocast does not reach inside.

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
        NotImplementedError: On a gradient of the grid, a second derivative and ``vmap``.
    """
    y: Tensor = _kan_linear(x, grid, base_weight, spline_weight, spline_scaler, spline_order)
    return y
