"""A training step's head and losses image by image: what ``VoLUNet`` does with a batch at once.

Oracle of the tests and baseline of the benchmarks. VDSM works cell by cell, every region is
averaged on its own, and every image's regions are one call of the head; then come the two losses.
"""

from __future__ import annotations

import torch
from plain_kan import plain_kan_linear
from plain_vdsm import plain_labels, plain_pool
from torch import Tensor

from models.kan import KANLinear


def plain_head(layer: KANLinear, x: Tensor) -> Tensor:
    """Logits of rows (rows, in) by the textbook recursion, with the weights of a layer."""
    weights = (layer.base_weight, layer.spline_weight, layer.spline_scaler)
    return plain_kan_linear(x, layer.grid, *weights, layer.spline_order)


def plain_asymmetric_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The released setting, no focusing: summed cross-entropy with logarithms of at least 1e-8."""
    p = torch.sigmoid(logits)
    positives = targets * torch.log(p.clamp(min=1e-8))
    negatives = (1 - targets) * torch.log((1 - p).clamp(min=1e-8))
    return -(positives + negatives).sum()


def plain_local_nms(region_logits: Tensor) -> Tensor:
    """Mean squared probability of all classes but the best one of each region."""
    probability = region_logits.softmax(dim=1)
    best = torch.zeros_like(probability)
    for row, column in enumerate(probability.argmax(dim=1).tolist()):
        best[row, column] = 1
    return (probability * (1 - best)).square().sum() / region_logits.numel()


def plain_loss(
    layer: KANLinear,
    features: Tensor,
    targets: Tensor,
    min_superpixels: int,
    variant: str,
    distance: Tensor | None = None,
    cells: Tensor | None = None,
) -> Tensor:
    """ASL plus Local-NMS loss of a feature map (B, C, h, w) and targets (B, K).

    Args:
        layer: The head's weights.
        features: Gradients reach it.
        targets: 0/1.
        min_superpixels: See ``plain_labels``.
        variant: Variant of VDSM.
        distance: Distances of the grid's cells, if they are known already.
        cells: What VDSM sees if that is not the feature map itself, (B, C, h, w).
    """
    features = features.float()
    asl = plain_asymmetric_loss(plain_head(layer, features.mean(dim=(2, 3))), targets)
    region_logits = []
    for image in features if cells is None else cells:
        labels = plain_labels(image.detach(), min_superpixels, variant, distance)
        regions = plain_pool(image[None], labels[None])
        region_logits.append(plain_head(layer, regions))
    return asl + plain_local_nms(torch.cat(region_logits))
