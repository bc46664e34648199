"""From the probabilities of pixels to objects: blobs, their centers and scores."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loss_functions.lcfcn import blobs


class Objects(NamedTuple):
    """What was found in an image.

    Attributes:
        points: x, y in pixels of the stored image, highest probability, class index; (P, 4).
        mask: Pixels that belong to a blob, (H, W).
    """

    points: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]


def find_objects(probabilities: npt.NDArray[np.float32], scale: float = 1.0) -> Objects:
    """Find the blobs of each class and their centroids.

    Args:
        probabilities: (K, H, W).
        scale: Factor by which the image was resized.
    """
    mask = np.zeros(probabilities.shape[1:], bool)
    parts = [np.zeros((0, 4), np.float32)]
    for k, scores in enumerate(probabilities):
        labels = blobs(scores)
        inside = labels > 0
        mask |= inside
        if not inside.any():
            continue
        rows, columns = np.nonzero(inside)
        numbers = labels[inside] - 1
        areas = np.bincount(numbers)
        highest = np.zeros(len(areas), np.float32)
        np.maximum.at(highest, numbers, scores[inside])
        # The center of the first pixel of a resized image is not that of the stored one.
        x, y = (
            (np.bincount(numbers, places) / areas + 0.5) / scale - 0.5 for places in (columns, rows)
        )
        parts.append(np.stack([x, y, highest, np.full(len(x), k)], axis=1).astype(np.float32))
    return Objects(np.concatenate(parts), mask)


def pack_mask(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Compress a mask (H, W) to bytes."""
    return np.frombuffer(zlib.compress(np.packbits(mask).tobytes(), 1), np.uint8)


def unpack_mask(packed: npt.NDArray[np.uint8], size: Any) -> npt.NDArray[np.bool_]:
    """Return the mask of ``pack_mask``, of this height and width."""
    height, width = (int(side) for side in size)
    bits = np.frombuffer(zlib.decompress(packed.tobytes()), np.uint8)
    return np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)
