"""Cuts of a validation split: at random, and by blocks of the map."""

from __future__ import annotations

import pytest

from helper_functions.prepare.cutting import cut_at_random, cut_by_blocks
from helper_functions.prepare.rows import Row
from helper_functions.runtime.errors import UserError


def test_a_random_cut_keeps_every_class_in_training() -> None:
    rows = [Row(f"{n}.png", (f"c{n % 40}", *(("rare",) * (n == 3))), None) for n in range(100)]
    for seed in range(10):
        cut = cut_at_random(rows, 0.3, seed)
        assert [row.filename for row in cut] == [row.filename for row in rows]
        assert sum(row.split == "val" for row in cut) == 30
        trained = {name for row in cut if row.split == "train" for name in row.labels}
        assert trained == {name for row in rows for name in row.labels}
    assert cut_at_random(rows, 0.3, 0) != cut_at_random(rows, 0.3, 1)


def test_blocks_of_the_map_meet_at_whole_multiples_of_their_side() -> None:
    centres = (-0.75, -0.25, 0.25, 0.75)
    rows = [Row(f"{lon}/{n}.png", ("x",), None, (lon, -0.1)) for lon in centres for n in range(5)]
    chosen = set()
    for seed in range(40):
        cut = cut_by_blocks(rows, 0.25, seed, 0.5)
        val = [row.filename for row in cut if row.split == "val"]
        (block,) = {name.partition("/")[0] for name in val}
        assert len(val) == 5
        chosen.add(float(block))
    assert chosen == set(centres)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([Row("a.png", ("x",), None)], "cannot be cut from 1 image"),
        ([Row(f"{n}.png", (f"{n}",), None) for n in range(5)], "the only one of a class"),
    ],
)
def test_what_cannot_be_cut_is_refused(rows: list[Row], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        cut_at_random(rows, 0.1, 0)
