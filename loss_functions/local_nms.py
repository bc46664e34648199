"""Local-NMS loss: every region gives one class a high score and suppresses the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LocalNMSLoss(nn.Module):
    """Mean squared probability of all classes but the best one of each region.

    Softmax over the classes of a region, the first maximum set to 0, squares summed and divided by
    (regions * classes). Source: Liu et al., IEEE TCSVT 2025, Local-NMS loss.
    """

    def forward(self, region_logits: Tensor, region_weights: Tensor | None = None) -> Tensor:
        """Compute the loss of the regions of a batch, a float32 scalar also under autocast.

        Args:
            region_logits: (R, K).
            region_weights: (R,), 1 for a region and 0 for a row of padding; ``None``: all regions.
        """
        with torch.autocast(region_logits.device.type, enabled=False):
            probability = region_logits.softmax(
                dim=1, dtype=torch.promote_types(region_logits.dtype, torch.float32)
            )
            squared = probability.square()
            best = probability.detach().argmax(dim=1, keepdim=True)
            suppressed = squared.sum(dim=1) - squared.gather(1, best).squeeze(1)
            if region_weights is None:
                region_weights = torch.ones_like(suppressed)
            weights = region_weights.to(suppressed.dtype)
            return (suppressed * weights).sum() / (weights.sum() * region_logits.shape[1])
