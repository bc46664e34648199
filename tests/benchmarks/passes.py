"""Forward and backward passes that the benchmarks time: ours, and the plain version."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from plain_head import plain_loss  # noqa: E402
from plain_vdsm import plain_distance, plain_labels, plain_pool  # noqa: E402

from helper_functions.data.flags import InputSettings  # noqa: E402
from helper_functions.tasks.classify import Classify  # noqa: E402
from models import VoLUNet, VoLUNetConfig  # noqa: E402
from models.kan import KANLinear  # noqa: E402
from models.vdsm import pool_superpixels, superpixel_labels  # noqa: E402

MIN_SUPERPIXELS = 6


class Map(nn.Module):
    """A backbone whose input is the feature map already."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_features = channels

    def forward_features(self, features: Tensor) -> Tensor:
        """Return the features (B, C, H, W) unchanged."""
        return features


def feature_maps(batch: int, channels: int, side: int) -> Tensor:
    """Draw maps as a last ReLU leaves them, (batch, channels, side, side)."""
    return torch.randn(batch, channels, side, side).relu_().requires_grad_()


def vdsm(
    features: Tensor, variant: str, min_superpixels: int = MIN_SUPERPIXELS
) -> Callable[[], object]:
    """Return a pass: labels, means of the regions, and their gradient on the features."""
    gradient = torch.randn(features[:, 0].numel(), features.shape[1])

    def run() -> None:
        features.grad = None
        labels = superpixel_labels(features, min_superpixels, variant)
        regions = pool_superpixels(features, labels)
        regions.backward(gradient[: len(regions)])  # type: ignore[no-untyped-call]

    return run


def plain_vdsm(features: Tensor, variant: str) -> Callable[[], object]:
    """Return the pass of ``vdsm`` image by image and cell by cell; distances are given."""
    side = features.shape[2]
    distance = plain_distance(side, side, variant)
    gradient = torch.randn(side * side * len(features), features.shape[1])

    def run() -> None:
        features.grad = None
        labels = [
            plain_labels(image, MIN_SUPERPIXELS, variant, distance) for image in features.detach()
        ]
        regions = plain_pool(features, torch.stack(labels))
        regions.backward(gradient[: len(regions)])  # type: ignore[no-untyped-call]

    return run


def head(features: Tensor, model: VoLUNet, targets: Tensor) -> Callable[[], object]:
    """Return a pass: VDSM, head and both losses, and gradients of all weights and features."""
    task = Classify(["a"], InputSettings(224))

    def run() -> None:
        features.grad = None
        model.zero_grad()
        task.loss(model, features, targets)["loss"].backward()  # type: ignore[no-untyped-call]

    return run


def make_plain_loss(
    model: VoLUNet, side: int, device: torch.device
) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """Return the plain loss of features, targets and cells, with a model's head and settings."""
    layer = model.head.layers[0]  # type: ignore[index]
    assert isinstance(layer, KANLinear)
    distance = plain_distance(side, side, model.config.vdsm).to(device)

    def loss(features: Tensor, targets: Tensor, cells: Tensor | None) -> Tensor:
        settings = (model.config.min_superpixels, model.config.vdsm, distance)
        return plain_loss(layer, features, targets, *settings, cells)

    return loss


def plain_head(features: Tensor, model: VoLUNet, targets: Tensor) -> Callable[[], object]:
    """Return the pass of ``head`` with one call of the head for the regions of each image."""
    loss = make_plain_loss(model, features.shape[2], features.device)

    def run() -> None:
        features.grad = None
        model.zero_grad()
        loss(features, targets, None).backward()  # type: ignore[no-untyped-call]

    return run


def head_model(channels: int, classes: int, min_superpixels: int = MIN_SUPERPIXELS) -> VoLUNet:
    """Build a model in training mode whose input is the feature map."""
    config = VoLUNetConfig(min_superpixels=min_superpixels)
    return VoLUNet(Map(channels), classes, config).train()


def random_targets(batch: int, classes: int) -> Tensor:
    """Draw 0/1 targets (batch, classes), a tenth of them 1."""
    return (torch.rand(batch, classes) < 0.1).float()
