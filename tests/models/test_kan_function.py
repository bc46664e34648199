"""The blockwise KAN layer against the plain layer and finite differences."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import pytest
import torch
from plain_kan import plain_bases, plain_kan_linear
from torch import Tensor

from models import kan_function
from models.kan import KANLinear
from models.kan_function import active_bases, bases_and_slopes, kan_linear

Arguments = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, int]


def _arguments(
    rows: int,
    channels: int,
    outputs: int,
    *,
    order: int = 3,
    intervals: int = 5,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Arguments:
    """A layer on uneven knots that differ by channel; inputs in, on the edge of and out of them."""
    torch.manual_seed(seed)
    bases = intervals + order
    gaps = torch.rand(channels, bases + order + 1, dtype=dtype) + 0.2
    grid = gaps.cumsum(1) - 0.5 * gaps.sum(1, keepdim=True)
    x = torch.randn(rows, channels, dtype=dtype) * 2
    weights = [
        torch.randn(shape, dtype=dtype).requires_grad_()
        for shape in ((outputs, channels), (outputs, channels, bases), (outputs, channels))
    ]
    return x.requires_grad_(), grid, weights[0], weights[1], weights[2], order


def _results(function: Any, arguments: Arguments, gradient: Tensor) -> list[Tensor]:
    """Output and the four gradients."""
    y = function(*arguments)
    inputs = [part for part in arguments[:5] if part.requires_grad]
    return [y.detach(), *torch.autograd.grad(y, inputs, gradient)]


def _assert_same(arguments: Arguments, rtol: float = 1e-9, atol: float = 1e-9) -> None:
    gradient = torch.randn(len(arguments[0]), len(arguments[2])).to(arguments[0])
    expected = _results(plain_kan_linear, arguments, gradient)
    for ours, theirs in zip(_results(kan_linear, arguments, gradient), expected, strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True, rtol=rtol, atol=atol)


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (0, 3, 2), (7, 5, 4), (33, 130, 3), (5, 67, 300)])
def test_output_and_gradients_equal_the_plain_layer(
    order: int, sizes: tuple[int, int, int]
) -> None:
    _assert_same(_arguments(*sizes, order=order, seed=order))


@pytest.mark.parametrize("seed", range(5))
def test_random_sizes_equal_the_plain_layer(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the last block of channels is smaller than the others."""
    generator = torch.Generator().manual_seed(seed)
    rows, channels, outputs, intervals = torch.randint(1, 60, (4,), generator=generator).tolist()
    monkeypatch.setattr(kan_function, "CPU_BLOCK", 1)
    monkeypatch.setattr(kan_function, "MIN_CHANNELS", 1 + seed * 3)
    _assert_same(_arguments(rows, channels, outputs, intervals=1 + intervals // 8, seed=seed))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_single_precision_on_the_even_grid_equals_the_plain_layer(order: int) -> None:
    torch.manual_seed(0)
    layer = KANLinear(300, 9, spline_order=order, scale_noise=3.0)
    x = (torch.randn(40, 300) * 1.5).requires_grad_()
    weights = (layer.base_weight, layer.spline_weight, layer.spline_scaler)
    _assert_same((x, layer.grid, *weights, order), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_inputs_on_knots_belong_to_the_interval_on_their_right(order: int) -> None:
    _, grid, base, spline, scaler, _ = _arguments(1, 6, 4, order=order)
    x = grid.T.contiguous().requires_grad_()
    _assert_same((x, grid, base, spline, scaler, order))


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_spreads_as_in_the_plain_layer(order: int, value: float) -> None:
    arguments = _arguments(6, 5, 4, order=order)
    with torch.no_grad():
        arguments[0][2, 3] = value
    _assert_same(arguments)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("low", [-4.0, -1.1, 0.0, 0.7, 3.0])
def test_only_bases_that_are_zero_everywhere_are_left_out(order: int, low: float) -> None:
    grid = (torch.arange(6 + 2 * order) * 0.4 - 1 - 0.4 * order).expand(4, -1).contiguous()
    torch.manual_seed(0)
    x = low + 0.9 * torch.rand(4000, 4)
    reached = plain_bases(x, grid, order).abs().amax(dim=(0, 1)) > 1e-12
    kept = torch.zeros_like(reached)
    kept[active_bases(x, grid, order)] = True
    assert not (reached & ~kept).any()
    if reached.any():
        assert torch.equal(reached, kept)
    sizes = ((3, 4), (3, 4, len(reached)), (3, 4))
    base, spline, scaler = (torch.randn(size).requires_grad_() for size in sizes)
    _assert_same((x.requires_grad_(), grid, base, spline, scaler, order), rtol=1e-3, atol=1e-3)


def test_a_relus_features_leave_two_of_eight_bases_out() -> None:
    grid = KANLinear(3, 2).grid
    x = torch.rand(50, 3)
    assert active_bases(x, grid, 3) == slice(2, 8)
    x[4, 1] = torch.inf
    assert active_bases(x, grid, 3) == slice(0, 8)


def test_bases_sum_to_one_inside_and_vanish_outside() -> None:
    grid = _arguments(1, 3, 1)[1]
    share = torch.linspace(0, 1, 50, dtype=torch.float64)[:-1]
    inside = grid[:, 3:4] + share * (grid[:, 8:9] - grid[:, 3:4])
    bases, slopes = bases_and_slopes(inside, grid, 3)
    torch.testing.assert_close(bases.sum(1), torch.ones(3, 49, dtype=torch.float64))
    torch.testing.assert_close(slopes.sum(1), torch.zeros(3, 49, dtype=torch.float64))
    outside = torch.stack([grid[:, 0] - 1e-9, grid[:, -1], grid[:, -1] + 1e6], dim=1)
    bases, _ = bases_and_slopes(outside, grid, 3)
    assert bases.abs().max() < 1e-12
    torch.testing.assert_close(
        bases.permute(2, 0, 1), plain_bases(outside.T, grid, 3), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
def test_slopes_are_the_derivatives_of_the_bases(order: int) -> None:
    x, grid, *_ = _arguments(20, 3, 1, order=order)
    _, slopes = bases_and_slopes(x.detach().T.contiguous(), grid, order)
    for index, slope in enumerate(slopes.unbind(1)):
        basis = plain_bases(x, grid, order)[:, :, index]
        expected = torch.zeros_like(x)
        if order:
            (expected,) = torch.autograd.grad(basis.sum(), x)
        torch.testing.assert_close(slope.T, expected)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_gradients_against_finite_differences(order: int) -> None:
    tensors = _arguments(4, 3, 2, order=order)[:5]
    assert torch.autograd.gradcheck(partial(kan_linear, spline_order=order), tensors)


@pytest.mark.parametrize("needed", list(itertools.product([False, True], repeat=4)))
def test_only_gradients_that_are_asked_for_are_given(needed: tuple[bool, ...]) -> None:
    arguments = _arguments(6, 5, 4)
    x, _, *weights = arguments[:5]
    gradient = torch.randn(6, 4, dtype=torch.float64)
    everything = _results(kan_linear, arguments, gradient)[1:]
    expected = [part for part, wanted in zip(everything, needed, strict=True) if wanted]
    for tensor, wanted in zip((x, *weights), needed, strict=True):
        tensor.requires_grad_(wanted)
    if not any(needed):
        assert not kan_linear(*arguments).requires_grad
        return
    found = _results(kan_linear, arguments, gradient)[1:]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_autocast_does_not_reach_inside() -> None:
    torch.manual_seed(0)
    layer = KANLinear(40, 6, scale_noise=3.0)
    x = torch.randn(12, 40)
    gradients = []
    for enabled in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            y = layer(x)
            assert y.dtype == torch.float32
            y.square().sum().backward()
        gradients.append([y.detach(), *(p.grad for p in layer.parameters())])
    for plain, mixed in zip(*gradients, strict=True):
        assert torch.equal(plain, mixed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_inputs_get_bases_of_full_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = KANLinear(40, 6)
    x = torch.randn(12, 40).to(dtype)
    assert torch.equal(layer(x), layer(x.float()))


def test_a_layer_compiles_to_one_graph() -> None:
    torch.manual_seed(0)
    layer = KANLinear(20, 6, scale_noise=3.0)
    x = torch.randn(12, 20)
    torch._dynamo.reset()
    gradients = []
    for function in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True)):
        layer.zero_grad()
        given = x.clone().requires_grad_()
        y = function(given)
        y.square().sum().backward()
        gradients.append([y.detach(), given.grad, *(p.grad for p in layer.parameters())])
    for plain, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, compiled)


def _saved_numbers(function: Any, x: Tensor, known: list[Tensor]) -> int:
    """How many numbers the forward pass keeps, beyond tensors that exist anyway."""
    given = {tensor.untyped_storage().data_ptr() for tensor in known}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in given:
            kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function(x)
    assert result.requires_grad
    return sum(kept.values())


def test_only_the_input_is_kept_for_the_backward_pass() -> None:
    layer = KANLinear(50, 6)
    known = [*layer.parameters(), layer.grid]
    weights = (layer.base_weight, layer.spline_weight, layer.spline_scaler)
    x = torch.randn(30, 50, requires_grad=True)
    assert _saved_numbers(layer, x, known) == x.numel()

    def plain(x: Tensor) -> Tensor:
        return plain_kan_linear(x, layer.grid, *weights, 3)

    # The recursion keeps several tensors of every basis, and the scaled spline weights.
    assert _saved_numbers(plain, x, known) > 8 * x.numel() + layer.spline_weight.numel()


def test_missing_derivatives_are_refused() -> None:
    x, grid, base, spline, scaler, order = _arguments(4, 3, 2)
    with pytest.raises(NotImplementedError, match="no gradient of its grid"):
        kan_linear(x, grid.clone().requires_grad_(), base, spline, scaler, order)
    y = kan_linear(x, grid, base, spline, scaler, order)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


def test_exported_layers_consist_of_ordinary_operators() -> None:
    torch.manual_seed(0)
    layer = KANLinear(7, 4, scale_noise=3.0).eval()
    x, other = torch.randn(5, 7), torch.randn(9, 7)
    traced = torch.jit.trace(layer, x)  # type: ignore[no-untyped-call]
    assert "PythonOp" not in str(traced.inlined_graph)
    rows = torch.export.Dim("rows", min=1, max=64)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: rows},))
    assert "autograd_function" not in str(program.graph)
    for exported in (traced, program.module()):
        torch.testing.assert_close(exported(other), layer(other))


@pytest.mark.parametrize("rows", [0, 1, 160, 100_000])
@pytest.mark.parametrize("outputs", [1, 15, 5016])
def test_blocks_cover_the_channels_within_their_size(rows: int, outputs: int) -> None:
    x, grid = torch.empty(1, 1).expand(rows, 2432), torch.empty(1, 1).expand(2432, 12)
    channels = torch.arange(2432)
    blocks = [channels[block] for block in kan_function._blocks(x, grid, outputs)]
    assert torch.equal(torch.cat(blocks), channels)
    size = max(map(len, blocks))
    fits = size * 12 * (rows + outputs) <= kan_function.CPU_BLOCK
    assert fits or size == kan_function.MIN_CHANNELS


def test_weights_of_a_single_input_in_any_layout() -> None:
    """A dimension of size 1 may have any stride."""
    torch.manual_seed(0)
    x = torch.randn(6, 1)
    grid = torch.arange(12).float().mul(0.4).sub(2.2)[None]
    base, scaler, spline = torch.randn(5, 1), torch.randn(5, 1), torch.randn(1, 5, 8)
    arguments = (x, grid, base, spline.transpose(0, 1), scaler, 3)
    torch.testing.assert_close(kan_linear(*arguments), plain_kan_linear(*arguments))
