"""COCO files: named or found, images below the folder, and bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from raw_archives import coco
from raw_archives.conversions import prepare, refused, replaced

from helper_functions.runtime.errors import UserError

COCO = "annotations/instances_train2017.json"


def test_images_are_found_below_the_folder(raw: Path) -> None:
    truth = coco.write(raw)
    (raw / "loop").symlink_to(raw)
    assert prepare("coco", raw)[0] == truth
    (raw / "copy").mkdir()
    shutil.copy(raw / "train2017" / "000000000009.jpg", raw / "copy")
    with pytest.raises(UserError, match=r"several images '000000000009\.jpg' .* --images"):
        prepare("coco", raw, "--overwrite")


def test_files_can_be_named_and_validation_cut(raw: Path) -> None:
    truth = coco.write(raw)
    train, val = (f"annotations/instances_{split}2017.json" for split in ("train", "val"))
    rows, _ = prepare("coco", raw, "--json", f"train={train}", f"test={val}", "--val-fraction", 0.2)
    assert {name for name, (_, split) in rows.items() if split == "test"} == {
        name for name, (_, split) in truth.items() if split == "val"
    }
    assert sum(split == "val" for _, split in rows.values()) == 1
    flags = ("--json", train, "--images", "train2017", "--overwrite")
    rows, _ = prepare("coco", raw, *flags)
    assert set(rows) == {Path(name).name for name, (_, s) in truth.items() if s == "train"}


def test_a_share_that_nothing_is_cut_by_is_refused(raw: Path) -> None:
    coco.write(raw)
    refused("coco", raw, "every image has its split already", "--val-fraction", 0.2)


CELLS: tuple[tuple[Callable[[Path], object], str], ...] = (
    (replaced(COCO, "000000000009.jpg", "../9.jpg"), "leaves the image folder"),
    (replaced(COCO, "000000000009.jpg", "/9.jpg"), "leaves the image folder"),
    (replaced(COCO, "000000000009.jpg", "000000000139.jpg"), "train and val"),
    (replaced(COCO, "000000000009.jpg", "000000000025.jpg"), "train twice"),
    (replaced(COCO, '"id": 9,', '"id": 25,'), "the id 25 comes twice"),
    (replaced(COCO, '"image_id": 9,', '"image_id": 7,'), "there is no image 7"),
    (replaced(COCO, '"category_id": 3', '"category_id": 2'), "there is no category 2"),
    (replaced(COCO, '"category_id": 3', '"category_id": null'), "not an identifier"),
    (replaced(COCO, '"name": "car"', '"name": "person"'), "comes twice"),
    (replaced(COCO, '"name": "car"', '"name": " "'), "the class name is empty"),
    (replaced(COCO, '"annotations"', '"notes"'), "it has no list 'annotations'"),
    (lambda raw: (raw / COCO).rename(raw / "annotations/a.json"), "by --json"),
    (lambda raw: shutil.copy(raw / COCO, raw / "train.json"), "the same split"),
)


@pytest.mark.parametrize(("damage", "sentence"), CELLS)
def test_wrong_content_gets_one_sentence(
    damage: Callable[[Path], object], sentence: str, raw: Path
) -> None:
    coco.write(raw)
    damage(raw)
    refused("coco", raw, sentence)


@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_ids_may_be_numbers_or_texts(raw: Path, key: str) -> None:
    """Some tools write the ids of annotations as texts, or as floats."""
    truth = coco.write(raw)
    path = raw / COCO
    content = json.loads(path.read_text())
    for form, entry in enumerate(content["annotations"]):
        entry[key] = (str(entry[key]), float(entry[key]), f"{entry[key]}.0")[form % 3]
    path.write_text(json.dumps(content))
    assert prepare("coco", raw)[0] == truth


def test_ids_may_be_texts_throughout(raw: Path) -> None:
    truth = coco.write(raw)
    content = json.loads((raw / COCO).read_text())
    for entry in (*content["images"], *content["categories"]):
        entry["id"] = f"{entry['id']}"
    (raw / COCO).write_text(json.dumps(content))
    assert prepare("coco", raw)[0] == truth  # the classes of an image in numeric order: 3 before 18


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"image_id": 9,', '"image_id": "009",', "there is no image '009' (there is '9')"),
        ('"category_id": 3', '"category_id": "x"', "there is no category 'x'; correct its"),
        ('"id": 9,', '"id": "25",', "the id 25 comes twice"),
    ],
)
def test_ids_of_nothing_are_named_with_file_and_entry(
    raw: Path, old: str, new: str, sentence: str
) -> None:
    coco.write(raw)
    replaced(COCO, old, new)(raw)
    refused("coco", raw, sentence)
    refused("coco", raw, f"{raw / COCO}, entry ")


def test_images_behind_links_and_backslashes_are_found(raw: Path) -> None:
    truth = coco.write(raw)
    (raw / "train2017").rename(raw.parent / "elsewhere")
    (raw / "train2017").symlink_to(raw.parent / "elsewhere")
    replaced(COCO, "000000000009.jpg", r"train2017\\000000000009.jpg")(raw)
    replaced(COCO, "000000000025.jpg", r"coco\\images\\000000000025.jpg")(raw)
    assert prepare("coco", raw)[0] == truth
