"""The KAN layer as one operator that is lean in memory, ``volunet::kan_linear``.

For weights w (spline_weight), scalers s and bases b = 1..m of channel i the layer is

    y_o = sum_i base_weight_oi * SiLU(x_i) + sum_i sum_b (w_oib * s_oi) * B_ib(x_i),

so its gradients, with g = dL/dy, are sums over the rows r of

    dL/dw_oib = s_oi * sum_r g_ro B_ib(x_ri),    dL/ds_oi = sum_b w_oib * sum_r g_ro B_ib(x_ri),
    dL/dx_ri = sum_b B'_ib(x_ri) * sum_o g_ro w_oib s_oi + the part through SiLU.

Every sum over channels falls into blocks of channels (``models.kan_blocks``). Only one block's
bases and scaled weights exist at a time; the backward pass computes them again rather than keeping
them, and writes each block's gradients where they belong. What is kept between the passes is the
input alone. On a processor, bases that are 0 at every input are left out of all products.

Both passes are operators that ``torch.compile`` calls and does not look into. Second derivatives,
``vmap`` and a gradient of the grid do not exist: each is refused with a sentence.
"""

from __future__ import annotations

from typing import Any, Sequence  # noqa: UP035 -- PyTorch 2.6 knows no other name for operators

import torch
import torch.nn.functional as F
from torch import Tensor

from models.kan_blocks import make_blocks


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
        blocks = make_blocks(x, grid, spline_weight, spline_scaler, spline_order)
        for channels, bases in blocks:
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
    needed: Sequence[bool],
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
        blocks = make_blocks(x, grid, spline_weight, spline_scaler, spline_order)
        through_bases = x.new_empty(x.shape[1], len(x)) if needed[0] else None
        for channels, bases in blocks:
            if through_bases is not None:
                of_bases = blocks.scaled_weight(channels).T @ turned
                blocks.slope(channels, of_bases, through_bases[channels])
            if needed[2] or needed[3]:
                of_scaled = turned @ bases.T
                weight = of_weight if needed[2] else None
                blocks.unscale(channels, of_scaled, weight, of_scaler if needed[3] else None)
        if through_bases is not None:
            of_x += through_bases.T
    return of_x, of_base, of_weight, of_scaler


def _gradients(
    x: Tensor,
    base_weight: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor,
    needed: Sequence[bool],
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
    needed: Sequence[bool],
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
