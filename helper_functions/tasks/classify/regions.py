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
    """Count the pixels of each class in each cell of a grid, (rows, columns, K + 1).

    Cell r of h rows covers the pixel rows floor(r * H / h) to ceil((r + 1) * H / h), as in adaptive
    pooling; so neighbours may share a row.

    Args:
        mask: Classes, (H, W).
        rows: Rows of the grid.
        columns: Its columns.
        num_classes: K.
    """
    height, width = mask.shape
    counts = np.zeros((rows, columns, num_classes + 1), np.intp)
    for row in range(rows):
        strip = mask[row * height // rows : -(-(row + 1) * height // rows)]
        for column in range(columns):
            cell = strip[:, column * width // columns : -(-(column + 1) * width // columns)]
            counts[row, column] = np.bincount(cell.ravel(), minlength=num_classes + 1)
    return counts


class _Agreement:
    """Sums over images how well classes of cells agree with masks."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.cells = self.shown = self.decided = self.right = 0
        self.intersection, self.predicted, self.true = np.zeros((3, num_classes), np.intp)

    def add(self, cells: IndexArray, mask: IndexArray, counts: IndexArray) -> None:
        """Count an image: classes (h, w), mask (H, W) and its counts (h, w, K + 1)."""
        self.cells += cells.size
        own = np.take_along_axis(counts, cells[:, :, None], axis=2)
        self.shown += int(np.count_nonzero(own))
        majority = counts.argmax(axis=2)
        self.decided += int(np.count_nonzero(majority < self.num_classes))
        self.right += int(np.count_nonzero(majority == cells))
        has_class = mask < self.num_classes
        predicted = spread_to_pixels(cells, *mask.shape)[has_class]
        true = mask[has_class]
        self.intersection += self._areas(true[true == predicted])
        self.predicted += self._areas(predicted)
        self.true += self._areas(true)

    def _areas(self, classes: IndexArray) -> IndexArray:
        return np.bincount(classes, minlength=self.num_classes)

    def measures(self, suffix: str = "") -> dict[str, float]:
        """Compute purity, accuracy and mIoU in percent."""
        union = self.predicted + self.true - self.intersection
        counted = union > 0
        iou = self.intersection[counted] / union[counted]
        return {
            f"region_purity{suffix}": 100 * self.shown / max(self.cells, 1),
            f"region_accuracy{suffix}": 100 * self.right / max(self.decided, 1),
            f"region_miou{suffix}": 100 * float(iou.sum()) / max(len(iou), 1),
        }


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
    rows, columns = cells.shape[1:]
    regions, majority = _Agreement(num_classes), _Agreement(num_classes)
    shown = 0
    for predicted, top, mask in zip(cells, top_classes, masks, strict=True):
        counts = count_classes(mask, rows, columns, num_classes)
        regions.add(predicted, mask, counts)
        majority.add(np.full_like(predicted, top), mask, counts)
        shown += int(np.count_nonzero(counts[:, :, :num_classes]))
    return {
        "region_grid": [rows, columns],
        **regions.measures(),
        **majority.measures("_majority"),
        "region_purity_chance": 100 * shown / (regions.cells * num_classes),
    }
