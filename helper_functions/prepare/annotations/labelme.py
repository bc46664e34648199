"""LabelMe: a JSON file an image, with points, and with shapes of which the center is taken."""

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
    pair,
    polygon_center,
    sequence,
    shown,
    text,
)
from helper_functions.prepare.point_rows import Point
from helper_functions.prepare.sources import parse_json
from helper_functions.runtime.errors import UserError

HELP = "LabelMe JSON: points, and centers of rectangles, circles and polygons"
ORIGIN = "corner"
EXTENSIONS = (".json",)
FOLDER = True
FLAGS = ()

_CORNERS = {"point": 1, "rectangle": 2, "mask": 2, "circle": 1, "polygon": 3}  # at least


def _center(shape: Mapping[str, Any], kind: str, where: str) -> tuple[float, float]:
    values = sequence(shape.get("points"), f"{where}: 'points'")
    corners = [pair(value, f"{where}: 'points'") for value in values]
    if len(corners) < _CORNERS[kind]:
        raise UserError(f"{where}: the {kind} has {len(corners)} points, too few.")
    if kind in ("point", "circle"):  # The first point of a circle is its center.
        return corners[0]
    if kind == "polygon":
        return polygon_center(corners)
    (x1, y1), (x2, y2) = corners[0], corners[-1] if len(corners) == 2 else corners[2]
    return (x1 + x2) / 2, (y1 + y2) / 2


def read(path: Path, inputs: Inputs) -> Iterator[AnnotatedImage]:
    """Yield the image of every JSON file."""
    for each in inputs.files(path, *EXTENSIONS):
        content = parse_json(inputs.content(each, path), each, without=("imageData",))
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise UserError(f"{each} is no LabelMe file: it has no list 'shapes'.")
        name = text(content.get("imagePath"), f"{each}: 'imagePath'")
        size = image_dimensions(content.get("imageWidth"), content.get("imageHeight"))
        points = []
        for index, shape in enumerate(content["shapes"], 1):
            where = f"{each}, shape {index}"
            shape = mapping(shape, where)
            kind = text(shape.get("shape_type", "polygon"), f"{where}: 'shape_type'")
            if kind not in _CORNERS:
                inputs.tally[f"Shapes left out, of the type {shown(kind)}"] += 1
                continue
            label = label_of(shape.get("label"), where)
            points.append(Point(*_center(shape, kind, where), label, where))
        # The path is relative to the JSON file, so its folders tell images of one name apart.
        below = each.parent.relative_to(path).as_posix() if path.is_dir() else "."
        located = name if "/" in name or "\\" in name or below == "." else f"{below}/{name}"
        yield AnnotatedImage(located, points, str(each), size)
