"""Losses against PyTorch's own, the golden numbers and finite differences."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from loss_functions import AsymmetricLoss, LocalNMSLoss


@pytest.fixture(scope="module")
def losses(golden: Any) -> dict[str, Any]:
    return golden("losses.npz")  # type: ignore[no-any-return]


def _tensor(losses: dict[str, Any], name: str) -> Tensor:
    return torch.from_numpy(losses[name])


def _check(loss: Tensor, inputs: dict[str, Tensor], losses: dict[str, Any], name: str) -> None:
    """Compare a loss and the gradients of its inputs with the golden ones."""
    assert loss.item() == pytest.approx(float(losses[f"{name}_loss"]), rel=5e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    for key, value in inputs.items():
        expected = losses[key]
        assert value.grad is not None
        error = np.abs(value.grad.numpy() - expected).max()
        assert error <= 1e-4 * np.abs(expected).max(), key


def test_asl_equals_the_golden_one(losses: dict[str, Any]) -> None:
    pattern = re.compile(r"(asl_.)_neg([\d.]+)_pos([\d.]+)_clip([\d.]+)_loss")
    found = [match for name in losses if (match := pattern.fullmatch(name))]
    assert len(found) == 6
    for match in found:
        logits = _tensor(losses, f"{match[1]}_logits").requires_grad_()
        loss = AsymmetricLoss(*map(float, match.groups()[1:]))(
            logits, _tensor(losses, f"{match[1]}_targets")
        )
        name = match[0].removesuffix("_loss")
        _check(loss, {f"{name}_grad": logits}, losses, name)


def test_asl_at_the_clamp_equals_the_golden_one(losses: dict[str, Any]) -> None:
    logits = _tensor(losses, "clamp_logits").requires_grad_()
    targets = _tensor(losses, "clamp_targets")
    asl = AsymmetricLoss(0, 0, 0)
    each = torch.stack([asl(x, t) for x, t in zip(logits, targets, strict=True)])
    np.testing.assert_allclose(each.detach(), losses["clamp_loss"], rtol=5e-5, atol=1e-7)
    (gradient,) = torch.autograd.grad(each.sum(), logits)
    np.testing.assert_allclose(gradient.numpy(), losses["clamp_grad"], atol=1e-6)


def test_asl_without_focus_is_binary_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 15, generator=generator) * 4
    targets = (torch.rand(20, 15, generator=generator) < 0.3).float()
    ours = AsymmetricLoss(0, 0, 0)(logits, targets)
    torch.testing.assert_close(
        ours, F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    )


def test_asl_gradient_against_finite_differences() -> None:
    """Where no weight depends on the logit; through the focusing weight none passes."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, dtype=torch.float64, generator=generator).requires_grad_()
    targets = (torch.rand(4, 5, generator=generator) < 0.4).double()
    assert torch.autograd.gradcheck(lambda x: AsymmetricLoss(0, 0, 0.05)(x, targets), (logits,))


def test_asl_focus_weight_carries_no_gradient() -> None:
    logits = torch.tensor([[0.3, -1.2]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    AsymmetricLoss(4, 1, 0)(logits, targets).backward()
    p = torch.sigmoid(logits.detach())
    expected = torch.stack([-((1 - p[0, 0]) ** 2), p[0, 1] ** 5])
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0], expected)


@pytest.mark.parametrize("name", ["nms_a", "nms_b"])
def test_local_nms_equals_the_golden_one(losses: dict[str, Any], name: str) -> None:
    logits = _tensor(losses, f"{name}_logits").requires_grad_()
    _check(LocalNMSLoss()(logits), {f"{name}_grad": logits}, losses, name)


def test_local_nms_of_uniform_scores(losses: dict[str, Any]) -> None:
    loss = float(LocalNMSLoss()(torch.zeros(7, 15)))
    assert loss == pytest.approx(14 / 15**3)
    assert loss == pytest.approx(float(losses["nms_uniform15_loss"]), rel=1e-5)


def test_local_nms_ignores_padding() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([1.0, 0, 1, 1, 0, 1])
    torch.testing.assert_close(
        LocalNMSLoss()(logits, weights), LocalNMSLoss()(logits[weights.bool()])
    )


def test_local_nms_gradient_against_finite_differences() -> None:
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([1.0, 0, 1, 1, 1], dtype=torch.float64)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LocalNMSLoss()(x, weights), (logits,))


def test_total_equals_the_golden_one(losses: dict[str, Any]) -> None:
    logits = _tensor(losses, "total_logits").requires_grad_()
    regions = _tensor(losses, "total_region_logits").requires_grad_()
    total = AsymmetricLoss(0, 0, 0)(logits, _tensor(losses, "total_targets"))
    total = total + LocalNMSLoss()(regions)
    inputs = {"total_grad_logits": logits, "total_grad_region_logits": regions}
    _check(total, inputs, losses, "total")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_are_float32_under_autocast(dtype: torch.dtype) -> None:
    logits = torch.tensor([[18.0, -18.0, 0.5]])
    targets = torch.tensor([[0.0, 1.0, 1.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        asl = AsymmetricLoss(0, 0, 0)(logits.to(dtype), targets)
        nms = LocalNMSLoss()(logits.to(dtype))
    assert asl.dtype == nms.dtype == torch.float32
    assert float(asl) == pytest.approx(float(AsymmetricLoss(0, 0, 0)(logits, targets)))
