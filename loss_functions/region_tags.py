"""Region-tag loss: somewhere in an image each of its tags is seen, and nowhere another class."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from loss_functions.asymmetric import AsymmetricLoss


def pool_regions(
    region_logits: Tensor,
    region_images: Tensor,
    region_weights: Tensor,
    batch_size: int,
    sharpness: float,
) -> Tensor:
    """Pool the logits of each image's regions by log-mean-exp, (1 / r) log mean exp(r z).

    Args:
        region_logits: z, (R, K).
        region_images: int64 (R,), the image of each region.
        region_weights: (R,), of each region in the mean; 0 for a row of padding.
        batch_size: B; every image has a region of positive weight.
        sharpness: r; 0 is the mean of the regions, infinity their maximum.

    Returns:
        (B, K), at least float32 also under autocast.
    """
    with torch.autocast(region_logits.device.type, enabled=False):
        logits = region_logits.to(torch.promote_types(region_logits.dtype, torch.float32))
        weights = region_weights.to(logits.dtype)
        # A product with shares, not a scattered sum: CUDA would add in a new order every time.
        images = torch.arange(batch_size, device=logits.device)
        shares = (region_images == images[:, None]).to(logits.dtype) * weights
        shares = shares / shares.sum(dim=1, keepdim=True)
        if sharpness == 0:
            return shares @ logits
        padding = weights[:, None] == 0
        present = logits.masked_fill(padding, -torch.inf)
        rows = region_images[:, None].expand_as(logits)
        highest = present.new_full((batch_size, logits.shape[1]), -torch.inf)
        highest = highest.scatter_reduce(0, rows, present, "amax")
        if math.isinf(sharpness):
            return highest
        # Relative to the highest logit nothing overflows; expm1 and log1p keep small r exact. Its
        # own gradient cancels.
        highest = highest.detach()
        below = (logits - highest[region_images]).masked_fill(padding, 0)
        return highest + torch.log1p(shares @ torch.expm1(sharpness * below)) / sharpness


class RegionTagLoss(nn.Module):
    """Asymmetric loss of the tags of images on the pooled logits of their regions.

    Not in the paper, whose regions are only told to be sure of one class. The pooling is that of
    Pinheiro and Collobert, "From Image-level to Pixel-level Labeling with Convolutional Networks",
    CVPR 2015.

    Args:
        asl: The loss of pooled logits and targets.
        sharpness: r of ``pool_regions``.

    Raises:
        ValueError: If the sharpness is negative.
    """

    def __init__(self, asl: AsymmetricLoss, sharpness: float = 4.0) -> None:
        super().__init__()
        if not sharpness >= 0:
            raise ValueError(f"The sharpness is {sharpness}; choose one from 0.")
        self.asl = asl
        self.sharpness = sharpness

    def forward(
        self, region_logits: Tensor, region_images: Tensor, region_weights: Tensor, targets: Tensor
    ) -> Tensor:
        """Compute the loss, a float32 scalar summed over images and classes.

        Args:
            region_logits: (R, K).
            region_images: int64 (R,), the image of each region.
            region_weights: (R,), as in ``pool_regions``.
            targets: 0 or 1, (B, K).
        """
        pooled = pool_regions(
            region_logits, region_images, region_weights, len(targets), self.sharpness
        )
        loss: Tensor = self.asl(pooled, targets)
        return loss
