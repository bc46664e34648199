"""FathomNet 2023: float category lists, the key, COCO with addresses, images of several formats."""

from __future__ import annotations

import json
from pathlib import Path

from raw_archives.images import Truth, save

KEY = {1: "Actiniaria", 9: "Apostichopus leukothele", 11: "Asteroidea", 88: "Chionoecetes tanneri"}
# Id -> extension and categories.
IMAGES: dict[str, tuple[str, list[int]]] = {
    "3b6f01ae-5bde-434d-9b06-79b269421ed6": (".png", [1]),
    "dce21f7c-20e5-482b-bd90-c038f8464c03": (".png", [1]),
    "4a7f2199-772d-486d-b8e2-b651246316b5": (".jpg", [1]),
    "3bddedf6-4ff8-4e81-876a-564d2b03b364": (".png", [1, 9, 11, 88]),
    "3f735021-f5de-4168-b139-74bf2859d12a": (".png", [1, 9]),
    "0042211d-8e2c-4d7a-9f0b-52f1c3a4f001": (".jpg", [11]),
    "0042211d-8e2c-4d7a-9f0b-52f1c3a4f002": (".png", [9, 88]),
    "0042211d-8e2c-4d7a-9f0b-52f1c3a4f003": (".png", [88]),
    "0042211d-8e2c-4d7a-9f0b-52f1c3a4f004": (".png", [11, 9]),
    "0042211d-8e2c-4d7a-9f0b-52f1c3a4f005": (".png", [11]),
}


def _coco(path: Path, names: list[str], address: str, *, labels: bool) -> None:
    content = {
        "info": {"description": "FathomNet"},
        "images": [
            {
                "id": number,
                "width": 1920,
                "height": 1080,
                "file_name": name,
                "coco_url": f"{address}/{name}",
            }
            for number, name in enumerate(names, 1)
        ],
        "categories": [
            {"id": number, "name": name, "supercategory": "x"} for number, name in KEY.items()
        ],
        "annotations": [],
    }
    if labels:
        content["annotations"] = [
            {"id": 7, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12}
        ]
    path.write_text(json.dumps(content))


def write(
    folder: Path, address: str = "https://example.org/images", *, images: bool = True
) -> Truth:
    """Without images they are still to be fetched from the address."""
    for name in ("multilabel_classification", "object_detection"):
        (folder / name).mkdir(parents=True)
    lines = ["id,categories"]
    truth: Truth = {}
    for number, (identity, (extension, categories)) in enumerate(IMAGES.items()):
        cell = str([float(category) for category in categories])
        lines.append(f'{identity},"{cell}"' if "," in cell else f"{identity},{cell}")
        truth[identity + extension] = [KEY[category] for category in categories], None
        if images:
            save(folder / "images" / (identity + extension), number)
    table = folder / "multilabel_classification" / "train.csv"
    table.write_text("\n".join(lines) + "\n")
    key = [f"{number},{name},Anemone" for number, name in KEY.items()]
    path = folder / "multilabel_classification" / "category_key.csv"
    path.write_text("\n".join(("id,name,supercat", *key)) + "\n")
    detection = folder / "object_detection"
    _coco(detection / "train.json", list(truth), address, labels=True)
    _coco(detection / "eval.json", ["ffff0000.png"], address, labels=False)
    return truth
