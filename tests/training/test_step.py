"""A training step as a whole: against the plain version, and without waiting for the device."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from plain_head import plain_loss
from torch import Tensor, nn

from helper_functions.data.flags import InputSettings
from helper_functions.tasks.classify import Classify
from helper_functions.tasks.classify.flags import TrainingSettings
from models import VoLUNet, create_model
from models.kan import KANLinear
from models.vdsm import VARIANTS, pool_superpixels
from models.volunet import VoLUNetConfig


def _task(**settings: Any) -> Classify:
    return Classify(["a"], InputSettings(64), training=TrainingSettings({}, **settings))


class Map(nn.Module):
    """A backbone that hands its input on: a feature map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_features = channels

    def forward_features(self, features: Tensor) -> Tensor:
        return features


def _gradients(model: VoLUNet, features: Tensor) -> dict[str, Tensor]:
    found = {"features": features.grad}
    found |= {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None for gradient in found.values())
    features.grad = None
    model.zero_grad()
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_and_gradients_equal_the_plain_version(variant: str, grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = VoLUNet(Map(32), 7, VoLUNetConfig(min_superpixels=6, vdsm=variant)).train()
    features = torch.randn(5, 32, *grid).relu_().requires_grad_()
    targets = torch.randint(0, 2, (5, 7)).float()
    terms = _task().loss(model, features, targets)
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    ours = _gradients(model, features)
    layer = model.head.layers[0]  # type: ignore[index]
    assert isinstance(layer, KANLinear)
    loss = plain_loss(layer, features, targets, 6, variant)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(terms["loss"], loss)
    plain = _gradients(model, features)
    assert ours.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    "settings",
    [
        *({"vdsm": variant, "subsampling": True} for variant in VARIANTS),
        {"min_superpixels": 0},
        {"head": "linear"},
    ],
)
def test_no_number_of_a_step_on_a_device_is_read_by_the_host(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device "meta" holds no numbers: whatever asks for one fails. It knows no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    with torch.device("meta"):
        model = create_model("resnet10t", 5, **settings).train()
        task = _task(gamma_neg=4, gamma_pos=1, clip=0.05, nms_weight=3, region_tag_weight=2)
        terms = task.loss(model, torch.empty(4, 3, 128, 128), torch.empty(4, 5))
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.is_meta for p in model.parameters())


def test_counting_the_regions_is_noticed_so() -> None:
    labels = torch.empty(2, 4, 4, dtype=torch.long, device="meta")
    with pytest.raises(RuntimeError, match="meta"):
        pool_superpixels(torch.empty(2, 3, 4, 4, device="meta"), labels)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no GPU.")
def test_a_step_on_a_gpu_does_not_wait_for_it() -> None:
    model = create_model("resnet10t", 5, subsampling=True).cuda().train()
    task = _task(gamma_neg=4, gamma_pos=1, clip=0.05, nms_weight=3, region_tag_weight=2)
    images = torch.rand(4, 3, 128, 128, device="cuda")
    targets = torch.ones(4, 5, device="cuda")
    task.loss(model, images, targets)["loss"].backward()  # type: ignore[no-untyped-call]
    torch.cuda.set_sync_debug_mode("error")
    try:
        task.loss(model, images, targets)["loss"].backward()  # type: ignore[no-untyped-call]
    finally:
        torch.cuda.set_sync_debug_mode("default")
