"""KAN layers against SciPy, the golden numbers of efficient-kan and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from models.bspline import bspline_basis
from models.kan import KANLinear, WICClassifier

PARAMETERS = ("base_weight", "spline_weight", "spline_scaler")


@pytest.fixture(scope="module")
def kan(golden: Any) -> dict[str, Any]:
    return golden("kan.npz")  # type: ignore[no-any-return]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bases_equal_scipy(order: int) -> None:
    """Half-open on every knot, also on a grid that is not uniform."""
    rng = np.random.default_rng(order)
    knots = np.cumsum(rng.uniform(0.1, 1.0, 12)) - 3
    inner = knots[order : len(knots) - order]
    x = np.concatenate([rng.uniform(inner[0], inner[-1], 200), inner[:-1]])
    expected = BSpline.design_matrix(x, knots, order).toarray()
    basis = bspline_basis(torch.from_numpy(x)[:, None], torch.from_numpy(knots)[None], order)
    np.testing.assert_allclose(basis[:, 0].numpy(), expected, atol=1e-12)


def test_bases_vanish_outside_the_knots() -> None:
    grid = KANLinear(1, 1).grid
    x = torch.tensor([[-2.21], [2.21], [60.0], [-1e4]])
    assert bspline_basis(x, grid, 3).eq(0).all()


def test_basis_table_equals_the_golden_one(kan: dict[str, Any]) -> None:
    basis = bspline_basis(torch.from_numpy(kan["bspline_x"])[:, None], KANLinear(1, 1).grid, 3)
    np.testing.assert_allclose(basis[:, 0], kan["bspline_table"], atol=1e-6)


def _assert_close(actual: Tensor, expected: Any, share: float) -> None:
    assert np.abs(actual.detach().numpy() - expected).max() <= share * np.abs(expected).max()


@pytest.mark.parametrize("name", ["init", "wide", "extreme"])
def test_layer_equals_the_golden_one(kan: dict[str, Any], name: str) -> None:
    state = {key: torch.from_numpy(kan[f"{name}_state_{key}"]) for key in ("grid", *PARAMETERS)}
    out_features, in_features = state["base_weight"].shape
    layer = KANLinear(in_features, out_features)
    assert torch.equal(layer.grid, state["grid"])
    layer.load_state_dict(state)
    x = torch.from_numpy(kan[f"{name}_x"]).requires_grad_()
    y = layer(x)
    y.backward(torch.from_numpy(kan[f"{name}_grad_y"]))
    for row, expected in zip(y, kan[f"{name}_y"], strict=True):
        _assert_close(row, expected, 2e-5)
    assert x.grad is not None
    _assert_close(x.grad, kan[f"{name}_grad_x"], 5e-5)
    for key in PARAMETERS:
        _assert_close(getattr(layer, key).grad, kan[f"{name}_grad_{key}"], 5e-5)


def test_fresh_weights_spread_as_the_golden_ones(kan: dict[str, Any]) -> None:
    shape = int(kan["init_in_features"]), int(kan["init_out_features"])
    spreads = []
    for seed in range(4):
        torch.manual_seed(seed)
        layer = KANLinear(*shape)
        spreads.append(
            [
                layer.base_weight.std().item(),
                layer.spline_scaler.std().item(),
                *layer.spline_weight.std((0, 1)).tolist(),
            ]
        )
    expected = np.r_[
        kan["init_base_weight_std"],
        kan["init_spline_scaler_std"],
        kan["init_spline_weight_std_per_basis"],
    ]
    np.testing.assert_allclose(np.mean(spreads, axis=0), expected, rtol=0.02)


def test_fresh_splines_pass_through_small_noise_at_the_knots() -> None:
    """The fit is exact there, and of the least norm that SciPy's solver finds."""
    torch.manual_seed(0)
    layer = KANLinear(3, 2)
    knots = layer.grid[0, 3:-3].numpy()
    at_knots = bspline_basis(torch.from_numpy(knots)[:, None], layer.grid[:1], 3)[:, 0].numpy()
    values = layer.spline_weight.detach().numpy() @ at_knots.T
    assert np.abs(values).max() <= 0.5 * 0.1 / 5 + 1e-6
    least_norm = np.linalg.lstsq(at_knots, values.reshape(-1, 6).T, rcond=None)[0].T
    np.testing.assert_allclose(layer.spline_weight.detach().reshape(-1, 8), least_norm, atol=1e-6)


def test_gradients_against_finite_differences() -> None:
    torch.manual_seed(0)
    layer = KANLinear(3, 2)
    names = [name for name, _ in layer.named_parameters()]
    weights = [p.detach().double().requires_grad_() for p in layer.parameters()]
    grid = layer.grid.double()
    x = (torch.rand(4, 3, dtype=torch.float64) * 3 - 1.5).requires_grad_()

    def output(x: Tensor, *values: Tensor) -> Any:
        given = {**dict(zip(names, values, strict=True)), "grid": grid}
        return torch.func.functional_call(layer, given, (x,))

    assert torch.autograd.gradcheck(output, (x, *weights))


def test_autocast_changes_nothing() -> None:
    torch.manual_seed(0)
    layer = KANLinear(6, 4)
    x = torch.randn(5, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, layer(x))


def test_state_dict_has_the_names_of_efficient_kan() -> None:
    head = WICClassifier((4, 3))
    assert set(head.state_dict()) == {f"layers.0.{key}" for key in ("grid", *PARAMETERS)}
    assert head.layers[0].grid.shape == (4, 12)
    assert head.layers[0].spline_weight.shape == (3, 4, 8)


@pytest.mark.parametrize("settings", [{"grid_size": 0}, {"spline_order": -1}])
def test_impossible_grids_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="grid_size >= 1 and spline_order >= 0"):
        KANLinear(2, 2, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="empty"):
        KANLinear(2, 2, grid_range=(1.0, 1.0))


def test_a_grid_update_keeps_the_function_where_the_inputs_are() -> None:
    torch.manual_seed(0)
    layer = KANLinear(6, 4, scale_noise=3.0)
    x = torch.rand(400, 6) ** 2 * 1.6 - 0.8
    before = layer(x)
    layer.update_grid(x)
    spread = before.std().item()
    assert (layer(x) - before).abs().max() < 0.1 * spread
    assert (layer.grid.diff(dim=1) > 0).all()
    inner = layer.grid[:, 3:-3]
    assert (inner[:, 0] < x.amin(0)).all()
    assert (inner[:, -1] > x.amax(0)).all()
    # Half of the inputs are below the middle knots, wherever the inputs crowd.
    shares = (x[:, :, None] < inner[:, 1:-1]).float().mean(0)
    np.testing.assert_allclose(shares.mean(0), [0.2, 0.4, 0.6, 0.8], atol=0.03)


def test_a_grid_update_survives_channels_that_never_change() -> None:
    layer = KANLinear(2, 3)
    x = torch.rand(50, 2)
    x[:, 1] = 0
    layer.update_grid(x)
    assert (layer.grid.diff(dim=1) > 0).all()
    assert torch.isfinite(layer(x)).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_grid_update_refuses_non_finite_inputs(value: float) -> None:
    layer = KANLinear(2, 3)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    x = torch.rand(50, 2)
    x[3, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        layer.update_grid(x)
    with pytest.raises(ValueError, match="at least 8 rows of inputs, not 5"):
        layer.update_grid(x[:5].nan_to_num())
    assert all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())


def test_inputs_outside_the_grid_are_counted() -> None:
    layer = KANLinear(3, 1)
    x = torch.tensor([[-1.01, 0.0, 0.99], [1.0, 2.19, 2.21], [-2.3, -1.0, 60.0]])
    partly, wholly = layer.outside_grid(x)
    assert (partly.tolist(), wholly.tolist()) == ([1, 3, 2], [0, 1, 2])
