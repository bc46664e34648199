"""The region-tag loss against loops, its limits and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import Tensor

from loss_functions import AsymmetricLoss, RegionTagLoss
from loss_functions.region_tags import pool_regions

IMAGES = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2])
WEIGHTS = torch.tensor([1, 1, 1, 1, 3, 0, 2, 1])  # row 5 is padding


def _logits(dtype: torch.dtype = torch.float64, scale: float = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (scale * torch.randn(8, 5, generator=generator, dtype=torch.float64)).to(dtype)


def _loops(logits: Tensor, sharpness: float) -> Tensor:
    """Pool image by image with SciPy's weighted log-sum-exp."""
    pooled = np.empty((3, logits.shape[1]))
    for image in range(3):
        z, weights = logits[image == IMAGES].double().numpy(), WEIGHTS[image == IMAGES].numpy()
        if sharpness == 0:
            pooled[image] = np.average(z, axis=0, weights=weights)
        elif math.isinf(sharpness):
            pooled[image] = z[weights > 0].max(axis=0)
        else:
            shares = (weights / weights.sum())[:, None]
            pooled[image] = logsumexp(sharpness * z, axis=0, b=shares) / sharpness
    return torch.from_numpy(pooled)


@pytest.mark.parametrize("sharpness", [0, 0.1, 1, 4, 30, math.inf])
def test_pooling_equals_that_of_each_image_by_itself(sharpness: float) -> None:
    pooled = pool_regions(_logits(), IMAGES, WEIGHTS, 3, sharpness)
    torch.testing.assert_close(pooled, _loops(_logits(), sharpness))


def test_pooling_runs_from_the_mean_to_the_maximum() -> None:
    mean, highest = (pool_regions(_logits(), IMAGES, WEIGHTS, 3, r) for r in (0, math.inf))
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-5)):
        nearly_mean, nearly_highest = (
            pool_regions(_logits(dtype), IMAGES, WEIGHTS, 3, r).double() for r in (1e-7, 1e6)
        )
        torch.testing.assert_close(nearly_mean, mean, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(nearly_highest, highest, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sharpness", [0, 1e-3, 1, 4, math.inf])
def test_gradient_against_finite_differences(sharpness: float) -> None:
    targets = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 1, 0, 0], [1, 1, 0, 0, 0]])
    loss = RegionTagLoss(AsymmetricLoss(0, 0, 0.05), sharpness)
    logits = _logits(scale=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, IMAGES, WEIGHTS, targets), (logits,))


def test_only_present_regions_learn_and_each_tag_by_the_region_that_shows_it() -> None:
    logits = torch.zeros(4, 2)
    logits[1, 0] = 5  # the class that is tagged
    logits[2] = 50  # padding
    logits.requires_grad_()
    loss = RegionTagLoss(AsymmetricLoss(0, 0, 0), 4.0)
    images, weights = torch.zeros(4, dtype=torch.long), torch.tensor([1, 1, 0, 1])
    loss(logits, images, weights, torch.tensor([[1, 0]])).backward()
    assert logits.grad is not None
    assert logits.grad[2].tolist() == [0, 0]
    assert logits.grad[:, 0].argmin() == 1
    # The absent class is pushed down everywhere.
    assert (logits.grad[weights > 0, 1] > 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pooling_is_float32_under_autocast(dtype: torch.dtype) -> None:
    logits = _logits(torch.float32, scale=30).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = pool_regions(logits, IMAGES, WEIGHTS, 3, 8.0)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled.double(), _loops(logits, 8.0), atol=1e-5, rtol=1e-5)


def test_compiling_changes_nothing() -> None:
    loss = RegionTagLoss(AsymmetricLoss(4, 1, 0.05))
    targets = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 1, 0, 0], [1, 1, 0, 0, 0]])
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    args = (_logits(torch.float32), IMAGES, WEIGHTS, targets)
    torch.testing.assert_close(compiled(*args), loss(*args))


def test_a_negative_sharpness_is_refused() -> None:
    with pytest.raises(ValueError, match=r"The sharpness is -1"):
        RegionTagLoss(AsymmetricLoss(), -1)
