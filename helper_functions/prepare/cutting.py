"""Cut a validation split where none is published.

Images are taken in the order of a hash of seed and name, which depends neither on the machine, nor
on a library's version, nor on the order of the source.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

from helper_functions.prepare.rows import Row
from helper_functions.runtime.errors import UserError

RANDOM = (
    "The validation split is cut at random, image by image: frames of one film or neighbors on a "
    "map can stand in both splits."
)


def _order(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{name}".encode()).digest()


def _val_size(images: int, fraction: float) -> int:
    if images < 2:
        s = "s" * (images != 1)
        raise UserError(f"A validation split cannot be cut from {images} image{s}.")
    return min(max(round(fraction * images), 1), images - 1)


def cut_at_random(rows: Sequence[Row], fraction: float, seed: int) -> list[Row]:
    """Put about a fraction of the rows without a split into "val", the others into "train".

    An image stays in train if it is the last there of one of its classes, so that no class occurs
    in validation only.

    Raises:
        UserError: If there are too few images, or each is the only one of a class.
    """
    uncut = [row for row in rows if row.split is None]
    size = _val_size(len(uncut), fraction)
    left = Counter(name for row in rows if row.split in (None, "train") for name in row.labels)
    val: set[str] = set()
    for row in sorted(uncut, key=lambda row: _order(seed, row.filename)):
        if len(val) == size:
            break
        if all(left[name] > 1 for name in row.labels):
            val.add(row.filename)
            left.subtract(row.labels)
    if not val:
        raise UserError("A validation split cannot be cut: every image is the only one of a class.")
    return _assign(rows, val)


def cut_by_blocks(rows: Sequence[Row], fraction: float, seed: int, degrees: float) -> list[Row]:
    """Cut as ``cut_at_random``, but by squares of the map: neighbors are in one split.

    Blocks of so many degrees a side are taken in a random order as long as val stays within its
    share. Rows without a split have a location.

    Raises:
        UserError: If no block is small enough for val.
    """
    blocks: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for row in rows:
        if row.split is None:
            assert row.location is not None
            east, north = (math.floor(degree / degrees) for degree in row.location)
            blocks[east, north].append(row.filename)
    size = _val_size(sum(map(len, blocks.values())), fraction)
    val: set[str] = set()
    for block in sorted(blocks, key=lambda block: _order(seed, f"{block[0]} {block[1]}")):
        if len(val) + len(blocks[block]) <= size:
            val.update(blocks[block])
    if not val:
        raise UserError(
            f"Each of the {len(blocks):,} blocks of {degrees:g} degrees holds more than the "
            f"{size:,} images wanted for validation; choose a smaller --spatial-block."
        )
    return _assign(rows, val)


def _assign(rows: Sequence[Row], val: Collection[str]) -> list[Row]:
    splits = [row.split or ("val" if row.filename in val else "train") for row in rows]
    return [row._replace(split=split) for row, split in zip(rows, splits, strict=True)]
