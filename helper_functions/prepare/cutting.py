"""Cutting a validation split where none is published.

The order in which pictures are taken follows from a hash of seed and name, so it does not depend on
the machine, on a library's version or on the order of the source.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from helper_functions.prepare.rows import Row
from helper_functions.runtime.errors import UserError

RANDOM = (
    "The validation split is cut at random, picture by picture: frames of one film or neighbours "
    "on a map can stand in both splits."
)


def _lot(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{name}".encode()).digest()


def _wanted(pictures: int, fraction: float) -> int:
    if pictures < 2:
        raise UserError(
            f"A validation split cannot be cut from {pictures} picture{'s' * (pictures != 1)}."
        )
    return min(max(round(fraction * pictures), 1), pictures - 1)


def cut_at_random(rows: Sequence[Row], fraction: float, seed: int) -> list[Row]:
    """Divide the rows without a split into "train" and "val", picture by picture.

    A picture stays in train if it is the last there of one of its classes, so that no class occurs
    in validation only.

    Args:
        rows: All rows.
        fraction: Share of the rows without a split that go to val.
        seed: Another seed gives another cut.

    Raises:
        UserError: If there are too few pictures, or each is the only one of a class.
    """
    undecided = [row for row in rows if row.split is None]
    if not undecided:
        return list(rows)
    wanted = _wanted(len(undecided), fraction)
    left = Counter(name for row in rows if row.split in (None, "train") for name in row.labels)
    chosen: set[str] = set()
    for row in sorted(undecided, key=lambda row: _lot(seed, row.filename)):
        if len(chosen) == wanted:
            break
        if all(left[name] > 1 for name in row.labels):
            chosen.add(row.filename)
            left.subtract(row.labels)
    if not chosen:
        raise UserError(
            "A validation split cannot be cut: every picture is the only one of a class."
        )
    return _decide(rows, chosen)


def cut_by_blocks(rows: Sequence[Row], fraction: float, seed: int, degrees: float) -> list[Row]:
    """Divide the rows without a split into "train" and "val" by squares of the map.

    Blocks are taken in a random order as long as val stays within its share, so neighbours are
    in one split except across the edges of blocks.

    Args:
        rows: All rows; those without a split have a place.
        fraction: Largest share of the rows without a split that go to val.
        seed: Another seed gives another cut.
        degrees: Side of a block in longitude and latitude.

    Raises:
        UserError: If no block is small enough for val.
    """
    blocks: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for row in rows:
        if row.split is None:
            assert row.place is not None
            east, north = (math.floor(degree / degrees) for degree in row.place)
            blocks[east, north].append(row.filename)
    wanted = _wanted(sum(map(len, blocks.values())), fraction)
    chosen: set[str] = set()
    for block in sorted(blocks, key=lambda block: _lot(seed, f"{block[0]} {block[1]}")):
        if len(chosen) + len(blocks[block]) <= wanted:
            chosen.update(blocks[block])
    if not chosen:
        raise UserError(
            f"Each of the {len(blocks):,} blocks of {degrees:g} degrees holds more than the "
            f"{wanted:,} pictures wanted for validation; choose a smaller --spatial-block."
        )
    return _decide(rows, chosen)


def _decide(rows: Sequence[Row], chosen: set[str]) -> list[Row]:
    return [
        row if row.split else row._replace(split="val" if row.filename in chosen else "train")
        for row in rows
    ]
