"""Training steps that the benchmarks time: ours, the plain version, and a linear head."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from passes import make_plain_loss
from torch import Tensor, nn

from helper_functions.data.dataset import Batch
from helper_functions.tasks.classify.classification import ClassificationObjective
from helper_functions.training.optim import make_optimizer, make_scheduler
from helper_functions.training.step import Objective, Stepper
from loss_functions import AsymmetricLoss
from models import VoLUNet, create_model
from models.backbones import create_backbone, feature_map

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
    """Binary cross-entropy, summed."""

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the one term, ``loss``."""
        logits = model(images).float()
        return {"loss": F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")}


class PlainObjective:
    """The loss of ``ClassificationObjective``, image by image after the backbone."""

    def __init__(self, model: VoLUNet, device: torch.device) -> None:
        self.loss = make_plain_loss(model, SIDE, device)

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the sum of both losses, ``loss``."""
        assert isinstance(model, VoLUNet)
        features = feature_map(model.backbone, images).float()
        return {"loss": self.loss(features, targets, F.adaptive_avg_pool2d(features, SIDE))}


def step_makers(
    backbone_name: str, image_size: int, classes: int, device: torch.device
) -> dict[str, Callable[[], tuple[nn.Module, Objective, bool]]]:
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

    def ours(*, compiled: bool) -> tuple[nn.Module, Objective, bool]:
        return volunet(), ClassificationObjective(AsymmetricLoss(0, 0, 0)), compiled

    def plain() -> tuple[nn.Module, Objective, bool]:
        model = volunet()
        return model, PlainObjective(model, device), False

    def linear() -> tuple[nn.Module, Objective, bool]:
        backbone = create_backbone(backbone_name, image_size=image_size)
        return LinearBaseline(backbone, classes).to(device), CrossEntropy(), False

    return {
        "plain": plain,
        "ours": lambda: ours(compiled=False),
        "ours, compiled": lambda: ours(compiled=True),
        "linear head": linear,
    }


def training_step(
    made: tuple[nn.Module, Objective, bool],
    images: Tensor,
    targets: Tensor,
    amp: torch.dtype | None = None,
) -> Callable[[], object]:
    """Return a training step on the same images each time: forward, backward and update."""
    model, objective, compiled = made
    optimizer = make_optimizer(model.train(), lr=2e-4, weight_decay=1e-4)
    stepper = Stepper(
        model,
        objective,
        optimizer,
        make_scheduler(optimizer, 10**6),
        device=images.device,
        amp=amp,
        compiled=compiled,
    )
    batch = Batch(images, targets, [], [])
    steps = itertools.count(1)

    def run() -> None:
        stepper([batch], next(steps))
        stepper.reports()

    return run
