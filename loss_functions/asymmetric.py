"""Asymmetric loss for multi-label targets (ASL)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AsymmetricLoss(nn.Module):
    """Asymmetric loss (Ridnik et al., arXiv 2009.14119), summed over batch and classes.

    With p = sigmoid(logit), a positive costs -(1 - p)^gamma_pos * log(p), a negative
    -(1 - q)^gamma_neg * log(q) with q = min(1 - p + clip, 1). Logarithms are taken of at least
    ``eps``; no gradient passes through the focusing weights. With both gammas and ``clip`` at 0
    this is binary cross-entropy: VoLUNet's released recipe.

    Args:
        gamma_neg: Focusing exponent of negatives.
        gamma_pos: Focusing exponent of positives.
        clip: Probability shift of negatives.
        eps: Smallest probability that a logarithm is taken of.
        weight: Factor of each class in the sum, (K,); ``None``: 1.
    """

    weight: Tensor | None

    def __init__(
        self,
        gamma_neg: float = 4,
        gamma_pos: float = 1,
        clip: float = 0.05,
        eps: float = 1e-8,
        *,
        weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.gamma_neg = gamma_neg
        self.gamma_pos = gamma_pos
        self.clip = clip
        self.eps = eps
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of logits (B, K) under 0/1 targets (B, K), a float32 scalar."""
        # Half precision cannot hold eps: float32 whatever autocast is in force.
        with torch.autocast(logits.device.type, enabled=False):
            positive = targets > 0
            p = torch.sigmoid(logits.to(torch.promote_types(logits.dtype, torch.float32)))
            q = (1 - p + self.clip).clamp(max=1) if self.clip > 0 else 1 - p
            p_target = torch.where(positive, p, q)
            loss = -p_target.clamp(min=self.eps).log()
            if self.gamma_neg > 0 or self.gamma_pos > 0:
                miss = 1 - p_target.detach()
                focus = torch.where(positive, miss**self.gamma_pos, miss**self.gamma_neg)
                loss = loss * focus
            if self.weight is not None:
                loss = loss * self.weight
            return loss.sum()
