"""Exact rankings of scores, ties in index order, without comparing pairs.

A finite float32 becomes an unsigned integer with the opposite order. Two stable sorts by its halves
of 16 bits then rank a column; NumPy sorts such halves by counting, some eight times faster than it
sorts floats stably.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def descending_keys(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Return integers in the opposite order of finite scores; equal scores get equal keys.

    >>> keys = descending_keys(np.array([0.5, -1, 0.0, -0.0], np.float32))
    >>> bool(keys[0] < keys[2] == keys[3] < keys[1])
    True
    """
    bits = (scores + np.float32(0)).view(np.int32)  # the sum turns -0.0 into 0.0
    # Read as unsigned integers, positive floats ascend; negative ones, above them all, descend
    # already, so only the positive ones are reversed.
    flipped = bits >> 31  # all ones for a negative float, else 0
    np.invert(flipped, out=flipped)
    flipped &= 0x7FFFFFFF
    flipped ^= bits
    return flipped.view(np.uint32)


def descending_order(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the indices (N,) that sort finite scores (N,), the highest first, ties in input order.

    >>> descending_order(np.array([0.1, 0.3, 0.3], np.float32)).tolist()
    [1, 2, 0]
    """
    keys = descending_keys(scores)
    by_lower_half = np.argsort(keys.astype(np.uint16), kind="stable")
    upper_half = (keys >> 16).astype(np.uint16)[by_lower_half]
    return by_lower_half[np.argsort(upper_half, kind="stable")]


def top_classes(scores: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Return the highest scored classes of images, best first; of equal scores the lower index.

    Finite scores (N, K) give class indices (N, min(count, K)).

    >>> top_classes(np.array([[0.1, 0.9, 0.5]], np.float32), 2).tolist()
    [[1, 2]]
    """
    num_classes = scores.shape[1]
    count = min(count, num_classes)
    # Score and index in one number: no two are equal, so the partition is unambiguous.
    keys = descending_keys(scores).astype(np.uint64) << np.uint64(32)
    keys |= np.arange(num_classes, dtype=np.uint64)
    best = np.partition(keys, count - 1, axis=1)[:, :count]
    best.sort(axis=1)
    return (best & np.uint64(0xFFFFFFFF)).astype(np.int64)
