"""Class predictions of regions, measured against pixel masks.

The model learns from labels of images. Here its head scores the regions of the feature map, and
every cell takes the top class of its region (always one of all K):

* purity: percent of the cells whose predicted class is shown at all inside the cell;
* accuracy: percent of the cells whose predicted class is the one that covers most of the cell
  (of equal areas the class of lower index), over the cells where that is a class of the model;
* mIoU: intersection over union of the pixels that the mask gives to a class and those predicted to
  be of it, every pixel predicted as the cell its center lies in, over all images together; mean
  over the classes that are shown or predicted. Pixels without a class of the model do not count.

Where nothing is to be counted, a measure is 0.

N images, K classes, grids of h x w cells, masks of H x W pixels; classes in masks run from 0 to
K, and K stands for "no class of the model".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from helper_functions.data.masks import IndexArray
from helper_functions.results.overlays import spread_to_pixels


def count_classes(mask: IndexArray, rows: int, columns: int, num_classes: int) -> IndexArray:
    """Count the pixels of each class of a mask (H, W) in each cell, (rows, columns, K + 1).

    Cell r of h rows covers the pixel rows floor(r * H / h) to ceil((r + 1) * H / h), as in adaptive
    pooling; so neighbors may share a row.
    """
    height, width = mask.shape
    counts = np.zeros((rows, columns, num_classes + 1), np.intp)
    for row in range(rows):
        strip = mask[row * height // rows : -(-(row + 1) * height // rows)]
        for column in range(columns):
            cell = strip[:, column * width // columns : -(-(column + 1) * width // columns)]
            counts[row, column] = np.bincount(cell.ravel(), minlength=num_classes + 1)
    return counts


def region_metrics(
    cells: IndexArray, top_classes: IndexArray, masks: Iterable[IndexArray], num_classes: int
) -> dict[str, Any]:
    """Compare the predicted classes of cells with masks.

    Args:
        cells: (N, h, w), classes.
        top_classes: (N,), the class with the highest score of each image.
        masks: N masks (H, W), of any sizes.
        num_classes: K.

    Returns:
        ``region_grid`` [h, w]; ``region_purity``, ``region_accuracy`` and ``region_miou``; the same
        with ``_majority``, if every cell took the top class of its image; and
        ``region_purity_chance``, the expected purity of classes drawn at random. All in percent.
    """
    # Sums over images, for the predictions of the regions and for the top class everywhere
    rows, columns = cells.shape[1:]
    shown, right = np.zeros((2, 2), np.intp)
    areas = np.zeros((2, 3, num_classes), np.intp)  # intersection, predicted, true
    decided = distinct = 0
    for own, top, mask in zip(cells, top_classes, masks, strict=True):
        counts = count_classes(mask, rows, columns, num_classes)
        majority = counts.argmax(axis=2)
        decided += int(np.count_nonzero(majority < num_classes))
        distinct += int(np.count_nonzero(counts[:, :, :num_classes]))
        has_class = mask < num_classes
        true = mask[has_class]
        for index, predicted in enumerate((own, np.full_like(own, top))):
            inside = np.take_along_axis(counts, predicted[:, :, None], axis=2)
            shown[index] += np.count_nonzero(inside)
            right[index] += np.count_nonzero(predicted == majority)
            pixels = spread_to_pixels(predicted, *mask.shape)[has_class]
            members = (true[true == pixels], pixels, true)
            areas[index] += [np.bincount(classes, minlength=num_classes) for classes in members]

    # The measures
    metrics: dict[str, Any] = {"region_grid": [rows, columns]}
    for index, suffix in enumerate(("", "_majority")):
        intersection, predicted, true = areas[index]
        union = predicted + true - intersection
        iou = intersection[union > 0] / union[union > 0]
        metrics[f"region_purity{suffix}"] = 100 * int(shown[index]) / cells.size
        metrics[f"region_accuracy{suffix}"] = 100 * int(right[index]) / max(decided, 1)
        metrics[f"region_miou{suffix}"] = 100 * float(iou.sum()) / max(len(iou), 1)
    return {**metrics, "region_purity_chance": 100 * distinct / (cells.size * num_classes)}
