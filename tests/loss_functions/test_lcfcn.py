"""LCFCN's loss against numbers of the released code, and against a plain version."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import GOLDEN, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_lcfcn import plain_loss, plain_terms
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import find_boundaries, watershed

from loss_functions import LCFCNLoss, flooding
from loss_functions.lcfcn import black_top_hat, blobs, lcfcn_terms

Array = npt.NDArray[Any]


def cases(name: str) -> list[str]:
    """The names of the cases in a file of golden numbers."""
    with np.load(GOLDEN / "count" / f"{name}.npz") as arrays:
        names: list[str] = json.loads(str(arrays["cases"]))
    return names


@pytest.fixture(scope="module")
def released(golden: Callable[[str], Any]) -> dict[str, Any]:
    arrays: dict[str, Any] = golden("count/lcfcn.npz")
    return arrays


def loss_and_gradient(logits: Array, points: Array, **settings: Any) -> tuple[float, Array]:
    """Loss and gradient of one image, logits (C, H, W)."""
    tensor = torch.from_numpy(logits)[None].requires_grad_()
    roi = settings.pop("roi", None)
    roi = None if roi is None else torch.from_numpy(roi)[None]
    loss = LCFCNLoss(**settings)(tensor, torch.from_numpy(points)[None], roi)
    loss.backward()
    assert tensor.grad is not None
    assert loss.dtype == torch.float32
    return loss.item(), tensor.grad[0].numpy()


def assert_same_terms(p: Array, points: Array, roi: Array | None = None) -> None:
    """Ours are the plain version's, pixel by pixel."""
    ours, plain = lcfcn_terms(p, points, roi), plain_terms(p, points, roi)
    assert [term[:2] for term in ours] == [term[:2] for term in plain]
    for own, other in zip(ours, plain, strict=True):
        np.testing.assert_array_equal(own.indices, other[2], err_msg=own.kind)
        assert own.indices.dtype == np.int64
        assert own.target == other[3]


# Golden numbers.


@pytest.mark.parametrize("case", cases("lcfcn"))
def test_terms_equal_the_released_ones(released: dict[str, Any], case: str) -> None:
    terms = lcfcn_terms(
        torch.from_numpy(released[f"{case}/probabilities"]).requires_grad_(),
        torch.from_numpy(released[f"{case}/points"]),
        released.get(f"{case}/roi"),
    )
    assert [term.kind for term in terms] == json.loads(str(released[f"{case}/kinds"]))
    table = [(term.scale, term.target, term.indices.size) for term in terms]
    np.testing.assert_array_equal(np.array(table), released[f"{case}/terms"])
    for number, term in enumerate(terms):
        np.testing.assert_array_equal(term.indices, released[f"{case}/indices{number}"])


@pytest.mark.parametrize("mode", ["released", "multiclass"])
@pytest.mark.parametrize("case", cases("lcfcn"))
def test_loss_equals_the_released_one(released: dict[str, Any], case: str, mode: str) -> None:
    points, roi = released[f"{case}/points"], released.get(f"{case}/roi")
    if mode == "multiclass" and not points.any():
        return  # the one difference
    loss, gradient = loss_and_gradient(released[f"{case}/logits"][None], points, roi=roi, mode=mode)
    assert loss == pytest.approx(float(released[f"{case}/loss"]), rel=1e-4)
    expected = released[f"{case}/grad"]
    np.testing.assert_allclose(gradient[0], expected, atol=5e-4 * np.abs(expected).max())


@pytest.mark.parametrize("case", cases("lcfcn"))
def test_blobs_equal_the_released_ones(released: dict[str, Any], case: str) -> None:
    found = blobs(released[f"{case}/probabilities"])
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, released[f"{case}/blobs"])
    assert found.max() == released[f"{case}/count"]


@pytest.mark.parametrize("case", cases("multiclass"))
def test_several_classes_equal_the_authors_branch(golden: Callable[[str], Any], case: str) -> None:
    arrays = golden("count/multiclass.npz")
    loss, gradient = loss_and_gradient(
        arrays[f"{case}/logits"], arrays[f"{case}/points"], mode="multiclass"
    )
    assert loss == pytest.approx(float(arrays[f"{case}/loss"]), rel=1e-4)
    expected = arrays[f"{case}/grad"]
    np.testing.assert_allclose(gradient, expected, atol=5e-4 * np.abs(expected).max())


# The plain version.


def probability_map(rng: np.random.Generator, size: tuple[int, int], kind: int) -> Array:
    """Smooth, noisy, quantized, saturated or constant probabilities, float32."""
    noise = rng.standard_normal(size)
    smooth = ndimage.gaussian_filter(noise, 2)
    logits = (
        smooth * 12,
        noise * 2,
        np.round(smooth * 8),  # plateaus
        smooth * 300,  # 0 and 1 exactly
        noise * 0 + 1,
    )[kind]
    p: Array = torch.sigmoid(torch.from_numpy(logits.astype(np.float32))).numpy()
    return p


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("size", [(64, 80), (33, 90), (7, 100), (1, 50), (41, 1), (24, 24)])
def test_terms_equal_the_plain_ones(size: tuple[int, int], kind: int) -> None:
    rng = np.random.default_rng(kind + size[0])
    for share in (0, 0.01, 0.05):
        points = (rng.random(size) < share).astype(np.uint8)
        roi = rng.random(size) < 0.7
        assert_same_terms(probability_map(rng, size, kind), points, roi)


def test_terms_of_a_large_image_equal_the_plain_ones() -> None:
    """Blobs that a box is flooded for, and boxes that outside water gets into."""
    rng = np.random.default_rng(3)
    for kind in range(3):
        p = probability_map(rng, (200, 260), kind)
        assert_same_terms(p, (rng.random(p.shape) < 0.004).astype(np.uint8))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 10, 1000]),
)
def test_terms_of_tiny_images_equal_the_plain_ones(
    height: int, width: int, seed: int, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    p = (rng.integers(0, levels + 1, (height, width)) / levels).astype(np.float32)
    assert_same_terms(p, rng.integers(0, 2, (height, width)), rng.integers(0, 2, (height, width)))


@pytest.mark.parametrize("margin", [1, 3])
@pytest.mark.parametrize("kind", range(4))
def test_floods_of_boxes_equal_those_of_the_whole_image(
    kind: int, margin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small margins, so that water from outside often decides."""
    monkeypatch.setattr(flooding, "_MARGIN", margin)
    rng = np.random.default_rng(kind)
    for _ in range(60):
        height, width = rng.integers(12, 40, 2)
        surface = rng.random((height, width), np.float32)
        if kind == 1:
            surface = np.round(surface * 3) / np.float32(3)
        if kind == 2:
            surface[surface < 0.6] = 0
        if kind == 3:
            surface = black_top_hat(ndimage.gaussian_filter(surface, 1))
        top, left = rng.integers(0, height - 6), rng.integers(0, width - 6)
        rows, columns = np.mgrid[top : top + 6, left : left + 6]
        region = (rows * width + columns).ravel()
        markers = np.sort(rng.choice(region, rng.integers(2, 8), replace=False))
        numbers = np.zeros((height, width), np.int32)
        numbers.flat[markers] = np.arange(1, markers.size + 1)
        expected = np.flatnonzero(find_boundaries(watershed(surface, numbers)))
        np.testing.assert_array_equal(flooding.boundary(surface, markers), expected)
        np.testing.assert_array_equal(
            flooding.boundary_within(surface, markers, region), np.intersect1d(expected, region)
        )


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 5), (3, 3), (6, 8), (40, 31)])
def test_top_hat_equals_scipys(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random(size, np.float32)
    np.testing.assert_array_equal(black_top_hat(image), ndimage.black_tophat(image, 7))


def test_blobs_are_numbered_as_scikit_image_does() -> None:
    p = np.random.default_rng(0).random((70, 50), np.float32)
    for threshold in (0.5, 0.8):
        np.testing.assert_array_equal(blobs(p, threshold), label(p > threshold, connectivity=2))
        # A view that is not contiguous.
        np.testing.assert_array_equal(blobs(p.T, threshold), label(threshold < p.T, connectivity=2))


# Batches, classes, numbers.


def batch(size: tuple[int, int] = (40, 50)) -> tuple[torch.Tensor, torch.Tensor]:
    """Three images of one class, one of them without points."""
    rng = np.random.default_rng(0)
    logits = np.stack([ndimage.gaussian_filter(rng.standard_normal(size), 2) for _ in range(3)])
    points = rng.random((3, *size)) < 0.01
    points[1] = False
    return torch.from_numpy(12 * logits[:, None]).float(), torch.from_numpy(points.astype(int))


def test_a_batch_costs_the_mean_of_its_images() -> None:
    logits, points = batch()
    roi = torch.rand(points.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    ours, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = LCFCNLoss()(ours, points, roi)
    alone = [
        plain_loss(plain[image, 0], points[image].numpy(), roi[image].numpy()) for image in range(3)
    ]
    expected = torch.stack(alone).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    loss.backward()
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-4, atol=1e-7)


def test_a_class_without_points_costs_its_highest_probability() -> None:
    logits, points = batch()
    two = torch.cat([logits, logits.flip(0)], dim=1).requires_grad_()
    loss = LCFCNLoss("multiclass")(two[:1], 2 * points[:1])
    highest = torch.sigmoid(logits[0].max())
    expected = -torch.log1p(-highest) / 2 + plain_loss(two[0, 1], points[0].numpy())
    torch.testing.assert_close(loss, expected)


def test_classes_apart_cost_what_each_costs_alone() -> None:
    logits, points = batch()
    two = torch.cat([logits, logits.flip(0)], dim=1)
    loss = LCFCNLoss("per-class")(two, 2 * points)
    absent = LCFCNLoss()(two[:, :1], torch.zeros_like(points))
    torch.testing.assert_close(loss, absent + LCFCNLoss()(two[:, 1:], points))
    assert loss > LCFCNLoss("multiclass")(two, 2 * points)  # which lets blobs of the absent be


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_loss_is_float32_under_autocast(dtype: torch.dtype) -> None:
    logits, points = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = LCFCNLoss()(logits.to(dtype), points)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, LCFCNLoss()(logits.to(dtype).float(), points))


def test_gradient_against_finite_differences() -> None:
    logits, points = batch((9, 8))
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LCFCNLoss()(x, points), (logits,), eps=1e-7)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_numbers_are_for_the_training_to_stop_at(bad: float) -> None:
    """NaN for NaN instead of an error of binary_cross_entropy; infinity is a probability of 1."""
    logits, points = batch()
    logits[1, 0, 5, 5] = bad
    loss = LCFCNLoss()(logits, points)
    assert bool(loss.isnan()) is (bad != bad)


def test_wrong_arguments_are_refused() -> None:
    logits, points = batch()
    with pytest.raises(ValueError, match="'released' takes one channel of logits, not 2"):
        LCFCNLoss()(logits.repeat(1, 2, 1, 1), points)
    with pytest.raises(ValueError, match="Points must be 0 to 1 in every pixel"):
        LCFCNLoss()(logits, 2 * points)
    with pytest.raises(ValueError, match="Points must be 0 to 1 in every pixel"):
        LCFCNLoss("multiclass")(logits, -points)
    with pytest.raises(ValueError, match=r"roi are \(3, 40, 49\), but logits \(3, 1, 40, 50\)"):
        LCFCNLoss()(logits, points, points[..., :-1])
    with pytest.raises(ValueError, match=r"points are \(2, 3\), but probabilities \(3, 2\)"):
        lcfcn_terms(np.zeros((3, 2)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="Probabilities must be finite"):
        lcfcn_terms(np.full((3, 2), np.nan), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="Points must be 0 or 1"):
        lcfcn_terms(np.zeros((3, 2)), np.full((3, 2), 2))
    with pytest.raises(ValueError, match="'released', 'multiclass', 'per-class', not 'both'"):
        LCFCNLoss("both")  # type: ignore[arg-type]


def test_importing_the_loss_imports_neither_numba_nor_scipy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each adds a third of a second, and other tasks need neither."""
    for name in ("numba", "scipy", "scipy.ndimage"):
        monkeypatch.setitem(sys.modules, name, None)  # an import fails
    assert "LCFCNLoss" in runpy.run_path(str(ROOT / "loss_functions" / "lcfcn.py"))


def test_code_runs_where_no_folder_can_keep_it_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(*functions: Any, cache: bool = False) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return functions[0]

    monkeypatch.setattr("numba.njit", njit)
    assert flooding._compiled(abs) is abs
