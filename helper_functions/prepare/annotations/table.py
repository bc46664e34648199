"""A CSV of points: file name, x, y and perhaps a label, under any column names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from helper_functions.data.tables import missing_column
from helper_functions.prepare.annotations.base import (
    AnnotatedImage,
    Inputs,
    label_of,
    parse_number,
)
from helper_functions.prepare.point_rows import Point
from helper_functions.runtime.errors import UserError

HELP = "a CSV, one point a row"
ORIGIN = "center"
EXTENSIONS = (".csv",)
FOLDER = False
FLAGS = ("filename_column", "x_column", "y_column", "label_column")


def read(path: Path, inputs: Inputs) -> Iterator[AnnotatedImage]:
    """Yield the images in the order of their first points."""
    options = inputs.options
    rows = inputs.sources.table(path)
    header = [name.strip().lower() for name in next(rows)[1]]
    columns = {
        "filename": options.filename_column or "filename",
        "x": options.x_column or "x",
        "y": options.y_column or "y",
        "label": options.label_column or "label",
    }
    columns = {what: name.strip().lower() for what, name in columns.items()}
    if options.label_column is None and "label" not in header:
        del columns["label"]
    for what, name in columns.items():
        if name not in header:
            raise UserError(f"{missing_column(path, header, name)} Name it by --{what}-column.")
        if header.count(name) > 1:
            raise UserError(f"{path} has {header.count(name)} columns {name!r}; keep one.")
    at = {what: header.index(name) for what, name in columns.items()}

    images: dict[str, AnnotatedImage] = {}
    labels: dict[str, str | None] = {}  # checked ones by cell
    for line, cells in rows:
        where = f"{path}, line {line}"
        name = cells[at["filename"]].strip()
        if not name:
            raise UserError(f"{where}: the file name is empty.")
        if name not in images:
            images[name] = AnnotatedImage(name, [], where)
        x = parse_number(cells[at["x"]], where, columns["x"])
        y = parse_number(cells[at["y"]], where, columns["y"])
        cell = cells[at["label"]] if "label" in at else ""
        if cell not in labels:
            labels[cell] = label_of(cell, where)
        images[name].points.append(Point(x, y, labels[cell], where))
    yield from images.values()
