"""LCFCN's terms and loss, loop by loop: the oracle of tests and the baseline of the benchmark.

Written from the method's description, with SciPy and scikit-image: the whole image is flooded for
every blob.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import find_boundaries, watershed
from torch import Tensor

Array = npt.NDArray[Any]
PlainTerm = tuple[str, float, Array, int]


def plain_split(p: Array, points: Array) -> Array:
    """Boundaries of the whole image between points, (H, W)."""
    markers = np.zeros(p.shape, np.int32)
    for number, (row, column) in enumerate(np.argwhere(points), start=1):
        markers[row, column] = number
    basins = watershed(ndimage.black_tophat(p, 7), markers)
    boundaries: Array = find_boundaries(basins, mode="thick")
    return boundaries


def plain_terms(p: Array, points: Array, roi: Array | None = None) -> list[PlainTerm]:
    """All terms of an image, as (kind, scale, raster indices, target)."""
    terms: list[PlainTerm] = []
    count = int(points.sum())
    if count < points.size:
        terms.append(("image_background", 1, np.array([p.argmin()]), 0))
    if count >= 1:
        terms.append(("image_foreground", 1, np.array([p.argmax()]), 1))
        terms.append(("points", count, np.flatnonzero(points), 1))
    if count >= 2:
        terms.append(("global_split", count - 1, np.flatnonzero(plain_split(p, points)), 0))
    numbers = label(p > 0.5, connectivity=2)
    false_positives: list[PlainTerm] = []
    for number in range(1, numbers.max() + 1):
        blob = numbers == number
        own = int(points[blob].sum())
        if own == 0:
            counted = blob if roi is None else blob & (roi > 0)
            false_positives.append(("false_positive", 1, np.flatnonzero(counted), 0))
        elif own >= 2:
            inside = plain_split(p, points * blob) & blob
            terms.append(("local_split", own - 1, np.flatnonzero(inside), 0))
    return [term for term in terms + false_positives if term[2].size]


def plain_loss(logits: Tensor, points: Array, roi: Array | None = None) -> Tensor:
    """The loss of one image and class, (H, W)."""
    p = torch.sigmoid(logits)
    loss = p.new_zeros(())
    for _, scale, indices, target in plain_terms(p.detach().numpy(), points, roi):
        for_pixels = p.flatten()[torch.from_numpy(indices)]
        mean = F.binary_cross_entropy(for_pixels, torch.full_like(for_pixels, float(target)))
        loss = loss + scale * mean
    return loss
