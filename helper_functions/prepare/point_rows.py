"""The result of a converter of points: what ``rows`` holds, and the points of every image."""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any, NamedTuple

from tqdm import tqdm

from helper_functions.data.images import ImageError, image_size
from helper_functions.data.points import COLUMNS, LABEL
from helper_functions.data.splits import SPLITS
from helper_functions.prepare.rows import ConversionResult
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import make_folder, write_atomically

POLICIES = ("refuse", "drop", "clamp")
_DECIMALS = 6  # of a coordinate

Size = tuple[int, int]  # width and height


class Point(NamedTuple):
    """A point in the coordinates of the points CSV; ``where`` (file and place) is for messages."""

    x: float
    y: float
    label: str | None
    where: str


@dataclass
class PointResult(ConversionResult):
    """What a converter of points has read.

    Attributes:
        points: The points of the images, by file name.
        declared: Width and height that the annotation states for an image, and where, by file
            name.
        sizes: Width and height of images that need not be opened to know it.
        rendered: What gives the content of the images that the converter changes, by file name;
            they are written to ``images``.
        outside: Points that lay outside their images.
    """

    points: dict[str, list[Point]] = field(default_factory=dict)
    declared: dict[str, tuple[Size, str]] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict)
    rendered: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    outside: list[dict[str, Any]] = field(default_factory=list)

    def skip_missing(self) -> None:
        """Move the rows whose image is not there to ``skipped``."""
        if not self.rendered:
            super().skip_missing()

    @property
    def labeled(self) -> bool:
        """Whether the points have labels."""
        return any(point.label is not None for each in self.points.values() for point in each)

    def size(self, filename: str) -> Size | None:
        """Return an image's width and height after EXIF rotation; ``None`` if it is not there.

        Raises:
            UserError: If it is no image.
        """
        path = self.images / filename
        if filename not in self.sizes and path.is_file():
            try:
                self.sizes[filename] = image_size(path)
            except ImageError as error:
                raise UserError(str(error)) from error
        return self.sizes.get(filename)

    def settle(self, policy: str) -> None:
        """Compare the points with their images, and give the rows their labels.

        Args:
            policy: What to do with points more than half a pixel outside their image.

        Raises:
            UserError: If no point is left, some lack a label, an image has not the size that its
                annotation states, or a point is outside and the policy is "refuse".
        """
        for row in tqdm(self.rows, desc="checking points", disable=None, leave=False):
            points = self.points.get(row.filename, [])
            declared, where = self.declared.get(row.filename, (None, ""))
            size = self.size(row.filename) if points or declared else None
            if size is not None and declared not in (None, size):
                self._refuse_size(where, row.filename, declared, size)
            size = size or declared
            if size is not None:
                self.points[row.filename] = list(self._inside(points, row.filename, size, policy))
        self.points = {row.filename: self.points.get(row.filename, []) for row in self.rows}
        if not any(self.points.values()):
            first = "".join(f" ({name} is left out: {why})" for name, why in self.skipped[:1])
            raise UserError(f"The annotations name no point in any image{first}.")
        if self.outside:
            action = {"drop": "left out", "clamp": "moved to the edge"}[policy]
            count = f"{len(self.outside):,} points lay" if self.outside[1:] else "1 point lay"
            first = f"(the first: {self.outside[0]['where']})"
            self.notes.append(f"{count} outside the image {first}; they are {action}.")
        self._give_labels()

    @staticmethod
    def _refuse_size(where: str, filename: str, declared: Size, size: Size) -> None:
        stated = f"the annotation states {declared[0]} x {declared[1]} pixels"
        real = f"{filename!r} has {size[0]} x {size[1]}"
        advice = "annotate the image that you train on"
        if declared == size[::-1]:
            real, advice = f"{real} once its EXIF orientation is undone", "rotate its pixels first"
        raise UserError(f"{where}: {stated}, but {real}; {advice}.")

    def _inside(
        self, points: list[Point], filename: str, size: Size, policy: str
    ) -> Iterator[Point]:
        """Yield the points, those outside the image as the policy says."""
        right, bottom = size[0] - 0.5, size[1] - 0.5
        for point in points:
            if -0.5 <= point.x <= right and -0.5 <= point.y <= bottom:
                yield point
                continue
            place = f"{point.where}: the point ({point.x:g}, {point.y:g})"
            if policy == "refuse":
                raise UserError(
                    f"{place} lies outside {filename!r}, which has {size[0]} x {size[1]} pixels; "
                    f"mend it, or give --outside drop or clamp."
                )
            entry = {"filename": filename, "where": point.where.rpartition("/")[2]}
            self.outside.append({**entry, "x": point.x, "y": point.y})
            if policy == "clamp":
                x, y = min(max(point.x, 0), size[0] - 1), min(max(point.y, 0), size[1] - 1)
                yield point._replace(x=x, y=y)

    def _give_labels(self) -> None:
        if not self.labeled:
            return
        for filename, points in self.points.items():
            for point in points:
                if point.label is None:
                    raise UserError(
                        f"{point.where}: a point in {filename!r} has no label, but others have; "
                        f"add it, or leave all labels out by --no-labels."
                    )
        self.rows = [
            row._replace(labels=tuple(sorted({str(p.label) for p in self.points[row.filename]})))
            for row in self.rows
        ]

    def summary(self) -> str:
        """Return a line on the points, for people."""
        points = sum(map(len, self.points.values()))
        empty = sum(not each for each in self.points.values())
        return (
            f"{points:,} points, {points / len(self.rows):.2f} an image; {empty:,} images have none"
        )

    def to_csv(self) -> bytes:
        """Return the points CSV, image by image in the order of the rows."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        labeled = self.labeled
        writer.writerow((*COLUMNS, LABEL) if labeled else COLUMNS)
        for filename, points in self.points.items():
            for point in points:
                cells = (filename, _decimal(point.x), _decimal(point.y))
                writer.writerow((*cells, point.label) if labeled else cells)
        return text.getvalue().encode()

    def to_manifest(self, table: bytes) -> Mapping[str, Any]:
        """Return what a manifest tells of the points."""
        split = {row.filename: row.split for row in self.rows}
        points = [
            (split[name], point.label) for name, each in self.points.items() for point in each
        ]
        by_split, by_class = Counter(of for of, _ in points), Counter(points)
        labels = sorted({label for _, label in points if label is not None})
        content = {
            "points_csv": {"bytes": len(table), "sha256": hashlib.sha256(table).hexdigest()},
            "points": {name: by_split[name] for name in SPLITS},
            "points_outside": self.outside,
        }
        if labels:
            content["points_of_classes"] = {
                label: {name: by_class[name, label] for name in SPLITS} for label in labels
            }
        return content

    def write_images(self, *, overwrite: bool) -> None:
        """Write the images that the converter changes; those that are there already are kept.

        Raises:
            UserError: If one of other content is there, and ``overwrite`` is not set.
        """
        wanted = []
        for filename, render in tqdm(
            self.rendered.items(), desc="comparing images", disable=None, leave=False
        ):
            path = self.images / filename
            present = path.read_bytes() if path.is_file() else None
            if present is not None and present == render():
                continue
            if present is not None and not overwrite:
                raise UserError(
                    f"{path} is there already and differs from what this command would write; "
                    f"choose another --images-out, or give --overwrite."
                )
            wanted.append(filename)
        for filename in tqdm(wanted, desc="writing images", disable=None, leave=False):
            content = self.rendered[filename]()
            path = self.images / filename
            make_folder(path.parent)
            write_atomically(path, methodcaller("write", content), sync=False)


def _decimal(value: float) -> str:
    """Return a coordinate as the points CSV has it: 12, 12.5, never -0."""
    return repr(round(value, _DECIMALS) + 0.0).removesuffix(".0")


def add_outside_flag(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the flag for points outside their images."""
    meaning = (
        "points more than half a pixel outside their image: refuse the data set, leave them out, "
        f"or move them to the edge; they are listed in the manifest (default: {default})"
    )
    parser.add_argument("--outside", choices=POLICIES, default=default, help=meaning)
