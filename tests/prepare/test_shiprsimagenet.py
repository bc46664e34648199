"""ShipRSImageNet: four levels, VOC against COCO, missing files, and bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from raw_archives import shiprsimagenet
from raw_archives.conversions import appended, prepare, refused, replaced

from helper_functions.runtime.errors import UserError

XML = "VOC_Format/Annotations/000001.xml"
COCO = "COCO_Format/ShipRSImageNet_bbox_{}_level_3.json"


@pytest.mark.parametrize("level", range(4))
def test_levels_and_published_splits(level: int, raw: Path) -> None:
    shiprsimagenet.write(raw)
    rows, manifest = prepare("shiprsimagenet", raw, "--level", level)
    assert rows == shiprsimagenet.truth(level)
    assert rows["000005.bmp"] == (["Dock"], "train")
    assert rows["000022.bmp"] == (["Dock"], "test")
    assert rows["000004.bmp"] == ([], "train")
    assert manifest["options"]["level"] == level
    instances = sum(len(objects) for _, objects in shiprsimagenet.IMAGES.values())
    assert f"There are {instances} instances; 17,573 are published." in manifest["notes"]


def _shift_coco(raw: Path, stems: int) -> None:
    """Move the categories of the first images of both COCO files by one."""
    for split in ("train", "val"):
        path = raw / COCO.format(split)
        content = json.loads(path.read_text())
        for entry in content["annotations"]:
            if entry["image_id"] < stems:
                entry["category_id"] = entry["category_id"] % 50 + 1
        path.write_text(json.dumps(content))


def test_numbers_are_held_against_coco(raw: Path) -> None:
    shiprsimagenet.write(raw)
    _shift_coco(raw, 1)
    _, manifest = prepare("shiprsimagenet", raw)
    note = "COCO_Format gives other labels for 2 of 9 images (the first: 000001.bmp)"
    assert any(note in each for each in manifest["notes"])
    _shift_coco(raw, 9)
    with pytest.raises(UserError, match="the class numbers do not fit"):
        prepare("shiprsimagenet", raw, "--overwrite")


def test_images_without_annotation_are_listed(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shiprsimagenet.write(raw)
    (raw / "VOC_Format/Annotations/000022.xml").unlink()
    (raw / "VOC_Format/JPEGImages/000006.bmp").unlink()
    rows, manifest = prepare("shiprsimagenet", raw, "--download")
    assert len(rows) == 9
    assert manifest["skipped_by_reason"] == {
        "its annotation is not there": 1,
        "the image is not there": 1,
    }
    printed = capsys.readouterr().out
    assert "the address, sizes and checksums are not known to this program" in printed
    assert "images in VOC_Format: 10 (3,435 are published)" in printed


CELLS: tuple[tuple[Callable[[Path], object], str], ...] = (
    (replaced(XML, "<level_3>1<", "<level_3>0<"), "not from 1 to 50"),
    (replaced(XML, "<level_3>1<", "<level_3>51<"), "not from 1 to 50"),
    (replaced(XML, "<level_3>1<", "<level_3>x<"), "is not a whole number"),
    (replaced(XML, "<level_3>1</level_3>", ""), "level_3 '' is not a"),
    (replaced(XML, "</annotation>", ""), "cannot be read as XML"),
    (appended("VOC_Format/ImageSets/val.txt", "000001\n"), "train and val"),
    (appended("VOC_Format/ImageSets/val.txt", "../1\n"), "leaves the image"),
)


@pytest.mark.parametrize(("damage", "sentence"), CELLS)
def test_wrong_content_gets_one_sentence(
    damage: Callable[[Path], object], sentence: str, raw: Path
) -> None:
    shiprsimagenet.write(raw)
    damage(raw)
    refused("shiprsimagenet", raw, sentence)
