"""ShipRSImageNet: BMP images, VOC files with four levels, COCO files a level and split."""

from __future__ import annotations

import json
from pathlib import Path

from raw_archives.images import Truth, save

COUNTS = (2, 4, 25, 50)


def class_names(level: int) -> list[str]:
    """The classes of a level: ships, and Dock as the last."""
    return [f"Ship {level}.{number:02d}" for number in range(1, COUNTS[level])] + ["Dock"]


# Image -> split and objects; an object's classes, numbered from 1, at the levels 0 to 3.
_DOCK = COUNTS
IMAGES: dict[str, tuple[str, list[tuple[int, ...]]]] = {
    "000001": ("train", [(1, 1, 1, 1), (1, 2, 3, 5)]),
    "000002": ("train", [(1, 2, 3, 5), (1, 2, 3, 5), _DOCK]),
    "000003": ("train", [(1, 3, 24, 49)]),
    "000004": ("train", []),
    "000005": ("train", [_DOCK]),
    "000006": ("train", [(1, 1, 1, 1), (1, 3, 24, 49)]),
    "000011": ("val", [(1, 1, 1, 1), _DOCK]),
    "000012": ("val", [(1, 3, 24, 49), (1, 2, 3, 5)]),
    "000013": ("val", [(1, 2, 3, 5)]),
    "000021": ("test", [(1, 1, 1, 1), (1, 3, 24, 49)]),
    "000022": ("test", [_DOCK]),
}


def _annotation(stem: str, objects: list[tuple[int, ...]]) -> str:
    entries = [
        "<object>"
        f"<name>{class_names(3)[levels[3] - 1]}</name>"
        + "".join(f"<level_{level}>{number}</level_{level}>" for level, number in enumerate(levels))
        + "<pose>Unspecified</pose><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax>"
        "<ymax>8</ymax></bndbox></object>"
        for levels in objects
    ]
    return (
        f"<annotation><folder>JPEGImages</folder><filename>{stem}.bmp</filename>"
        f"<size><width>32</width><height>32</height><depth>3</depth></size>{''.join(entries)}"
        "</annotation>\n"
    )


def _coco(path: Path, split: str, level: int) -> None:
    """As published, the file of the split test holds no annotation."""
    stems = [stem for stem, (of, _) in IMAGES.items() if of == split]
    annotations = [
        {"image_id": index, "category_id": levels[level], "bbox": [2, 3, 7, 5]}
        for index, stem in enumerate(stems)
        for levels in IMAGES[stem][1]
        if split != "test"
    ]
    content = {
        "images": [{"id": n, "file_name": f"{stem}.bmp"} for n, stem in enumerate(stems)],
        "categories": [
            {"id": number, "name": name} for number, name in enumerate(class_names(level), 1)
        ],
        "annotations": [{"id": n, **entry} for n, entry in enumerate(annotations)],
    }
    path.write_text(json.dumps(content))


def truth(level: int) -> Truth:
    """What the split CSV must hold at a level."""
    names = class_names(level)
    return {
        f"{stem}.bmp": (sorted({names[levels[level] - 1] for levels in objects}), split)
        for stem, (split, objects) in IMAGES.items()
    }


def write(folder: Path) -> Truth:
    """The truth is that of level 3."""
    voc, coco = folder / "VOC_Format", folder / "COCO_Format"
    for path in (voc / "JPEGImages", voc / "Annotations", voc / "ImageSets", coco):
        path.mkdir(parents=True)
    for number, (stem, (_, objects)) in enumerate(IMAGES.items()):
        save(voc / "JPEGImages" / f"{stem}.bmp", number)
        (voc / "Annotations" / f"{stem}.xml").write_text(_annotation(stem, objects))
    for split in ("train", "val", "test"):
        stems = [stem for stem, (of, _) in IMAGES.items() if of == split]
        (voc / "ImageSets" / f"{split}.txt").write_text("\n".join(stems) + "\n")
        for level in range(4):
            _coco(coco / f"ShipRSImageNet_bbox_{split}_level_{level}.json", split, level)
    return truth(3)
