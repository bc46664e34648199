"""COCO annotation files: keypoints of objects, or the centers of their boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from helper_functions.prepare.annotations.base import (
    AnnotatedImage,
    Inputs,
    image_dimensions,
    label_of,
    mapping,
    number,
    sequence,
    shown,
    text,
)
from helper_functions.prepare.point_rows import Point
from helper_functions.runtime.errors import UserError

HELP = "COCO keypoints or boxes"
ORIGIN = "corner"
EXTENSIONS = (".json",)
FOLDER = False
FLAGS = ("object_point",)
OBJECT_POINTS = ("mean", "first", "each", "box")


def _entries(content: Any, key: str, path: Path) -> Iterator[tuple[Mapping[str, Any], str]]:
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise UserError(f"{path} is no COCO file: it has no list {key!r}.")
    for index, entry in enumerate(content[key], 1):
        where = f"{path}, entry {index} of {key!r}"
        yield mapping(entry, where), where


def _identifier(entry: Mapping[str, Any], key: str, where: str) -> int | str:
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise UserError(f"{where}: {key!r} is {shown(value)}, not an identifier.")
    return value


def _visible(entry: Mapping[str, Any], where: str) -> list[tuple[float, float]]:
    """Return the keypoints that are labeled, seen or not."""
    values = entry.get("keypoints")
    if values is None:
        return []
    values = sequence(values, f"{where}: 'keypoints'")
    if len(values) % 3:
        raise UserError(f"{where}: 'keypoints' holds {len(values)} values, not three a keypoint.")
    numbers = [number(value, f"{where}: a keypoint") for value in values]
    triples = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    return [(x, y) for x, y, visibility in triples if visibility > 0]


def _box_center(entry: Mapping[str, Any], where: str) -> tuple[float, float]:
    values = sequence(entry.get("bbox"), f"{where}: 'bbox'")
    if len(values) != 4:
        raise UserError(f"{where}: 'bbox' holds {len(values)} values, not x, y, width and height.")
    x, y, width, height = (number(value, f"{where}: 'bbox'") for value in values)
    return x + width / 2, y + height / 2


def read(path: Path, inputs: Inputs) -> Iterator[AnnotatedImage]:
    """Yield the images of a file in its order.

    An object of which no keypoint is labeled is given by the center of its box.
    """
    wanted = inputs.options.object_point or "mean"
    content = inputs.sources.json(path, without=("segmentation", "area"))
    names: dict[int | str, str | None] = {}
    for entry, where in _entries(content, "categories", path):
        names[_identifier(entry, "id", where)] = label_of(entry.get("name"), where)
    images: dict[int | str, AnnotatedImage] = {}
    for entry, where in _entries(content, "images", path):
        key = _identifier(entry, "id", where)
        if key in images:
            raise UserError(f"{where}: the id {shown(key)} comes twice.")
        name = text(entry.get("file_name"), f"{where}: 'file_name'")
        size = image_dimensions(entry.get("width"), entry.get("height"))
        images[key] = AnnotatedImage(name, [], where, size)

    any_keypoints = False
    without = 0
    for entry, where in _entries(content, "annotations", path):
        image, category = (_identifier(entry, key, where) for key in ("image_id", "category_id"))
        if image not in images:
            raise UserError(f"{where}: there is no image {shown(image)}.")
        if category not in names:
            raise UserError(f"{where}: there is no category {shown(category)}.")
        if entry.get("iscrowd") in (1, True):
            inputs.tally["Crowd regions (iscrowd), which are left out"] += 1
            continue
        places = _visible(entry, where) if wanted != "box" else []
        any_keypoints = any_keypoints or bool(places)
        if not places:
            without += 1
            places = [_box_center(entry, where)]
        elif wanted == "first":
            places = places[:1]
        elif wanted == "mean":
            xs, ys = zip(*places, strict=True)
            places = [(sum(xs) / len(xs), sum(ys) / len(ys))]
        images[image].points.extend(Point(x, y, names[category], where) for x, y in places)
    if any_keypoints and without:
        inputs.tally["Objects without a keypoint, given by the center of their box"] += without
    yield from images.values()
