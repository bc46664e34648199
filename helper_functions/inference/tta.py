"""Test-time augmentation: score several views of a picture and average."""

from __future__ import annotations

from torch import Tensor, nn

# Dimensions of (B, 3, size, size) along which each further view is reversed.
VIEWS: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": (),
    "flips": ((3,),),
    "all-flips": ((3,), (2,), (2, 3)),
}


class ViewAverage(nn.Module):
    """Mean of the logits of a picture and of its mirror images.

    Args:
        model: Scores the picture itself.
        mirror_model: Scores the mirror images.
        views: A name of ``VIEWS``: ``"flips"`` adds the left-right mirror image, ``"all-flips"``
            (for pictures without an up and down, such as aerial ones) the upside-down ones as well.
    """

    def __init__(self, model: nn.Module, mirror_model: nn.Module, views: str) -> None:
        super().__init__()
        self.model = model
        self.mirror_model = mirror_model
        self.dimensions = VIEWS[views]

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of pictures (B, 3, size, size)."""
        logits: Tensor = self.model(images).float()
        for dimensions in self.dimensions:
            logits = logits + self.mirror_model(images.flip(dimensions)).float()
        return logits / (1 + len(self.dimensions))
