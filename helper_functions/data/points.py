"""The points CSV: a point on every object of an image, with or without its class.

Form: UTF-8, a header of ``filename,x,y`` and, for several classes, ``label``, in any order; one row
a point. Coordinates are pixels of the image after EXIF rotation, x to the right and y down. The
center of the top-left pixel is (0, 0), fractions are allowed. An image without rows has no object.
"""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from helper_functions.data.splits import Problem
from helper_functions.data.tables import check_exists, missing_column, read_rows
from helper_functions.runtime.errors import UserError

COLUMNS = ("filename", "x", "y")
LABEL = "label"
MAX_CLASSES = 255  # a point map has 8 bits, and 0 is no point
LIMIT = 1e7  # pixels a side; no image format of use has more
NEAR = 1.0  # pixels; points of two objects are further apart
LABEL_PROBLEMS = ("unprintable-label", "no-label", "too-many-labels")  # kinds
_HINTS = 20  # unknown file names that are compared with all others

FloatArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ImagePoints:
    """The P points of one image, in the order of the file.

    Attributes:
        filename: The image as the split CSV names it.
        xy: x and y, (P, 2).
        classes: Index of each point's class, (P,); 0 without labels.
        lines: Line of each point in the file, (P,).
        path: The file.
    """

    filename: str
    xy: FloatArray
    classes: IndexArray
    lines: IndexArray
    path: Path

    def __len__(self) -> int:
        return len(self.xy)


@dataclass(frozen=True)
class PointTable:
    """A points CSV.

    Attributes:
        path: The file.
        classes: Sorted labels of all points; empty without labels.
        images: Points of every image of the split CSV, none for an image without rows.
        notes: Sentences on what can be used but may be a mistake.
    """

    path: Path
    classes: tuple[str, ...]
    images: Mapping[str, ImagePoints]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return sum(map(len, self.images.values()))


def _raise(problem: Problem) -> None:
    raise UserError(problem.message)


def read_points(
    path: Path,
    filenames: Collection[str],
    labels: bool | None,
    report: Callable[[Problem], None] = _raise,
) -> PointTable:
    """Read a points CSV.

    Args:
        path: The file.
        filenames: The images of the split CSV.
        labels: Read the column ``label``, which must then be filled in every row; ``None``: if
            there is one.
        report: Takes what is wrong with a row, which is then left out; of ``LABEL_PROBLEMS`` it is
            not, and an empty label is a class ``""``. By default the first problem is raised.

    Raises:
        UserError: If the file or a row cannot be used; the message gives the line.
    """
    check_exists(path, "The points CSV", "--points-path")
    rows = read_rows(path)
    wanted = (*COLUMNS, LABEL) if labels else COLUMNS
    _, header = next(rows, (0, None))
    if header is None:
        raise UserError(f"{path} is empty; its first line must read {','.join(wanted)}.")
    if labels is None and any(name.strip().lower() == LABEL for name in header):
        labels, wanted = True, (*COLUMNS, LABEL)
    filename_at, x_at, y_at, *label_at = _column_indices(path, header, wanted)

    # The rows, as columns of numbers
    index_of = {name: index for index, name in enumerate(dict.fromkeys(filenames))}
    class_of: dict[str, int] = {}
    unknown: set[str] = set()
    xy, image_indices, class_indices, lines = array("d"), array("q"), array("q"), array("q")
    for line, row in rows:
        where = f"{path}, line {line}"
        if len(row) != len(header):
            fault = f"the row has {len(row):,} columns, but the header has {len(header):,}"
            report(Problem("unequal-row", f"{where}: {fault}; write decimals with a point."))
            continue
        try:
            x, y = float(row[x_at]), float(row[y_at])
        except ValueError:
            x = y = -LIMIT
        if "_" in row[x_at] or "_" in row[y_at]:  # Python would read 1_000.
            x = y = -LIMIT
        if not (-0.5 <= x < LIMIT and -0.5 <= y < LIMIT):
            fault = _number_fault("x", row[x_at]) or _number_fault("y", row[y_at])
            report(Problem("no-position", f"{where}: {fault}"))
            continue
        name = row[filename_at].strip()
        if (index := index_of.get(name)) is None:
            if name not in unknown:  # said once of each
                unknown.add(name)
                report(_name_problem(where, name, index_of if len(unknown) <= _HINTS else ()))
            continue
        label = row[label_at[0]].strip() if label_at else ""
        if label_at and not label.isprintable():
            fault = f"the label {label[:80]!r} holds a line break"
            report(Problem("unprintable-label", f"{where}: {fault}."))
        if label_at and not label:
            fault = "the label is empty; every point has one where there are several classes"
            report(Problem("no-label", f"{where}: {fault}."))
        xy.extend((x, y))
        image_indices.append(index)
        class_indices.append(class_of.setdefault(label, len(class_of)))
        lines.append(line)

    # Classes in sorted order, points image by image
    names = sorted(class_of)
    if len(names) > MAX_CLASSES:
        fault = f"{path} has {len(names):,} labels; there may be {MAX_CLASSES} classes."
        report(Problem("too-many-labels", fault))
    rank = np.empty(len(names), np.int64)
    rank[[class_of[name] for name in names]] = np.arange(len(names))
    of_image = np.asarray(image_indices, np.int64)
    order = np.argsort(of_image, kind="stable")
    places = np.asarray(xy).reshape(-1, 2)[order].astype(np.float32)
    classes = rank[np.asarray(class_indices, np.int64)[order]]
    numbers = np.asarray(lines, np.int64)[order]
    ends = np.searchsorted(of_image[order], np.arange(len(index_of)), side="right").tolist()
    images, start = {}, 0
    for name, end in zip(index_of, ends, strict=True):
        part = slice(start, end)
        images[name] = ImagePoints(name, places[part], classes[part], numbers[part], path)
        start = end
    notes = _notes(path, of_image[order], places, numbers)
    return PointTable(path, tuple(names) if labels else (), images, notes)


def _column_indices(path: Path, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Return where the columns are, by name."""
    names = [name.strip().lower() for name in header]
    for column in columns:
        if column not in names:
            raise UserError(f"{missing_column(path, header, column)} It must hold {column}.")
        if names.count(column) > 1:
            raise UserError(f"{path} has {names.count(column)} columns {column!r}; keep one.")
    return [names.index(column) for column in columns]


def _number_fault(column: str, cell: str) -> str:
    """Return what is wrong with a coordinate; '' if nothing is."""
    try:
        value = float(cell.replace("_", "?"))
    except ValueError:
        return f"{column} is {cell[:40]!r}, not a number."
    if not isfinite(value):
        return f"{column} is {cell[:40]!r}, not a finite number."
    if not -0.5 <= value < LIMIT:
        where = "outside of any image; the center of the top-left pixel is (0, 0)"
        return f"{column} is {cell.strip()[:40]}, {where}."
    return ""


def _name_problem(where: str, name: str, names: Collection[str]) -> Problem:
    """Return what is wrong with a file name that is none of some names."""
    if not name:
        fault = f"{where}: the file name is empty; fill it in or delete the row."
        return Problem("no-file-name", fault)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "; add it there or delete the row."
    fault = f"{where}: {name[:200]!r} is no row of the split CSV{hint}"
    return Problem("unknown-file", fault)


def _pixels(xy: npt.NDArray[np.floating]) -> IndexArray:
    """Return column and row of the pixel that each point lies in, (P, 2)."""
    pixels: IndexArray = np.floor(xy + 0.5).astype(np.int64)
    return pixels


def _notes(path: Path, of_image: IndexArray, xy: FloatArray, lines: IndexArray) -> tuple[str, ...]:
    """Return the sentences of ``PointTable.notes``."""
    if not len(xy):
        return (f"{path} names no point: no image has an object.",)
    # Points on one pixel
    columns, rows = _pixels(xy).T
    order = np.lexsort((columns, rows, of_image))  # stable: later lines come later
    keys = np.stack((of_image, rows, columns))[:, order]
    same = np.append(False, (keys[:, 1:] == keys[:, :-1]).all(axis=0))
    again, kept = lines[order[same]], np.sort(order[~same])
    notes = []
    if len(again):
        points = f"{len(again):,} points fall" if len(again) > 1 else "1 point falls"
        notes.append(
            f"{path}: {points} on the pixel of an earlier one (the first: line {again.min():,}) "
            f"and will not be learned as a further object."
        )
    # Others, which are at most eight around each
    apart = np.column_stack((of_image[kept] * 4 * NEAR, xy[kept].astype(np.float64)))
    pairs = np.sort(lines[kept][KDTree(apart).query_pairs(NEAR, output_type="ndarray")])
    if len(pairs):
        later = np.unique(pairs[:, 1])
        first, near = later[0], pairs[pairs[:, 1] == later[0], 0].min()
        points = f"{len(later):,} points lie" if len(later) > 1 else "1 point lies"
        notes.append(
            f"{path}: {points} on another pixel, but within {NEAR:g} of an earlier one (the first: "
            f"line {first:,}, near line {near:,}); is one object marked twice?"
        )
    return tuple(notes)


def points_outside(points: ImagePoints, size: tuple[int, int]) -> Iterator[str]:
    """Yield a sentence on each point that lies more than half a pixel outside its image.

    ``size`` is the image's width and height in pixels.
    """
    outside = (points.xy > np.subtract(size, 0.5)).any(axis=1)
    for index in np.nonzero(outside)[0]:
        (x, y), line = points.xy[index].tolist(), points.lines[index]
        yield (
            f"{points.path}, line {line}: the point ({x:g}, {y:g}) lies outside "
            f"{points.filename!r}, which has {size[0]} x {size[1]} pixels; the center of the last "
            f"is ({size[0] - 1}, {size[1] - 1})."
        )


def check_inside(points: ImagePoints, size: tuple[int, int]) -> None:
    """Raise ``UserError`` with the first sentence of ``points_outside``, if there is one."""
    for sentence in points_outside(points, size):
        raise UserError(sentence)


def to_point_map(
    points: npt.NDArray[np.floating], classes: npt.NDArray[np.integer], height: int, width: int
) -> npt.NDArray[np.uint8]:
    """Return the pixels that hold a point: 0 none, else class index + 1.

    A point belongs to the pixel of row floor(y + 0.5) and column floor(x + 0.5), clamped to the
    image. Two on one pixel are one, with the class of the first.

    Args:
        points: x and y, (P, 2).
        classes: Class indices, (P,), below 255.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        The map, (height, width).
    """
    columns, rows = np.clip(_pixels(points), 0, (width - 1, height - 1)).T
    point_map = np.zeros((height, width), np.uint8)
    point_map[rows[::-1], columns[::-1]] = classes[::-1] + 1
    return point_map
