"""Figures that are taken picture by picture and then averaged: samples F1 and those of the top k.

The pictures are taken a few at a time, so that memory does not grow with their number. A picture
without labels counts with the worst value, 0, in every figure (scikit-learn's ``zero_division=0``).
Of equal scores the class with the lower index ranks first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from helper_functions.metrics.ranks import top_classes

FloatArray = npt.NDArray[np.float64]

FEW = 5
MANY = 20
_SCORES_PER_BLOCK = 2**18  # 1 MiB of scores


def picture_metrics(
    targets: npt.NDArray[Any],
    scores: npt.NDArray[np.float32],
    thresholds: npt.NDArray[np.float32],
) -> dict[str, float]:
    """Means over the pictures, in percent.

    Args:
        targets: (N, K) 0 or 1.
        scores: (N, K), finite.
        thresholds: () or (K,).

    Returns:
        * ``samples_F1``: F1 of a picture's decisions ``score > threshold``, as in GeoLifeCLEF;
        * ``top1``: whether the class with the highest score is a label;
        * ``precision_at_5`` and ``recall_at_5``: how many of the five highest scored classes (of
          all, if there are fewer) are labels, and how many of the labels are among them;
        * ``MAP_at_20``: sum of the precisions at the ranks up to 20 that hold a label, divided by
          the number of labels or by 20 if that is less; as in FathomNet 2023.
    """
    num_images, num_classes = targets.shape
    block = max(1, _SCORES_PER_BLOCK // num_classes)
    sums = np.zeros(5)
    for start in range(0, num_images, block):
        rows = slice(start, start + block)
        block_targets, block_scores = targets[rows] == 1, scores[rows]
        support = block_targets.sum(axis=1)
        order = top_classes(block_scores, MANY)
        hits = np.take_along_axis(block_targets, order, axis=1)
        few = hits[:, :FEW]
        sums += [
            _samples_f1(block_targets, support, block_scores > thresholds).sum(),
            hits[:, 0].sum(),
            few.mean(axis=1).sum(),
            (few.sum(axis=1) / np.maximum(support, 1)).sum(),
            _average_precision_of_top(hits, support).sum(),
        ]
    names = ("samples_F1", "top1", f"precision_at_{FEW}", f"recall_at_{FEW}", f"MAP_at_{MANY}")
    return dict(zip(names, (100 * sums / num_images).tolist(), strict=True))


def _samples_f1(
    targets: npt.NDArray[np.bool_], support: npt.NDArray[np.int64], decisions: npt.NDArray[np.bool_]
) -> FloatArray:
    """F1 (B,) of the decisions (B, K) on each picture; 0 with neither labels nor decisions."""
    right = (targets & decisions).sum(axis=1)
    f1: FloatArray = 2 * right / np.maximum(support + decisions.sum(axis=1), 1)
    return f1


def _average_precision_of_top(
    hits: npt.NDArray[np.bool_], support: npt.NDArray[np.int64]
) -> FloatArray:
    """Average precision (B,) of the first ranks, (B, k): true where one holds a label."""
    precisions = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    result: FloatArray = (precisions * hits).sum(axis=1) / np.clip(support, 1, MANY)
    return result
