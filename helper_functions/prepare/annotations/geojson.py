"""GeoJSON in pixels: points, and centers of polygons; a property or the file names the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from helper_functions.data.folders import IMAGE_EXTENSIONS
from helper_functions.prepare.annotations.base import (
    AnnotatedImage,
    Inputs,
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

HELP = "GeoJSON in pixels, as QuPath writes it: points, and centers of polygons"
ORIGIN = "corner"
EXTENSIONS = (".geojson", ".json")
FOLDER = True
FLAGS = ("filename_column", "label_column")


def _features(content: Any, path: Path) -> list[Any]:
    if isinstance(content, list):
        return content
    if isinstance(content, dict) and isinstance(content.get("features"), list):
        return list(content["features"])
    if isinstance(content, dict) and content.get("type") == "Feature":
        return [content]
    raise UserError(f"{path} is no GeoJSON file: it has no list 'features'.")


def _places(geometry: Mapping[str, Any], where: str) -> list[tuple[float, float]] | None:
    """Return the points of a geometry, or its center; ``None`` if it has none."""
    coordinates = geometry.get("coordinates")
    match geometry.get("type"):
        case "Point":
            return [pair(coordinates, f"{where}: 'coordinates'")]
        case "MultiPoint":
            listed = sequence(coordinates, f"{where}: 'coordinates'")
            return [pair(each, f"{where}: 'coordinates'") for each in listed]
        case "Polygon":
            rings = sequence(coordinates, f"{where}: 'coordinates'")
            outer = sequence(rings[0] if rings else [], f"{where}: 'coordinates'")
            if not outer:
                raise UserError(f"{where}: the polygon has no corner.")
            return [polygon_center([pair(each, f"{where}: 'coordinates'") for each in outer])]
    return None


def _label(properties: Mapping[str, Any], wanted: str | None, where: str) -> str | None:
    value = properties.get(wanted or "label")
    if value is None and wanted is None:  # QuPath
        classification = properties.get("classification")
        value = classification.get("name") if isinstance(classification, dict) else classification
    return label_of(value, where)


def read(path: Path, inputs: Inputs) -> Iterator[AnnotatedImage]:
    """Yield the images of one file, or the image of every file of a folder."""
    options = inputs.options
    key = options.filename_column or "filename"
    images: dict[str, AnnotatedImage] = {}
    for each in inputs.files(path, *EXTENSIONS[: 1 + path.is_file()]):
        # The image that a file such as tile.geojson or tile.png.geojson belongs to
        below = each.relative_to(path) if path.is_dir() else Path(each.name)
        own = below.with_suffix("").as_posix()
        is_stem = Path(own).suffix.lower() not in IMAGE_EXTENSIONS
        named = 0
        features = _features(parse_json(inputs.content(each, path), each), each)
        for index, entry in enumerate(features, 1):
            where = f"{each}, feature {index}"
            feature = mapping(entry, where)
            properties = mapping(feature.get("properties") or {}, f"{where}: 'properties'")
            name = properties.get(key)
            if name is None and (named or options.filename_column):
                raise UserError(f"{where} has no property {key!r} that names its image.")
            named += name is not None
            if 0 < named < index:
                raise UserError(f"{each}, feature 1 has no property {key!r}, but others have.")
            name = own if name is None else text(name, f"{where}: {key!r}")
            image = AnnotatedImage(name, [], where, is_stem=is_stem and not named)
            image = images.setdefault(name, image)
            geometry = feature.get("geometry")
            places = None
            if geometry is not None:
                geometry = mapping(geometry, f"{where}: 'geometry'")
                places = _places(geometry, where)
            if places is None:
                kind = shown(geometry.get("type") if geometry else None)
                inputs.tally[f"Geometries left out, of the type {kind}"] += 1
                continue
            label = _label(properties, options.label_column, where)
            image.points.extend(Point(x, y, label, where) for x, y in places)
        if not features and options.filename_column is None:
            images.setdefault(own, AnnotatedImage(own, [], str(each), is_stem=is_stem))
    yield from images.values()
