"""Training steps that the benchmarks time: ours, the plain version, and a linear head."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from passes import make_plain_loss
from torch import Tensor, nn

from helper_functions.data.dataset import Batch
from helper_functions.data.flags import InputSettings
from helper_functions.tasks.classify import Classify
from helper_functions.training.flags import TrainSettings
from helper_functions.training.optim import make_optimizer, make_scheduler
from helper_functions.training.step import TrainStep
from models import VoLUNet, create_model
from models.backbones import create_backbone, feature_map

# A model, the task that computes its loss, and whether to compile it.
Made = tuple[nn.Module, Any, bool]

SIDE = 4  # cells a side after subsampling, as in the README's commands


class LinearBaseline(nn.Module):
    """A backbone, global average pooling and one linear layer; no regions."""

    def __init__(self, backbone: nn.Module, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(int(backbone.num_features), classes)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes)."""
        logits: Tensor = self.head(feature_map(self.backbone, images).mean(dim=(2, 3)))
        return logits


class CrossEntropy:
    """Binary cross-entropy, summed; all that a training step asks of a task."""

    sums_over_images = True

    def loss(
        self, model: nn.Module, images: Tensor, targets: Tensor, *_: object
    ) -> dict[str, Tensor]:
        """Return the one term, ``loss``."""
        logits = model(images).float()
        return {"loss": F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")}


class PlainLoss:
    """The loss of ``Classify``, image by image after the backbone."""

    sums_over_images = True

    def __init__(self, model: VoLUNet, device: torch.device) -> None:
        self.plain_loss = make_plain_loss(model, SIDE, device)

    def loss(
        self, model: nn.Module, images: Tensor, targets: Tensor, *_: object
    ) -> dict[str, Tensor]:
        """Return the sum of both losses, ``loss``."""
        assert isinstance(model, VoLUNet)
        features = feature_map(model.backbone, images).float()
        return {"loss": self.plain_loss(features, targets, F.adaptive_avg_pool2d(features, SIDE))}


def step_makers(
    backbone_name: str, image_size: int, classes: int, device: torch.device
) -> dict[str, Callable[[], Made]]:
    """Return functions that build a model, its loss and whether to compile it, by name."""

    def volunet() -> VoLUNet:
        return create_model(
            backbone_name,
            classes,
            subsampling=True,
            sub_h=SIDE,
            sub_w=SIDE,
            image_size=image_size,
        ).to(device)

    def ours(*, compiled: bool) -> Made:
        return volunet(), Classify(["a"], InputSettings(image_size)), compiled

    def plain() -> Made:
        model = volunet()
        return model, PlainLoss(model, device), False

    def linear() -> Made:
        backbone = create_backbone(backbone_name, image_size=image_size)
        return LinearBaseline(backbone, classes).to(device), CrossEntropy(), False

    return {
        "plain": plain,
        "ours": lambda: ours(compiled=False),
        "ours, compiled": lambda: ours(compiled=True),
        "linear head": linear,
    }


def training_step(
    made: Made,
    images: Tensor,
    targets: Tensor,
    amp: torch.dtype | None = None,
) -> Callable[[], object]:
    """Return a training step on the same images each time: forward, backward and update."""
    model, task, compiled = made
    optimizer = make_optimizer(model.train(), lr=2e-4, weight_decay=1e-4)
    train_step = TrainStep(
        task,
        model,
        optimizer,
        make_scheduler(optimizer, 10**6),
        TrainSettings(epochs=1, lr=2e-4, compile=compiled),
        device=images.device,
        amp=amp,
    )
    indices = list(range(len(images)))
    batch = Batch(images, targets, [], [], [], indices, [])
    steps = itertools.count(1)

    def run() -> None:
        train_step([batch], next(steps))

    return run
