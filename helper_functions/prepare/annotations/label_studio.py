"""Label Studio, JSON or JSON-MIN: points, and centers of shapes, in per cent of the image."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from helper_functions.prepare.annotations.base import (
    AnnotatedImage,
    Inputs,
    image_dimensions,
    label_of,
    mapping,
    number,
    pair,
    polygon_center,
    sequence,
    shown,
)
from helper_functions.prepare.point_rows import Point, Size
from helper_functions.runtime.errors import UserError

HELP = "Label Studio JSON: keypoints, and centers of rectangles, ellipses and polygons"
ORIGIN = "corner"
EXTENSIONS = (".json",)
FOLDER = False
FLAGS = ()

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # what an upload puts before the name
_SHAPES = ("keypoint", "rectangle", "ellipse", "polygon")


def _image_name(address: str, inputs: Inputs) -> str:
    """Return the file name behind an address of Label Studio."""
    path, _, rest = address.replace("\\", "/").partition("?")
    query = re.search(r"(?:^|&)d=([^&]*)", rest)  # /data/local-files/?d=folder/name.jpg
    name = f"/{unquote(query[1] if query else path)}"  # its folders are the server's
    uploaded = _UPLOADED.fullmatch(PurePosixPath(name).name)
    if uploaded and not inputs.images.has(name):
        return uploaded[1]
    return name


def _center(value: Mapping[str, Any], kind: str, size: Size, where: str) -> tuple[float, float]:
    """Return the point or center of a region, in pixels of an image of this size."""

    def pixels(name: str, side: int) -> float:
        return number(value.get(name), f"{where}: {name!r}") / 100 * side

    width, height = size
    if kind == "polygon":
        corners = [
            pair(each, f"{where}: 'points'")
            for each in sequence(value.get("points"), f"{where}: 'points'")
        ]
        if not corners:
            raise UserError(f"{where}: the polygon has no corner.")
        return polygon_center([(x / 100 * width, y / 100 * height) for x, y in corners])
    x, y = pixels("x", width), pixels("y", height)
    if kind == "rectangle":  # turned about its top-left corner
        turn = math.radians(number(value.get("rotation", 0), f"{where}: 'rotation'"))
        half_width, half_height = pixels("width", width) / 2, pixels("height", height) / 2
        x += half_width * math.cos(turn) - half_height * math.sin(turn)
        y += half_width * math.sin(turn) + half_height * math.cos(turn)
    return x, y


def _results(task: Mapping[str, Any], where: str, inputs: Inputs) -> list[Any] | None:
    """Return the regions of a task, each with a ``value``; ``None`` if nobody has done it."""
    listed = task.get("annotations", task.get("completions"))
    if listed is None:  # JSON-MIN: lists of values under the names of the controls
        controls = [value for value in task.values() if isinstance(value, list)]
        regions = [value for control in controls for value in control if isinstance(value, dict)]
        return [{**region, "value": region} for region in regions]
    done = [
        mapping(each, f"{where}: an annotation")
        for each in sequence(listed, f"{where}: 'annotations'")
    ]
    done = [each for each in done if each.get("was_cancelled") is not True]
    if len(done) > 1:
        inputs.tally["Tasks with several annotations, of which the first counts"] += 1
    return list(sequence(done[0].get("result"), f"{where}: 'result'")) if done else None


def _kind(region: Mapping[str, Any], value: Mapping[str, Any]) -> str | None:
    """Return the shape of a region, such as "keypoint" for ``keypointlabels``."""
    named = region.get("type")
    names = [named] if isinstance(named, str) and named != "labels" else list(value)
    for shape in _SHAPES:
        if shape in names or f"{shape}labels" in names:
            return shape
    return None


def read(path: Path, inputs: Inputs) -> Iterator[AnnotatedImage]:
    """Yield the image of every task that has been annotated."""
    tasks = sequence(inputs.sources.json(path), f"{path}: its content")
    for index, entry in enumerate(tasks, 1):
        where = f"{path}, task {index}"
        task = mapping(entry, where)
        data = mapping(task.get("data", task), f"{where}: 'data'")
        address = next(
            (data[key] for key in ("image", "img", "url", *data) if isinstance(data.get(key), str)),
            None,
        )
        if address is None:
            raise UserError(f"{where}: 'data' names no image.")
        results = _results(task, where, inputs)
        if results is None:
            inputs.tally["Tasks left out, which nobody has annotated"] += 1
            continue
        size: Size | None = None
        points = []
        for place, result in enumerate(results, 1):
            region_where = f"{where}, region {place}"
            region = mapping(result, region_where)
            value = region.get("value")
            kind = _kind(region, value) if isinstance(value, dict) else None
            if kind is None or not isinstance(value, dict):
                if isinstance(value, dict) and "choices" not in value:
                    kind_name = shown(region.get("type"))
                    inputs.tally[f"Regions left out, of the type {kind_name}"] += 1
                continue
            if region.get("image_rotation") not in (None, 0):
                raise UserError(f"{region_where}: the image was rotated; rotate its pixels first.")
            stated = image_dimensions(region.get("original_width"), region.get("original_height"))
            if size not in (None, stated):
                raise UserError(f"{region_where}: the original size is not that of the others.")
            if stated is None:
                raise UserError(
                    f"{region_where}: 'original_width' or 'original_height' is missing."
                )
            size = stated
            labels = value.get(f"{kind}labels", value.get("labels"))
            if isinstance(labels, list) and len(labels) > 1:
                raise UserError(f"{region_where} has {len(labels)} labels; a point has one.")
            label = labels[0] if isinstance(labels, list) and labels else labels or None
            x, y = _center(value, kind, size, region_where)
            points.append(Point(x, y, label_of(label, region_where), region_where))
        yield AnnotatedImage(_image_name(address, inputs), points, where, size)
