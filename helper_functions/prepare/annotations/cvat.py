"""CVAT for images 1.1: one XML file of points, and of shapes of which the center is taken.

The file is read as a stream. Document types and entities, which could unfold to gigabytes, are
refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.parsers import expat

from helper_functions.prepare.annotations.base import (
    AnnotatedImage,
    Inputs,
    image_dimensions,
    label_of,
    parse_number,
    polygon_center,
    shown,
)
from helper_functions.prepare.point_rows import Point
from helper_functions.runtime.errors import UserError

HELP = "CVAT for images 1.1: points, and centers of boxes, ellipses, polygons and masks"
ORIGIN = "corner"
EXTENSIONS = (".xml",)
FOLDER = False
FLAGS = ()

_CHUNK = 1 << 20
Attributes = Mapping[str, str]


def _corners(attributes: Attributes, where: str) -> list[tuple[float, float]]:
    """Return the points of ``x,y;x,y``."""
    corners = []
    for part in attributes.get("points", "").split(";"):
        x, _, y = part.partition(",")
        corners.append((parse_number(x, where, "x"), parse_number(y, where, "y")))
    return corners


def _places(shape: str, attributes: Attributes, where: str) -> list[tuple[float, float]] | None:
    """Return the points of a shape, or its center; ``None`` if it has none."""

    def value(name: str) -> float:
        return parse_number(attributes.get(name), where, name)

    match shape:
        case "points":
            return _corners(attributes, where)
        case "polygon":
            return [polygon_center(_corners(attributes, where))]
        case "box":
            return [((value("xtl") + value("xbr")) / 2, (value("ytl") + value("ybr")) / 2)]
        case "ellipse":
            return [(value("cx"), value("cy"))]
        case "mask":
            x, y = value("left") + value("width") / 2, value("top") + value("height") / 2
            return [(x, y)]
    return None


class _Document:
    """The images of a file, filled by the parser's events."""

    def __init__(self, path: Path, inputs: Inputs) -> None:
        self.path, self.inputs = path, inputs
        self.images: list[AnnotatedImage] = []
        self.open: list[str] = []  # elements from the root on
        self.skeleton: list[Point] | None = None  # visible points of the one that is open
        self.skeleton_label: str | None = None
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse_document_type

    def _refuse_document_type(self, *_: object) -> None:
        raise UserError(f"{self.path} declares a document type, which CVAT does not; is it CVAT's?")

    def _start(self, name: str, attributes: Attributes) -> None:
        where = f"{self.path}, line {self.parser.CurrentLineNumber}"
        depth, parent = len(self.open), self.open[-1] if self.open else None
        self.open.append(name)
        if depth == 0 and name != "annotations":
            raise UserError(f"{self.path} is no CVAT file: its root is {shown(name)}.")
        if depth == 1 and name == "track":
            raise UserError(f"{where}: tracks are of videos; export as CVAT for images 1.1.")
        if depth == 1 and name == "image":
            width, height = (
                parse_number(attributes[side], where, side) if side in attributes else None
                for side in ("width", "height")
            )
            size = image_dimensions(width, height)
            self.images.append(AnnotatedImage(attributes.get("name", ""), [], where, size))
        elif depth == 2 and parent == "image" and name == "skeleton":
            self.skeleton, self.skeleton_label = [], label_of(attributes.get("label"), where)
        elif depth == 3 and parent == "skeleton" and self.skeleton is not None:
            if name == "points" and attributes.get("outside") != "1":
                self.skeleton += [Point(x, y, None, where) for x, y in _corners(attributes, where)]
        elif depth == 2 and parent == "image" and name != "tag":
            places = _places(name, attributes, where)
            if places is None:
                self.inputs.tally[f"Shapes left out, of the type {shown(name)}"] += 1
                return
            label = label_of(attributes.get("label"), where)
            self.images[-1].points.extend(Point(x, y, label, where) for x, y in places)

    def _end(self, name: str) -> None:
        self.open.pop()
        if name != "skeleton" or self.skeleton is None:
            return
        points, self.skeleton = self.skeleton, None
        if points:  # One object, so one point: the mean of those that are visible.
            x = sum(point.x for point in points) / len(points)
            y = sum(point.y for point in points) / len(points)
            self.images[-1].points.append(Point(x, y, self.skeleton_label, points[0].where))


def read(path: Path, inputs: Inputs) -> Iterator[AnnotatedImage]:
    """Yield the images of the file."""
    content = inputs.sources.whole(path)
    document = _Document(path, inputs)
    try:
        for start in range(0, len(content), _CHUNK):
            document.parser.Parse(content[start : start + _CHUNK], False)
        document.parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise UserError(f"{path} cannot be read as XML: {error}.") from error
    if not document.images:
        raise UserError(f"{path} is no export of CVAT for images: it names no image.")
    yield from document.images
