"""TRANCOS: the crop to the road, points on its edges, repetition, and bad input."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from raw_archives import trancos
from raw_archives.conversions import appended, prepare_points, refused

from helper_functions.prepare import mat_files
from helper_functions.prepare.__main__ import main
from helper_functions.runtime.errors import UserError

FIRST = "images/image-1-000001"


@pytest.mark.parametrize("crop", ["corrected", "released"])
def test_images_and_points_are_cropped_to_the_road(crop: str, raw: Path) -> None:
    trancos.write(raw)
    found = prepare_points("trancos", raw, "--crop", crop)
    top, bottom, left, right = trancos.BOX
    if crop == "released":  # the last row and column are lost
        bottom, right = bottom - 1, right - 1
    expected, splits = {}, {}
    for name, stems in trancos.LISTS.items():
        for number, stem in enumerate(stems):
            expected[f"{stem}.png"] = sorted(
                (column - left, row - top)
                for row, column in trancos.DOTS[number:]
                if top <= row <= bottom and left <= column <= right
            )
            splits[f"{stem}.png"] = trancos.SPLITS[name]
    assert found.splits == splits
    assert {name: sorted(rows) for name, rows in found.points.items()} == expected

    images = raw.parent / "out" / "images"
    assert {path.name for path in images.iterdir()} == set(expected)
    window = slice(top, bottom + 1), slice(left, right + 1)
    with Image.open(raw / f"{FIRST}.jpg") as image:
        pixels = np.asarray(image)[window] * trancos.road()[window][:, :, None]
    with Image.open(images / "image-1-000001.png") as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
    notes = " ".join(found.manifest["notes"])
    outside = {"corrected": 6, "released": 6 + 12}[crop]
    assert f"{outside} points outside the bounding box of the road are left out." in notes
    assert "points inside the box, but off the road, are kept." in notes


def test_a_killed_run_goes_on_and_other_images_need_overwrite(raw: Path) -> None:
    trancos.write(raw)
    first = prepare_points("trancos", raw)
    images = raw.parent / "out" / "images"
    there = {path.name: path.stat().st_mtime_ns for path in images.iterdir()}
    (images / "image-1-000001.png").unlink()
    (raw.parent / "out" / "splits.csv").unlink()
    assert prepare_points("trancos", raw) == first
    after = {path.name: path.stat().st_mtime_ns for path in images.iterdir()}
    assert set(after) == set(there)
    assert sum(after[name] != there[name] for name in there) == 1
    refused("trancos", raw, "differs from what this command would write", "--crop", "released")
    assert {path.name: path.stat().st_mtime_ns for path in images.iterdir()} == after
    prepare_points("trancos", raw, "--crop", "released", "--overwrite")


def test_missing_files_are_listed(raw: Path) -> None:
    trancos.write(raw)
    (raw / f"{FIRST}.jpg").unlink()
    (raw / "images/image-1-000002mask.mat").unlink()
    found = prepare_points("trancos", raw)
    assert found.manifest["skipped"] == [
        {"filename": "image-1-000001.jpg", "reason": "the image is not there"},
        {"filename": "image-1-000002.jpg", "reason": "its dots or its mask are not there"},
    ]
    found = prepare_points("trancos", raw, "--keep-missing", "--overwrite")
    assert "image-1-000001.png" in found.splits


def test_a_dry_run_writes_nothing(raw: Path) -> None:
    trancos.write(raw)
    out = raw.parent / "out" / "splits.csv"
    main(["trancos", "--raw-dir", str(raw), "--out", str(out), "--dry-run"])
    assert not out.parent.exists()


def _mask(content: object) -> Callable[[Path], object]:
    return lambda raw: scipy.io.savemat(raw / f"{FIRST}mask.mat", {"BW": content})


CASES: tuple[tuple[Callable[[Path], object], str], ...] = (
    (appended("image_sets/test.txt", "\n../x.jpg"), "line 2: the file name '../x.jpg' leaves"),
    (appended("image_sets/test.txt", "\nimage-1-000001.jpg"), "is listed for train and test"),
    (lambda raw: (raw / "image_sets/test.txt").unlink(), "holds no image_sets/test.txt"),
    (_mask(np.zeros((24, 32))), "BW is no mask of the road"),
    (_mask("road"), "BW is no mask of the road"),
    (_mask(np.ones((24, 31))), "has 32 x 24 pixels, not the 31 x 24 of image-1-000001mask.mat"),
    (
        lambda raw: scipy.io.savemat(raw / f"{FIRST}mask.mat", {"A": np.ones((24, 32))}),
        "holds no variable 'BW'",
    ),
    (
        lambda raw: scipy.io.savemat(raw / f"{FIRST}mask.mat", {"BW": 1}, format="4"),
        "it is no file of level 5",
    ),
    (lambda raw: (raw / f"{FIRST}mask.mat").write_bytes(b""), "it is no file of level 5"),
    (lambda raw: (raw / f"{FIRST}dots.png").write_bytes(b"x"), "dots.png is no PNG"),
    (lambda raw: (raw / f"{FIRST}.jpg").write_bytes(b"x"), "Cannot read the image"),
    (lambda raw: shutil.rmtree(raw / "images"), "images holds no image of the lists (image-1-"),
)


@pytest.mark.parametrize(("damage", "sentence"), CASES)
def test_wrong_content_gets_one_sentence(
    damage: Callable[[Path], object], sentence: str, raw: Path
) -> None:
    trancos.write(raw)
    damage(raw)
    refused("trancos", raw, sentence)


def test_sizes_that_a_mask_only_claims_are_refused(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trancos.write(raw)
    path = raw / "images/image-1-000002mask.mat"  # not compressed
    content = path.read_bytes()
    shape = np.array(trancos.road().shape, "<i4").tobytes()
    assert content.count(shape) == 1
    path.write_bytes(content.replace(shape, np.array((2**30, 2**30), "<i4").tobytes()))
    refused("trancos", raw, "claims another number of values than it holds")
    scipy.io.savemat(path, {"BW": np.zeros((2000, 2000), np.uint8)}, do_compression=True)
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(mat_files, "MAX_BYTES", 1_000_000)
    refused("trancos", raw, "a variable unpacks to more than 1,000,000 bytes")


@pytest.mark.parametrize("rounds", [40, pytest.param(600, id="thorough", marks=pytest.mark.slow)])
def test_damage_anywhere_is_refused_or_read(rounds: int, raw: Path) -> None:
    trancos.write(raw)
    out = raw.parent / "out"
    draw = random.Random("trancos")
    ended: Counter[bool] = Counter()
    for _ in range(rounds):
        name = draw.choice(("000001mask.mat", "000002mask.mat", "000002dots.png", "000001.jpg"))
        path = raw / "images" / f"image-1-{name}"
        content = path.read_bytes()
        damaged = bytearray(content)
        for _ in range(draw.choice((1, 1, 4))):
            damaged[draw.randrange(len(content))] = draw.choice((0, 1, 127, 255))
        end = draw.choice((len(content), len(content), draw.randrange(len(content))))
        path.write_bytes(damaged[:end])
        try:
            main(["trancos", "--raw-dir", str(raw), "--out", str(out / "splits.csv")])
        except UserError as error:
            assert len(str(error)) < 700
            assert not out.exists()
            ended[False] += 1
        else:
            shutil.rmtree(out)
            ended[True] += 1
        path.write_bytes(content)
    assert ended[False] > 0
