"""Marker watershed, compiled, and flooded no further than its boundaries are asked for.

The basins are those of ``skimage.segmentation.watershed(surface, markers)``, pixel by pixel, also
on plateaus: 4-connectivity, pixels in the order of the level that the flood reaches them at, then
of their age in the queue. The boundaries are those of ``find_boundaries(basins, mode="thick")``.

Importing this module imports numba (about 0.4 s), so its users import it when they first flood.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

Function = TypeVar("Function", bound=Callable[..., object])
IntArray = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]
Integer = int | np.signedinteger[Any]
Surface = npt.NDArray[np.float32]

_FRAME = np.int32(2**31 - 1)  # label of the frame around an image
_UNKNOWN = np.int32(2**31 - 2)  # label of what comes from outside of a box
_WANTED, _OPEN = np.uint8(1), np.uint8(2)  # flags of pixels
_AGE = 0xFFFFFFFF  # the lower half of a key
_BUCKETS, _SHIFT = 2**16, 15  # levels in one bucket differ in the lowest 15 bits only
_MARGIN = 8


def _compiled(function: Function) -> Function:
    """Compile at the first call, and keep the machine code on disk if some folder is writable."""
    try:
        return numba.njit(cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # numba's: no folder for its cache
        return numba.njit(function)  # type: ignore[no-any-return]


def boundary(surface: Surface, markers: Indices) -> Indices:
    """Return the pixels that touch another basin than their own, up, down, left or right.

    Args:
        surface: (H, W), nowhere negative.
        markers: (M,) raster indices, ascending, one or more; each is the origin of a basin.

    Returns:
        Raster indices, ascending.
    """
    labels = _flooded(surface, markers, np.empty(0, np.int64), np.zeros(4, np.bool_))
    assert labels is not None  # nothing comes from outside of a whole image
    found = np.zeros(labels.shape, np.bool_)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = labels[one] != labels[other]
        found[one] |= differ
        found[other] |= differ
    return np.flatnonzero(found)


def boundary_within(surface: Surface, markers: Indices, region: Indices) -> Indices:
    """Return those pixels of ``boundary(surface, markers)`` that lie in a region.

    Floods a box around the region. As soon as the flood arrives at the box's border, water of an
    unknown basin may come in from everywhere along it. It comes at least as early as any that has
    taken a way outside, so labels that it does not take are those of the whole image. If it reaches
    the region, a larger box is tried.

    Args:
        surface: (H, W), nowhere negative.
        markers: (M,) raster indices within the region, ascending, one or more.
        region: (N,) raster indices, ascending.
    """
    height, width = surface.shape
    rows, columns = np.divmod(region, width)
    top, bottom, left, right = rows[0], rows[-1] + 1, columns.min(), columns.max() + 1
    margin = _MARGIN + max(bottom - top, right - left) // 2
    while True:
        top_in, left_in = max(top - margin, 0), max(left - margin, 0)
        box = surface[top_in : bottom + margin, left_in : right + margin]
        sides = np.array(
            [top > margin, left > margin, bottom + margin < height, right + margin < width]
        )

        inside = (rows - top_in) * box.shape[1] + columns - left_in
        marker_rows, marker_columns = np.divmod(markers, width)
        origins = (marker_rows - top_in) * box.shape[1] + marker_columns - left_in
        labels = _flooded(box, origins, inside, sides)
        if labels is not None:
            return region[_differ(labels, inside)]
        margin *= 3


def _flooded(
    surface: Surface, markers: Indices, region: Indices, sides: npt.NDArray[np.bool_]
) -> IntArray | None:
    """Return the basins of an image or box, or nothing if unknown water gets into the region.

    Args:
        surface: (H, W).
        markers: Raster indices.
        region: Raster indices; at its pixels and those beside them labels are right. Empty: all.
        sides: Whether water may come in from the top, left, bottom and right.
    """
    width = surface.shape[1]
    # Bits of floats that are not negative are in the order of the floats.
    levels = np.pad(surface, 1).view(np.int32)
    labels = np.full(levels.shape, _FRAME)
    labels[1:-1, 1:-1] = 0
    flags = np.zeros(levels.shape, np.uint8)
    lines = (flags[1, 1:-1], flags[1:-1, 1], flags[-2, 1:-1], flags[1:-1, -2])
    for open_side, line in zip(sides, lines, strict=True):
        if open_side:
            line[:] = _OPEN
    known = _flood(
        levels.ravel(),
        labels.ravel(),
        flags.ravel(),
        _framed(markers, width),
        _framed(region, width),
        width + 2,
    )
    return np.abs(labels[1:-1, 1:-1]) if known else None


def _framed(indices: Indices, width: int) -> IntArray:
    """Return raster indices in the image with its frame of one pixel."""
    return (indices + 2 * (indices // width) + width + 3).astype(np.int32)


@_compiled
def _key(level: Integer, age: Integer) -> Integer:
    """Return what the heap is ordered by: the level above, the age below."""
    return (np.int64(level) << 32) | age


@_compiled
def _less(first: Integer, second: Integer, ties: int) -> bool | np.bool_:
    """Compare two keys, all ages up to ``ties`` as one."""
    return max(first, (first >> 32 << 32) | ties) < max(second, (second >> 32 << 32) | ties)


@_compiled
def _push(heap: Indices, size: int, key: Integer, ties: int) -> int:
    """Put a key into the binary heap, and return its size."""
    child = size
    while child > 0:
        parent = (child - 1) // 2
        if not _less(key, heap[parent], ties):
            break
        heap[child] = heap[parent]
        child = parent
    heap[child] = key
    return size + 1


@_compiled
def _pop(heap: Indices, size: int, ties: int) -> int:
    """Remove the least key, which is the first, and return the size."""
    size -= 1
    key = heap[size]
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            break
        if child + 1 < size and _less(heap[child + 1], heap[child], ties):
            child += 1
        if not _less(heap[child], key, ties):
            break
        heap[parent] = heap[child]
        parent = child
    heap[parent] = key
    return size


@_compiled
def _last_tie(levels: IntArray) -> Integer:
    """Return the highest level that occurs twice or more, or -1."""
    ordered = np.sort(levels)
    for number in range(levels.size - 1, 0, -1):
        if ordered[number] == ordered[number - 1]:
            return np.int64(ordered[number])
    return np.int64(-1)


@_compiled
def _flood(
    levels: IntArray,
    labels: IntArray,
    flags: npt.NDArray[np.uint8],
    markers: IntArray,
    region: IntArray,
    width: int,
) -> bool:
    """Flood until a region and its neighbors have labels; return whether no unknown one got there.

    All arrays are flat. A label is negative while its pixel waits, and positive from the moment
    when the flood goes on from it. A pixel's age is the number of pixels labeled before it.

    Args:
        levels: Bits of the surface.
        labels: 0, but for the frame; to be filled with basins, from 1.
        flags: ``_OPEN`` where water may come in from outside.
        markers: Where basins start.
        region: If empty, the whole image.
        width: Width of the image with its frame.
    """
    steps = (-width, -1, 1, width)
    pixels = np.empty(levels.size, np.int32)  # by age
    missing = int(region.size == 0)
    for number in range(markers.size):
        pixels[number] = markers[number]
        labels[markers[number]] = -1 - number
    for pixel in region:
        for step in (0, -width, -1, 1, width):
            near = pixel + step
            if labels[near] != _FRAME and not flags[near] & _WANTED:
                flags[near] |= _WANTED
                missing += labels[near] == 0

    # Markers of equal levels: all enter with one age, and the layout of the heap decides which of
    # them is first. So as long as such markers wait, every pixel passes through a heap with the
    # layout of scikit-image's.
    heap = np.empty(levels.size, np.int64)
    size, ties = 0, markers.size - 1
    for number in range(markers.size):
        size = _push(heap, size, _key(levels[markers[number]], number), ties)
    age = markers.size
    last_tie = _key(_last_tie(levels[markers]), ties)
    level = np.int64(0)
    while missing and size and heap[0] <= last_tie:
        key = heap[0]
        level = key >> 32
        size = _pop(heap, size, ties)
        pixel = pixels[key & _AGE]
        if flags[pixel] & _OPEN:
            return False
        labels[pixel] = -labels[pixel]
        for step in steps:
            near = pixel + step
            if labels[near] == 0:
                labels[near] = -labels[pixel]
                missing -= flags[near] & _WANTED
                pixels[age] = near
                size = _push(heap, size, _key(max(level, np.int64(levels[near])), age), ties)
                age += 1

    # From here on the order is that of levels and ages alone. Pixels of the current level wait in
    # a queue, those of its bucket in the heap, all higher ones in lists, one a bucket.
    newest = np.full(_BUCKETS, -1, np.int32)  # age by bucket
    older = np.empty(levels.size, np.int32)  # the next age in the list, by age
    for number in range(size):
        bucket, waiting = heap[number] >> 32 >> _SHIFT, heap[number] & _AGE
        older[waiting] = newest[bucket]
        newest[bucket] = waiting
    queue = np.empty(levels.size, np.int32)
    listed, size = size, 0
    head = tail = 0
    bucket = np.int64(-1)
    closed = True
    while missing and (head < tail or size or listed):
        if head == tail:
            while size == 0:
                bucket += 1
                waiting = newest[bucket]
                while waiting >= 0:
                    key = _key(max(level, np.int64(levels[pixels[waiting]])), waiting)
                    size = _push(heap, size, key, 0)
                    listed -= 1
                    waiting = older[waiting]
            level = heap[0] >> 32
            while size and heap[0] >> 32 == level:
                queue[tail] = pixels[heap[0] & _AGE]
                tail += 1
                size = _pop(heap, size, 0)
        pixel = queue[head]
        head += 1
        label = labels[pixel]
        labels[pixel] = -label

        # Neighbors get the label; the first pixel at the open border lets unknown water in there.
        first_new = age
        for step in steps:
            if labels[pixel + step] == 0:
                labels[pixel + step] = label
                pixels[age] = pixel + step
                age += 1
        if closed and flags[pixel] & _OPEN:
            closed = False
            for near in range(levels.size):
                if flags[near] & _OPEN and labels[near] == 0:
                    labels[near] = -_UNKNOWN
                    pixels[age] = near
                    age += 1
        for new in range(first_new, age):
            near = pixels[new]
            if flags[near] & _WANTED:
                if labels[near] == -_UNKNOWN:
                    return False
                missing -= 1
            near_bucket = levels[near] >> _SHIFT
            if levels[near] <= level:
                queue[tail] = near
                tail += 1
            elif near_bucket <= bucket:
                size = _push(heap, size, _key(levels[near], new), 0)
            else:
                older[new] = newest[near_bucket]
                newest[near_bucket] = new
                listed += 1
    return True


@_compiled
def _differ(labels: IntArray, region: Indices) -> npt.NDArray[np.bool_]:
    """Return which pixels of a region have a neighbor with another label."""
    height, width = labels.shape
    found = np.zeros(region.size, np.bool_)
    for number in range(region.size):
        row, column = region[number] // width, region[number] % width
        label = labels[row, column]
        found[number] = (
            (row > 0 and labels[row - 1, column] != label)
            or (column > 0 and labels[row, column - 1] != label)
            or (column < width - 1 and labels[row, column + 1] != label)
            or (row < height - 1 and labels[row + 1, column] != label)
        )
    return found
