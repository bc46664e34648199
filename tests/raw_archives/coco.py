"""A COCO set as its tools unpack it: annotations/, and a folder of images a split."""

from __future__ import annotations

import json
from pathlib import Path

from raw_archives.images import Truth, save

CATEGORIES = {1: "person", 3: "car", 18: "dog, small"}
IMAGES: dict[str, dict[int, list[int]]] = {
    "train": {9: [1, 3, 3], 25: [18], 30: [], 34: [3, 1, 18], 36: [1], 42: [3], 49: [18, 1]},
    "val": {139: [1, 3], 285: [18], 632: [3]},
}


def write(folder: Path) -> Truth:
    """Labels are in the order of the category ids."""
    (folder / "annotations").mkdir(parents=True)
    truth: Truth = {}
    for split, images in IMAGES.items():
        for image, categories in images.items():
            name = f"{split}2017/{image:012d}.jpg"
            save(folder / name, image)
            truth[name] = [CATEGORIES[category] for category in sorted(set(categories))], split
        content = {
            "images": [
                {"id": image, "file_name": f"{image:012d}.jpg", "height": 32, "width": 32}
                for image in images
            ],
            "categories": [{"id": key, "name": name} for key, name in CATEGORIES.items()],
            "annotations": [
                {"id": 100 * image + n, "image_id": image, "category_id": c, "iscrowd": 0}
                for image, categories in images.items()
                for n, c in enumerate(categories)
            ],
        }
        path = folder / "annotations" / f"instances_{split}2017.json"
        path.write_text(json.dumps(content))
    return truth
