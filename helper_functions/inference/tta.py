"""Test-time augmentation: the mean of a model's outputs for an image and its mirror images."""

from __future__ import annotations

from torch import Tensor, nn

# Dimensions of (B, 3, H, W) along which each further version of an image is reversed.
TTA: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": (),
    "flips": ((3,),),
    "all-flips": ((3,), (2,), (2, 3)),
}


class AveragedModel(nn.Module):
    """Averages the outputs of a model over mirror images; a dense output is mirrored back.

    Args:
        model: Images (B, 3, H, W) -> outputs (B, K) or (B, K, H, W).
        tta: A key of ``TTA``: ``flips`` adds the left-right mirror image, ``all-flips`` (for images
            without an up and down, such as aerial ones) the upside-down ones as well.
    """

    def __init__(self, model: nn.Module, tta: str) -> None:
        super().__init__()
        self.model = model
        self.dimensions = TTA[tta]

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean output for images (B, 3, H, W)."""
        return self.average(self.model(images), images)

    def average(self, outputs: Tensor, images: Tensor) -> Tensor:
        """Return the mean of the outputs for the images as they are and for their mirror images."""
        total = outputs.float()
        for dimensions in self.dimensions:
            mirrored = self.model(images.flip(dimensions)).float()
            total = total + (mirrored.flip(dimensions) if mirrored.ndim == 4 else mirrored)
        return total / (1 + len(self.dimensions))
