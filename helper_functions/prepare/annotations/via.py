"""VGG Image Annotator, version 1 or 2: its CSV, its JSON, or its project file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from helper_functions.data.tables import missing_column
from helper_functions.prepare.annotations.base import (
    AnnotatedImage,
    Inputs,
    label_of,
    mapping,
    number,
    polygon_center,
    sequence,
    shown,
    text,
)
from helper_functions.prepare.point_rows import Point
from helper_functions.prepare.sources import parse_json
from helper_functions.runtime.errors import UserError

HELP = "VIA 1 and 2, CSV or JSON: points, and centers of other shapes"
ORIGIN = "corner"
EXTENSIONS = (".csv", ".json")
FOLDER = False
FLAGS = ("label_column",)

_SHAPES, _ATTRIBUTES = "region_shape_attributes", "region_attributes"

# Shape, attributes and place of a region.
Region = tuple[Mapping[str, Any], Mapping[str, Any], str]


def _center(shape: Mapping[str, Any], where: str) -> tuple[float, float] | None:
    """Return the point or the center of a shape; ``None`` if it has none."""

    def value(name: str) -> float:
        return number(shape.get(name), f"{where}: {name!r}")

    match shape.get("name"):
        case "point" | "circle" | "ellipse":
            return value("cx"), value("cy")
        case "rect":
            return value("x") + value("width") / 2, value("y") + value("height") / 2
        case "polygon":
            xs, ys = (
                [number(each, f"{where}: {name!r}") for each in sequence(shape.get(name), where)]
                for name in ("all_points_x", "all_points_y")
            )
            if len(xs) != len(ys) or not xs:
                raise UserError(f"{where}: the polygon has {len(xs)} x and {len(ys)} y.")
            return polygon_center(list(zip(xs, ys, strict=True)))
    return None


def _label(attributes: Mapping[str, Any], wanted: str | None, where: str) -> str | None:
    """Return the label that the attributes of a region give.

    Raises:
        UserError: If several do.
    """
    if wanted is not None:
        value = attributes.get(wanted)
    elif len(attributes) > 1:
        names = ", ".join(attributes)[:100]
        raise UserError(
            f"{where}: the region has several attributes ({names}); name that of the class by "
            f"--label-column, or give --no-labels."
        )
    else:
        value = next(iter(attributes.values()), None)
    if isinstance(value, dict):  # check boxes: {"fish": true}
        ticked = [name for name, on in value.items() if on in (True, "true")]
        if len(ticked) > 1:
            raise UserError(f"{where}: the region has {len(ticked)} classes; a point has one.")
        value = ticked[0] if ticked else None
    return label_of(value, where)


def _points(regions: Iterable[Region], inputs: Inputs) -> list[Point]:
    points = []
    for shape, attributes, where in regions:
        center = _center(shape, where)
        if center is None:
            inputs.tally[f"Shapes left out, of the type {shown(shape.get('name'))}"] += 1
            continue
        options = inputs.options
        label = None if options.no_labels else _label(attributes, options.label_column, where)
        points.append(Point(*center, label, where))
    return points


def _read_csv(path: Path, inputs: Inputs) -> Iterator[AnnotatedImage]:
    rows = inputs.sources.table(path)
    header = [name.strip().lstrip("#") for name in next(rows)[1]]
    for name in ("filename", _SHAPES, _ATTRIBUTES):
        if name not in header:
            raise UserError(f"{missing_column(path, header, name)} VIA 1 and 2 write it.")
    at = [header.index(name) for name in ("filename", _SHAPES, _ATTRIBUTES)]
    images: dict[str, AnnotatedImage] = {}
    for line, cells in rows:
        where = f"{path}, line {line}"
        name, *objects = (cells[index].strip() for index in at)
        if not name:
            raise UserError(f"{where}: the file name is empty.")
        image = images.setdefault(name, AnnotatedImage(name, [], where))
        shape, attributes = (_parse_cell(cell, path, where) for cell in objects)
        if shape:
            image.points.extend(_points([(shape, attributes, where)], inputs))
    yield from images.values()


def _parse_cell(cell: str, path: Path, where: str) -> Mapping[str, Any]:
    try:
        return mapping(parse_json(cell or "{}", path), where)
    except UserError as error:
        raise UserError(f"{where}: {shown(cell)} is no JSON object, as VIA writes it.") from error


def _read_json(path: Path, inputs: Inputs) -> Iterator[AnnotatedImage]:
    content = mapping(inputs.sources.json(path), f"{path}: its content")
    if "_via_img_metadata" in content:  # a project
        content = mapping(content["_via_img_metadata"], f"{path}: '_via_img_metadata'")
    for index, entry in enumerate(content.values(), 1):
        where = f"{path}, image {index}"
        entry = mapping(entry, where)
        if "filename" not in entry or "regions" not in entry:
            raise UserError(f"{where} has no 'filename' and 'regions', as VIA writes them.")
        name = text(entry["filename"], f"{where}: 'filename'")
        listed = entry["regions"]  # version 1 numbers them: {"0": ...}
        listed = list(listed.values()) if isinstance(listed, dict) else listed
        regions: list[Region] = []
        for place, region in enumerate(sequence(listed, f"{where}: 'regions'"), 1):
            region_where = f"{where}, region {place}"
            region = mapping(region, region_where)
            shape = mapping(region.get("shape_attributes"), f"{region_where}: 'shape_attributes'")
            attributes = region.get("region_attributes", {})
            attributes = mapping(attributes, f"{region_where}: 'region_attributes'")
            regions.append((shape, attributes, region_where))
        yield AnnotatedImage(name, _points(regions, inputs), where)


def read(path: Path, inputs: Inputs) -> Iterator[AnnotatedImage]:
    """Yield the images of the file."""
    yield from (_read_csv if path.suffix.lower() == ".csv" else _read_json)(path, inputs)
