"""One scene of a few images, as every annotation tool writes it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image

from raw_archives.images import noise


class Scene(NamedTuple):
    """Width and height as shown, and x, y, label of the objects, from the corner of the image."""

    width: int
    height: int
    objects: tuple[tuple[float, float, str], ...]


# The image d.jpg is stored on its side, with an EXIF orientation.
IMAGES = {
    "a.png": Scene(48, 32, ((10.5, 20.5, "crab"), (47.5, 31.5, "sea star"), (3.0, 6.5, "crab"))),
    "b.png": Scene(40, 40, ((4.5, 4.5, "crab"), (20.5, 10.5, "sea star"))),
    "c.png": Scene(32, 32, ()),
    "d.jpg": Scene(36, 24, ((35.5, 2.5, "sea star"), (30.5, 20.5, "crab"))),
    "e.png": Scene(32, 40, ((12.5, 8.75, "crab"),)),
}
LABELS = ("crab", "sea star")
TURNED = 6  # EXIF orientation


def truth(*, labels: bool = True) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of points.csv by image: the origin is the center of the first pixel."""
    return {
        name: [(x - 0.5, y - 0.5, *((label,) if labels else ())) for x, y, label in scene.objects]
        for name, scene in IMAGES.items()
    }


def write_images(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, (name, scene) in enumerate(IMAGES.items()):
        pixels = noise(number, side=64)[: scene.height, : scene.width]
        exif = Image.Exif()
        if name == "d.jpg":
            pixels = np.rot90(pixels, 1)
            exif[0x0112] = TURNED
        Image.fromarray(pixels).save(folder / name, exif=exif)


def _csv(raw: Path) -> None:
    lines = ["filename,x,y,label"]
    for name, rows in truth().items():
        lines += [f"{name},{x:g},{y:g},{label}" for x, y, label in rows]
    (raw / "objects.csv").write_text("\n".join(lines) + "\n")


def _coco(raw: Path) -> None:
    annotations: list[dict[str, Any]] = []
    for image, scene in enumerate(IMAGES.values(), 1):
        for x, y, label in scene.objects:
            entry = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": 3 * LABELS.index(label) + 1,
                "bbox": [x - 2, y - 3, 4, 6],
                "area": 24,
                "segmentation": [[x, y, x + 1, y, x + 1, y + 1]],
                "iscrowd": 0,
            }
            if len(annotations) % 2:  # the mean is the point; the third is not labeled
                entry |= {"keypoints": [x - 1, y, 2, x + 1, y, 1, 0, 0, 0], "num_keypoints": 2}
            annotations.append(entry)
    annotations.append({**annotations[0], "id": 99, "iscrowd": 1})
    content = {
        "info": {"year": 2026},
        "images": [
            {"id": n, "file_name": name, "width": scene.width, "height": scene.height}
            for n, (name, scene) in enumerate(IMAGES.items(), 1)
        ],
        "categories": [{"id": 3 * n + 1, "name": name} for n, name in enumerate(LABELS)],
        "annotations": annotations,
    }
    (raw / "instances.json").write_text(json.dumps(content))


def _labelme(raw: Path) -> None:
    (raw / "annotations").mkdir()
    for name, scene in IMAGES.items():
        shapes: list[dict[str, Any]] = []
        for n, (x, y, label) in enumerate(scene.objects):
            kind, points = (
                ("point", [[x, y]]),
                ("rectangle", [[x - 3, y - 2], [x + 3, y + 2]]),
                ("polygon", [[x - 1, y - 1], [x + 1, y - 1], [x + 1, y + 1], [x - 1, y + 1]]),
            )[n % 3]
            shapes.append(
                {"label": label, "points": points, "group_id": None, "shape_type": kind}
                | {"description": "", "flags": {}}
            )
        shapes.append({"label": "net", "points": [[1, 1], [5, 5]], "shape_type": "line"})
        content = {
            "version": "5.4.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": f"..\\images\\{name}",
            "imageData": "iVBORw0KGgo=",
            "imageHeight": scene.height,
            "imageWidth": scene.width,
        }
        (raw / "annotations" / f"{Path(name).stem}.json").write_text(json.dumps(content, indent=2))


def _cvat(raw: Path) -> None:
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "  <version>1.1</version>",
        "  <meta><task><id>7</id><labels><label><name>crab</name></label></labels></task></meta>",
    ]
    for number, (name, scene) in enumerate(IMAGES.items()):
        lines.append(
            f'  <image id="{number}" name={quoteattr(name)} width="{scene.width}" '
            f'height="{scene.height}">'
        )
        for n, (x, y, label) in enumerate(scene.objects):
            common = f'label={quoteattr(label)} source="manual" occluded="0" z_order="0"'
            corners = f"{x - 1},{y};{x},{y - 1};{x + 1},{y};{x},{y + 1}"
            lines.append(
                (
                    f'    <points {common} points="{x},{y}"></points>',
                    f'    <box {common} xtl="{x - 2}" ytl="{y - 1}" xbr="{x + 2}" ybr="{y + 1}">'
                    '<attribute name="age">1</attribute></box>',
                    f'    <polygon {common} points="{corners}"></polygon>',
                )[n % 3]
            )
        if name == "e.png":
            lines[-1] = (
                '    <skeleton label="crab"><points label="1" outside="0" points="10.5,8.75"/>'
                '<points label="2" outside="0" points="14.5,8.75"/>'
                '<points label="3" outside="1" points="0,0"/></skeleton>'
            )
        lines += ['    <tag label="sea star" source="manual"></tag>', "  </image>"]
    (raw / "annotations.xml").write_text("\n".join([*lines, "</annotations>", ""]))


def _via_shape(n: int, x: float, y: float) -> dict[str, Any]:
    return (
        {"name": "point", "cx": x, "cy": y},
        {"name": "rect", "x": x - 2, "y": y - 1, "width": 4, "height": 2},
        {"name": "circle", "cx": x, "cy": y, "r": 3},
    )[n % 3]


def _via_csv(raw: Path) -> None:
    with (raw / "via_export_csv.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ("filename", "file_size", "file_attributes", "region_count", "region_id")
            + ("region_shape_attributes", "region_attributes")
        )
        for name, scene in IMAGES.items():
            count = len(scene.objects)
            for n, (x, y, label) in enumerate(scene.objects):
                attributes = json.dumps(_via_shape(n, x, y)), json.dumps({"kind": label})
                writer.writerow((name, 1234, "{}", count, n, *attributes))
            if not count:
                writer.writerow((name, 1234, "{}", 0, 0, "{}", "{}"))


def _via_json(raw: Path) -> None:
    images = {
        f"{name}1234": {
            "filename": name,
            "size": 1234,
            "regions": [
                {
                    "shape_attributes": _via_shape(n, x, y),
                    "region_attributes": {"kind": {label: True}},
                }
                for n, (x, y, label) in enumerate(scene.objects)
            ],
            "file_attributes": {},
        }
        for name, scene in IMAGES.items()
    }
    content = {"_via_settings": {"ui": {}}, "_via_img_metadata": images, "_via_attributes": {}}
    (raw / "via_project.json").write_text(json.dumps(content))


def _label_studio(raw: Path) -> None:
    tasks = []
    for number, (name, scene) in enumerate(IMAGES.items(), 1):
        results = []
        for n, (x, y, label) in enumerate(scene.objects):
            left, top = 100 * x / scene.width, 100 * y / scene.height
            common: dict[str, Any] = {
                "id": f"r{n}",
                "from_name": "kp",
                "to_name": "image",
                "image_rotation": 0,
            }
            common |= {"original_width": scene.width, "original_height": scene.height}
            if n % 2:  # a square turned by 90 degrees about its corner, which lies to the right
                side_x, side_y = 200 / scene.width, 200 / scene.height
                value: dict[str, Any] = {
                    "x": left + side_x / 2,
                    "y": top - side_y / 2,
                    "rotation": 90,
                }
                value |= {"width": side_x, "height": side_y, "rectanglelabels": [label]}
                results.append({**common, "type": "rectanglelabels", "value": value})
            else:
                value = {"x": left, "y": top, "width": 0.5, "keypointlabels": [label]}
                results.append({**common, "type": "keypointlabels", "value": value})
        results.append({"type": "choices", "value": {"choices": ["good"]}, "from_name": "q"})
        upload = f"/data/upload/3/{number:08x}-{name}"
        local = f"/data/local-files/?d=images/{name}"
        tasks.append(
            {
                "id": number,
                "data": {"image": upload if number % 2 else local},
                "annotations": [
                    {"id": 1, "was_cancelled": True, "result": []},
                    {"id": 2, "was_cancelled": False, "result": results},
                ],
                "predictions": [],
            }
        )
    (raw / "project-3-at-2026.json").write_text(json.dumps(tasks))


def _feature(x: float, y: float, n: int, properties: dict[str, Any]) -> dict[str, Any]:
    square = [[x - 1, y - 1], [x + 1, y - 1], [x + 1, y + 1], [x - 1, y + 1], [x - 1, y - 1]]
    geometry = (
        {"type": "Point", "coordinates": [x, y]},
        {"type": "Polygon", "coordinates": [square]},
        {"type": "MultiPoint", "coordinates": [[x, y]]},
    )[n % 3]
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _geojson(raw: Path) -> None:
    (raw / "annotations").mkdir()
    for name, scene in IMAGES.items():
        features = [
            _feature(x, y, n, {"objectType": "annotation", "classification": {"name": label}})
            for n, (x, y, label) in enumerate(scene.objects)
        ]
        content = {"type": "FeatureCollection", "features": features}
        (raw / "annotations" / f"{Path(name).stem}.geojson").write_text(json.dumps(content))


def _geojson_one(raw: Path) -> None:
    features = [
        _feature(x, y, n, {"filename": name, "label": label})
        for name, scene in IMAGES.items()
        for n, (x, y, label) in enumerate(scene.objects)
    ]
    content = {"type": "FeatureCollection", "features": features}
    (raw / "all.geojson").write_text(json.dumps(content))


def _dots(raw: Path) -> None:
    """Single pixels, beside the images as in TRANCOS."""
    for name, scene in IMAGES.items():
        mask = np.zeros((scene.height, scene.width, 3), np.uint8)
        for x, y, _ in scene.objects:
            mask[int(y), int(x), 0] = 255
        Image.fromarray(mask).save(raw / "images" / f"{Path(name).stem}dots.png")


def _yolo(raw: Path) -> None:
    (raw / "labels").mkdir()
    (raw / "data.yaml").write_text("train: images\nnc: 2\nnames:\n  0: crab\n  1: sea star\n")
    for name, scene in IMAGES.items():
        lines = [
            f"{LABELS.index(label)} {x / scene.width:.9f} {y / scene.height:.9f} 0.05 0.1"
            for x, y, label in scene.objects
        ]
        (raw / "labels" / f"{Path(name).stem}.txt").write_text("\n".join(lines))


class Tool(NamedTuple):
    """What writes the annotations, the flags that read them, and a file of them."""

    write: Callable[[Path], None]
    flags: tuple[str, ...]
    file: str
    labels: bool = True


TOOLS = {
    "csv": Tool(_csv, ("--from", "csv", "--empty-images"), "objects.csv"),
    "coco": Tool(_coco, ("--from", "coco"), "instances.json"),
    "labelme": Tool(_labelme, ("--from", "labelme"), "annotations/a.json"),
    "cvat": Tool(_cvat, ("--from", "cvat"), "annotations.xml"),
    "via-csv": Tool(_via_csv, ("--from", "via"), "via_export_csv.csv"),
    "via-json": Tool(_via_json, ("--from", "via"), "via_project.json"),
    "label-studio": Tool(_label_studio, ("--from", "label-studio"), "project-3-at-2026.json"),
    "geojson": Tool(_geojson, ("--from", "geojson"), "annotations/a.geojson"),
    "geojson-one": Tool(
        _geojson_one,
        ("--from", "geojson", "--annotations", "all.geojson", "--empty-images"),
        "all.geojson",
    ),
    "dots": Tool(_dots, ("--from", "dots"), "images/adots.png", labels=False),
    "yolo": Tool(_yolo, ("--from", "yolo"), "labels/a.txt"),
}


def write(raw: Path, tool: str) -> tuple[str, ...]:
    """Write images and annotations; return the flags that read them."""
    write_images(raw / "images")
    TOOLS[tool].write(raw)
    return (*TOOLS[tool].flags, "--images", "images")
