"""The forest generator: tiles that agree with their own masks, and data sets that can be redone."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helper_functions.forest import CLASSES, ForestTile, make_tile, split_tiles, write_dataset
from helper_functions.forest.__main__ import main
from helper_functions.forest.canopy import class_map, raise_canopy
from helper_functions.forest.crowns import Crowns
from helper_functions.runtime.errors import UserError

SEEDS = range(24)
TREESATAI = [
    *("Abies", "Acer", "Alnus", "Betula", "Cleared", "Fagus", "Fraxinus", "Larix", "Picea"),
    *("Pinus", "Populus", "Prunus", "Pseudotsuga", "Quercus", "Tilia"),
]


@pytest.fixture(scope="module")
def tiles() -> list[ForestTile]:
    return [make_tile(seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forest") / "set"
    write_dataset(folder, tiles=9, seed=2)
    return folder


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def is_sentence(text: str) -> bool:
    return text[0].isupper() and text.endswith(".") and "\n" not in text


def test_classes_are_treesatais_in_order() -> None:
    assert list(CLASSES) == TREESATAI


def test_shapes_and_types(tiles: list[ForestTile]) -> None:
    for tile in tiles:
        assert tile.image.shape == (304, 304, 3) and tile.image.dtype == np.uint8
        assert tile.mask.shape == (304, 304) and tile.mask.dtype == np.uint8
        assert tile.crowns.ndim == 2 and tile.crowns.shape[1] == 3
        assert tile.crowns.dtype == np.float32
        assert tile.mask.max() < len(CLASSES)


def test_same_seed_same_tile_whatever_ran_before(tiles: list[ForestTile]) -> None:
    np.random.default_rng().random(7)
    make_tile(99, size=64)
    again = make_tile(5)
    np.testing.assert_array_equal(again.image, tiles[5].image)
    np.testing.assert_array_equal(again.mask, tiles[5].mask)
    np.testing.assert_array_equal(again.crowns, tiles[5].crowns)
    assert again.labels == tiles[5].labels


def test_different_seeds_differ(tiles: list[ForestTile]) -> None:
    assert len({tile.image.tobytes() for tile in tiles}) == len(tiles)


def test_labels_are_the_classes_above_the_area_share(tiles: list[ForestTile]) -> None:
    for tile in tiles:
        pixels = Counter(tile.mask.ravel().tolist())
        expected = [CLASSES[c] for c, n in sorted(pixels.items()) if n > 0.07 * 304 * 304]
        assert list(tile.labels) == expected
        assert expected


def test_some_tiles_hold_a_class_too_small_for_a_label(tiles: list[ForestTile]) -> None:
    # Otherwise the threshold would not be tested above.
    assert any(len(np.unique(tile.mask)) > len(tile.labels) for tile in tiles)


def test_crown_centers_lie_in_their_class(tiles: list[ForestTile]) -> None:
    for tile in tiles:
        x, y, genus = tile.crowns.astype(int).T
        np.testing.assert_array_equal(tile.mask[y, x], genus)


def test_every_wooded_label_has_crowns_and_clearings_none(tiles: list[ForestTile]) -> None:
    for tile in tiles:
        crowned = {CLASSES[int(genus)] for genus in tile.crowns[:, 2]}
        assert set(tile.labels) - {"Cleared"} <= crowned
        assert "Cleared" not in crowned


def test_crowns_are_lighter_than_the_gaps_between_them(tiles: list[ForestTile]) -> None:
    # The centers must lie where the crowns are drawn: a shift of the drawing would break this.
    lighter = []
    for tile in tiles:
        x, y = tile.crowns[:, :2].astype(int).T
        wooded = tile.mask != CLASSES.index("Cleared")
        if len(x) > 50:
            lighter.append(tile.image[y, x].mean() - tile.image[wooded].mean())
    assert len(lighter) > 10
    assert min(lighter) > 0.0


def test_the_crown_size_differs_by_genus(tiles: list[ForestTile]) -> None:
    crowns = np.concatenate([tile.crowns for tile in tiles])
    masks = np.stack([tile.mask for tile in tiles])

    def area(name: str) -> float:
        index = CLASSES.index(name)
        return float((masks == index).sum() / (crowns[:, 2] == index).sum())

    assert area("Picea") < area("Pinus") < area("Quercus")


def lone_crown(name: str, x: int, y: int) -> Crowns:
    return Crowns(
        x=np.array([x]),
        y=np.array([y]),
        genus=np.array([CLASSES.index(name)]),
        radius=np.array([8.0], dtype=np.float32),
        height=np.array([20.0], dtype=np.float32),
        turn=np.zeros(1, dtype=np.float32),
        color=np.full((1, 3), 100.0, dtype=np.float32),
    )


@pytest.mark.parametrize(("x", "y"), [(40, 25), (0, 63), (-3, 30), (66, 67)])
def test_a_crown_is_drawn_at_its_position(x: int, y: int) -> None:
    canopy = raise_canopy(lone_crown("Picea", x, y), 64)
    rows, columns = np.nonzero(canopy.height)
    assert len(rows) > 5
    assert np.hypot(rows - y, columns - x).max() < 1.2 * 8
    highest = np.argmax(canopy.height[rows, columns])
    nearest = (np.clip(x, 0, 63), np.clip(y, 0, 63))
    assert np.hypot(columns[highest] - nearest[0], rows[highest] - nearest[1]) <= 2


def test_a_shrub_claims_no_forest_floor() -> None:
    shrub = lone_crown("Cleared", 32, 32)
    canopy = raise_canopy(shrub, 64)
    ground = np.full((64, 64), CLASSES.index("Picea"))
    classes = class_map(canopy, shrub, ground)
    assert (classes[canopy.height > 0] == CLASSES.index("Cleared")).all()
    assert (classes[canopy.height == 0] == CLASSES.index("Picea")).all()


def test_a_smaller_tile() -> None:
    tile = make_tile(3, size=48)
    assert tile.image.shape == (48, 48, 3) and tile.mask.shape == (48, 48)
    assert tile.labels
    assert (tile.crowns[:, :2] < 48).all()


@pytest.mark.parametrize(("seed", "size"), [(-1, 304), (0, 31)])
def test_impossible_tiles_are_refused(seed: int, size: int) -> None:
    with pytest.raises(UserError) as caught:
        make_tile(seed, size)
    assert is_sentence(str(caught.value))


def test_the_smallest_tiles_can_be_drawn() -> None:
    assert all(make_tile(seed, size=32).labels for seed in range(60))


def test_split_has_every_class_on_both_sides() -> None:
    labels = [make_tile(seed, size=160).labels for seed in range(120)]
    count = Counter(name for row in labels for name in row)
    assert set(count) == set(CLASSES) and min(count.values()) >= 2
    split = split_tiles(labels, 0.25, np.random.default_rng(0))
    assert Counter(split) == {"val": 30, "train": 90}
    for side in ("train", "val"):
        assert {n for row, s in zip(labels, split, strict=True) if s == side for n in row} == set(
            CLASSES
        )


def test_split_gives_each_class_its_share() -> None:
    rng = np.random.default_rng(4)
    labels = [[n for n in CLASSES if rng.random() < 0.25] or ["Pinus"] for _ in range(200)]
    split = split_tiles(labels, 0.3, rng)
    for name in CLASSES:
        sides = [s for row, s in zip(labels, split, strict=True) if name in row]
        assert sides.count("val") / len(sides) == pytest.approx(0.3, abs=0.06)


def test_split_of_scarce_classes() -> None:
    # Larix and Tilia come twice, Abies once, which then belongs to train.
    labels = [["Pinus"]] * 5 + [["Larix"], ["Larix", "Tilia"], ["Tilia", "Pinus"], ["Abies"]]
    for seed in range(20):
        split = split_tiles(labels, 0.25, np.random.default_rng(seed))
        assert split.count("val") == 2
        assert split[8] == "train"
        for name in ("Larix", "Tilia"):
            assert {s for row, s in zip(labels, split, strict=True) if name in row} == {
                "train",
                "val",
            }


def test_split_leaves_a_class_that_comes_once_in_train() -> None:
    for seed in range(20):
        split = split_tiles([["Pinus"]] * 3 + [["Abies"]], 0.5, np.random.default_rng(seed))
        assert split.count("val") == 2 and split[3] == "train"


def test_split_of_one_tile_is_train() -> None:
    assert split_tiles([["Pinus"]], 0.25, np.random.default_rng(0)) == ["train"]


def test_dataset_files(dataset: Path) -> None:
    names = [f"tile_{index:05d}.png" for index in range(9)]
    assert sorted(p.name for p in (dataset / "images").iterdir()) == names
    assert sorted(p.name for p in (dataset / "masks").iterdir()) == ["classes.json", *names]
    assert json.loads((dataset / "masks" / "classes.json").read_text()) == list(CLASSES)
    first_line = (dataset / "splits.csv").read_text(encoding="utf-8").splitlines()[0]
    assert first_line == "filename,label,split"
    rows = read_rows(dataset / "splits.csv")
    assert [row["filename"] for row in rows] == names
    assert Counter(row["split"] for row in rows) == {"train": 7, "val": 2}


def test_dataset_rows_agree_with_the_masks(dataset: Path) -> None:
    crowns = read_rows(dataset / "crowns.csv")
    for row in read_rows(dataset / "splits.csv"):
        with Image.open(dataset / "masks" / row["filename"]) as image:
            assert image.mode == "L"
            mask = np.asarray(image)
        shares = {name: float((mask == index).mean()) for index, name in enumerate(CLASSES)}
        assert ast.literal_eval(row["label"]) == [n for n, share in shares.items() if share > 0.07]
        own = [crown for crown in crowns if crown["filename"] == row["filename"]]
        assert own or ast.literal_eval(row["label"]) == ["Cleared"]
        assert all(CLASSES[mask[int(c["y"]), int(c["x"])]] == c["class"] for c in own)


def test_dataset_twice_is_identical_and_another_seed_is_not(dataset: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "again", tiles=9, seed=2)
    assert fingerprint(tmp_path / "again") == fingerprint(dataset)
    write_dataset(tmp_path / "other", tiles=9, seed=3)
    other, same = (fingerprint(f / "images") for f in (tmp_path / "other", dataset))
    assert not set(other.values()) & set(same.values())


def test_a_complete_set_is_not_written_again(tmp_path: Path) -> None:
    write_dataset(tmp_path, tiles=3)
    for path in tmp_path.rglob("*.*"):
        os.utime(path, (1, 1))
    write_dataset(tmp_path, tiles=3)
    assert {path.stat().st_mtime for path in tmp_path.rglob("*.*")} == {1}


def test_points_are_the_crowns_by_other_names(dataset: Path) -> None:
    points, crowns = read_rows(dataset / "points.csv"), read_rows(dataset / "crowns.csv")
    assert list(points[0]) == ["filename", "x", "y", "label"]
    assert list(crowns[0]) == ["filename", "x", "y", "class"]
    assert [list(row.values()) for row in points] == [list(row.values()) for row in crowns]
    # (0, 0) is the center of the top-left pixel: rounded, a point lies in the pixel of its crown.
    for row in points:
        with Image.open(dataset / "masks" / row["filename"]) as mask:
            genus = np.asarray(mask)[int(row["y"]), int(row["x"])]
        assert CLASSES[genus] == row["label"]


def test_a_set_of_an_earlier_version_gets_the_files_that_it_lacks(tmp_path: Path) -> None:
    write_dataset(tmp_path, tiles=2)
    before = fingerprint(tmp_path)
    for path in tmp_path.rglob("*.png"):
        os.utime(path, (1, 1))
    (tmp_path / "masks" / "classes.json").unlink()
    (tmp_path / "points.csv").unlink()
    write_dataset(tmp_path, tiles=2)
    assert fingerprint(tmp_path) == before
    assert {path.stat().st_mtime for path in tmp_path.rglob("*.png")} == {1}


def test_points_of_an_interrupted_set_are_replaced(tmp_path: Path) -> None:
    write_dataset(tmp_path / "expected", tiles=2)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "points.csv").write_text("filename,x,y,label\nold.png,1,1,Abies\n")
    write_dataset(tmp_path / "set", tiles=2)
    assert fingerprint(tmp_path / "set") == fingerprint(tmp_path / "expected")


@pytest.mark.parametrize("lost", ["forest.json", "images/tile_00001.png"])
def test_an_incomplete_set_is_completed(tmp_path: Path, lost: str) -> None:
    write_dataset(tmp_path, tiles=3)
    before = fingerprint(tmp_path)
    (tmp_path / lost).unlink()
    if lost == "forest.json":  # as an interruption leaves it: splits.csv comes just before
        (tmp_path / "splits.csv").unlink()
    write_dataset(tmp_path, tiles=3)
    assert fingerprint(tmp_path) == before


def test_other_data_is_not_overwritten(tmp_path: Path) -> None:
    write_dataset(tmp_path / "forest", tiles=2)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "splits.csv").write_text("filename,label,split\n", encoding="utf-8")
    before = fingerprint(tmp_path)
    for folder, tiles in (("forest", 3), ("real", 2)):
        with pytest.raises(UserError, match="another folder") as caught:
            write_dataset(tmp_path / folder, tiles=tiles)
        assert is_sentence(str(caught.value))
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize(
    ("tiles", "seed", "val_fraction"), [(0, 0, 0.25), (100_001, 0, 0.25), (2, -1, 0.25), (2, 0, 1)]
)
def test_impossible_settings_are_refused(
    tmp_path: Path, tiles: int, seed: int, val_fraction: float
) -> None:
    with pytest.raises(UserError) as caught:
        write_dataset(tmp_path, tiles, seed, val_fraction)
    assert is_sentence(str(caught.value))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["taken", "taken/below"])
def test_a_file_instead_of_the_folder(tmp_path: Path, folder: str) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        write_dataset(tmp_path / folder, tiles=1)
    assert is_sentence(str(caught.value)) and "taken" in str(caught.value)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    assert main(["--output", str(out), "--tiles", "2", "--seed", "7"]) == 0
    assert len(read_rows(out / "splits.csv")) == 2
    capsys.readouterr()
    assert main(["--output", str(out), "--tiles", "0"]) == 2
    assert is_sentence(capsys.readouterr().err.strip())
