"""ShanghaiTech: MATLAB's coordinates, the validation split, points at the edge, and bad input."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from raw_archives import shanghaitech
from raw_archives.conversions import prepare_points, refused

from helper_functions.prepare.__main__ import main
from helper_functions.runtime.errors import UserError

VAL = ("--val-images", 2)
TRUTH = "part_B/train_data/ground-truth/GT_IMG_1.mat"


@pytest.mark.parametrize(
    ("part", "truth"), [("part_B", "ground-truth"), ("part_A_final", "ground_truth")]
)
def test_heads_and_splits(part: str, truth: str, raw: Path) -> None:
    shanghaitech.write(raw, part, truth)
    found = prepare_points("shanghaitech", raw, *VAL)
    names = {
        "train": [f"train_data/images/IMG_{n}.jpg" for n in (1, 2, 3, 9, 10)],
        "val": [f"train_data/images/IMG_{n}.jpg" for n in (11, 100)],  # the last by number
        "test": [f"test_data/images/IMG_{n}.jpg" for n in (1, 2)],
    }
    assert found.splits == {name: split for split, each in names.items() for name in each}
    for name, rows in found.points.items():
        number = int(Path(name).stem.removeprefix("IMG_"))
        expected = [(x - 1, y - 1) for x, y in shanghaitech.heads(number)]
        np.testing.assert_allclose(np.reshape(rows, (-1, 2)), np.reshape(expected, (-1, 2)))
    assert found.manifest["points"] == {"train": 12, "val": 6, "test": 6}


def test_the_last_fifty_are_validation(raw: Path) -> None:
    shanghaitech.write(raw)
    refused("shanghaitech", raw, "holds 7 images; choose a --val-images below")


def test_two_parts_need_a_choice(raw: Path) -> None:
    shanghaitech.write(raw, "part_A")
    shanghaitech.write(raw, "part_B")
    refused("shanghaitech", raw, "holds part_A and part_B; choose one by --part", *VAL)
    found = prepare_points("shanghaitech", raw, *VAL, "--part", "A")
    assert len(found.splits) == 9
    assert (
        prepare_points("shanghaitech", raw / "part_A", *VAL, out="o/s.csv").points == found.points
    )


def _heads(locations: object, path: str = TRUTH) -> Callable[[Path], object]:
    info = np.empty((1, 1), object)
    info[0, 0] = {"location": locations, "number": 1.0}
    return lambda raw: scipy.io.savemat(raw / path, {"image_info": info})


def test_points_at_the_edge_are_moved_and_named(raw: Path) -> None:
    shanghaitech.write(raw)
    _heads(np.array([[33.0, 4.0], [5.0, 0.25]]))(raw)  # pixels beyond the last and before the first
    found = prepare_points("shanghaitech", raw, *VAL)
    assert found.points["train_data/images/IMG_1.jpg"] == [(31, 3), (4, 0)]
    outside = found.manifest["points_outside"]
    assert [(each["x"], each["y"]) for each in outside] == [(32, 3), (4, -0.75)]
    (note,) = [note for note in found.manifest["notes"] if "outside the image" in note]
    assert "GT_IMG_1.mat, row 1 of the locations" in note
    refused(
        *("shanghaitech", raw, "the point (32, 3) lies outside", *VAL),
        *("--outside", "refuse", "--overwrite"),
    )


CASES: tuple[tuple[Callable[[Path], object], str], ...] = (
    (_heads(np.ones((3, 3))), "one row a head, not 3 x 3 numbers"),
    (_heads("heads"), "image_info should hold a matrix"),
    (_heads(np.array([[1.0, np.nan]])), "row 1 of the locations is not finite"),
    (_heads({"x": {"y": 1.0}}), "image_info should hold a matrix"),
    (lambda raw: scipy.io.savemat(raw / TRUTH, {"info": 1.0}), "no variable 'image_info'"),
    (lambda raw: shutil.rmtree(raw / "part_B"), "part_A/train_data/images"),
    (lambda raw: shutil.rmtree(raw / "part_B/train_data/ground-truth"), "left for the split train"),
)


@pytest.mark.parametrize(("damage", "sentence"), CASES)
def test_wrong_content_gets_one_sentence(
    damage: Callable[[Path], object], sentence: str, raw: Path
) -> None:
    shanghaitech.write(raw)
    damage(raw)
    refused("shanghaitech", raw, sentence, *VAL)


@pytest.mark.parametrize("rounds", [40, pytest.param(600, id="thorough", marks=pytest.mark.slow)])
def test_damage_anywhere_is_refused_or_read(rounds: int, raw: Path) -> None:
    shanghaitech.write(raw)
    out = raw.parent / "out"
    command = ["shanghaitech", "--raw-dir", str(raw), "--out", str(out / "s.csv"), *map(str, VAL)]
    draw = random.Random("shanghaitech")
    ended: Counter[bool] = Counter()
    for _ in range(rounds):
        path = raw / TRUTH.replace("_1.mat", f"_{draw.choice((1, 2))}.mat")
        content = path.read_bytes()
        damaged = bytearray(content)
        for _ in range(draw.choice((1, 1, 4))):
            damaged[draw.randrange(len(content))] = draw.choice((0, 1, 127, 255))
        end = draw.choice((len(content), len(content), draw.randrange(len(content))))
        path.write_bytes(damaged[:end])
        try:
            main(command)
        except UserError as error:
            assert len(str(error)) < 700
            assert not out.exists()
            ended[False] += 1
        else:
            shutil.rmtree(out)
            ended[True] += 1
        path.write_bytes(content)
    assert ended[False] > 0
