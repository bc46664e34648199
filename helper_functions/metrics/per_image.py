"""Metrics that are computed image by image and then averaged: samples F1, and those of the top k.

Images are processed in blocks, so that memory does not grow with their number. An image without
labels counts with the worst value, 0, in every metric (scikit-learn's ``zero_division=0``). Of
equal scores the class with the lower index ranks first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from helper_functions.metrics.ranks import top_classes

_FEW, _MANY = 5, 20
_SCORES_PER_BLOCK = 2**18  # 1 MiB of scores


def image_metrics(
    targets: npt.NDArray[Any], scores: npt.NDArray[np.float32], thresholds: npt.NDArray[np.float32]
) -> dict[str, float]:
    """Compute means over the images, in percent.

    Args:
        targets: (N, K) 0 or 1.
        scores: (N, K), finite.
        thresholds: () or (K,).

    Returns:
        * ``samples_F1``: F1 of an image's decisions ``score > threshold``, as in GeoLifeCLEF;
        * ``top1``: whether the class with the highest score is a label;
        * ``precision_at_5`` and ``recall_at_5``: how many of the five highest scored classes (of
          all, if there are fewer) are labels, and how many of the labels are among them;
        * ``MAP_at_20``: sum of the precisions at the ranks up to 20 that hold a label, divided by
          the number of labels or by 20 if that is less; as in FathomNet 2023.

    >>> scores = np.array([[0.9, 0.2, 0.6]], np.float32)
    >>> metrics = image_metrics(np.array([[0, 0, 1]]), scores, np.float32(0.5))
    >>> metrics["top1"], metrics["MAP_at_20"], round(metrics["samples_F1"], 2)
    (0.0, 50.0, 66.67)
    """
    num_images, num_classes = targets.shape
    block = max(1, _SCORES_PER_BLOCK // num_classes)
    sums = np.zeros(5)
    for start in range(0, num_images, block):
        rows = slice(start, start + block)
        labels, decisions = targets[rows] == 1, scores[rows] > thresholds
        support = labels.sum(axis=1)
        hits = np.take_along_axis(labels, top_classes(scores[rows], _MANY), axis=1)
        few = hits[:, :_FEW]
        precisions = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
        both = np.maximum(support + decisions.sum(axis=1), 1)  # labels and decisions
        sums += [
            (2 * (labels & decisions).sum(axis=1) / both).sum(),
            hits[:, 0].sum(),
            few.mean(axis=1).sum(),
            (few.sum(axis=1) / np.maximum(support, 1)).sum(),
            ((precisions * hits).sum(axis=1) / np.clip(support, 1, _MANY)).sum(),
        ]
    names = ("samples_F1", "top1", f"precision_at_{_FEW}", f"recall_at_{_FEW}", f"MAP_at_{_MANY}")
    return dict(zip(names, (100 * sums / num_images).tolist(), strict=True))
