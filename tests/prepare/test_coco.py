"""COCO files: named or found, images below the folder, and bad input."""

from __future__ import annotations

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
