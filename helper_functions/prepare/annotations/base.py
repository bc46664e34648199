"""What the readers of annotation formats share: their inputs, their result, checks of values."""

from __future__ import annotations

import argparse
import math
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

from helper_functions.data.folders import find_images
from helper_functions.prepare.point_rows import Point, Size
from helper_functions.prepare.rows import check_name, file_name
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError

MAX_BYTES = 2_000_000_000  # of one annotation file


class AnnotatedImage(NamedTuple):
    """One image as an annotation file tells of it.

    Attributes:
        name: The image's path or name, as written there; without extension if ``is_stem``.
        points: In the coordinates of the format, or in fractions of width and height.
        where: File and place, for messages.
        size: Width and height that the file states.
        fractions: Whether the points are in fractions.
        is_stem: Whether the name lacks the extension.
    """

    name: str
    points: list[Point]
    where: str
    size: Size | None = None
    fractions: bool = False
    is_stem: bool = False


class ImageIndex:
    """The images below a folder, by what annotation files call them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, None] = {}
        for path in find_images(folder).paths if folder.is_dir() else ():
            self.names[path.relative_to(folder).as_posix()] = None
        self._by_last: defaultdict[str, list[str]] = defaultdict(list)
        for name in sorted(self.names):
            last = PurePosixPath(name)
            self._by_last[last.name].append(name)
            self._by_last[f"{last.stem}/"].append(name)  # no name ends in a slash

    def leave_out(self, paths: Collection[Path]) -> None:
        """Forget files that are no images but annotations."""
        for path in paths:
            if path.is_relative_to(self.folder):
                name = path.relative_to(self.folder).as_posix()
                if name in self.names:
                    del self.names[name]
                    last = PurePosixPath(name)
                    self._by_last[last.name].remove(name)
                    self._by_last[f"{last.stem}/"].remove(name)

    def has(self, name: str) -> bool:
        """Whether an image has this file name, in whatever folder."""
        return bool(self._by_last.get(PurePosixPath(name).name))

    def find(self, name: str, where: str, *, is_stem: bool = False) -> str:
        """Return the path of an image below the folder, whose name may come with other folders.

        Of several images of the name, the one that shares the most folders with it is meant. One in
        another folder than a relative name says is none of its images. A name that no image has is
        returned without folders that lead elsewhere.

        Raises:
            UserError: If the name cannot be, or several images have it.
        """
        path = PurePosixPath(check_name(name, where, "file name").replace("\\", "/"))
        # Paths of another machine, or to another folder, tell little of where the image is now.
        drive = len(path.parts) > 1 and path.parts[0].endswith(":")
        elsewhere = path.is_absolute() or drive or ".." in path.parts
        candidates = [
            each
            for each in self._by_last.get(f"{path.name}/" if is_stem else path.name, ())
            if elsewhere or not _in_other_folder(path, PurePosixPath(each))
        ]
        if not candidates:
            return file_name(path.name if elsewhere else str(path), where)
        shared = [_shared_folders(path, PurePosixPath(each)) for each in candidates]
        most = max(shared)
        best = [each for each, count in zip(candidates, shared, strict=True) if count == most]
        if len(best) > 1 and not is_stem and str(path) in best:
            return str(path)
        if len(best) > 1:
            raise UserError(
                f"{where}: {self.folder} holds several images {name[:100]!r} ({best[0]}, "
                f"{best[1]}); choose their folder by --images."
            )
        return best[0]


def _shared_folders(one: PurePosixPath, other: PurePosixPath) -> int:
    """Count the folders that two paths share, from the last on."""
    folders = list(zip(one.parts[-2::-1], other.parts[-2::-1], strict=False))
    return next((n for n, (a, b) in enumerate(folders) if a != b), len(folders))


def _in_other_folder(one: PurePosixPath, other: PurePosixPath) -> bool:
    """Whether neither path ends in the other, file names apart."""
    return _shared_folders(one, other) < min(len(one.parts), len(other.parts)) - 1


@dataclass
class Inputs:
    """What a reader is given beside the path of the annotations.

    Attributes:
        sources: Reads files and lists them for the manifest.
        options: The flags.
        images: The images.
        tally: Counts what the notes should tell: words before a number.
    """

    sources: Sources
    options: argparse.Namespace
    images: ImageIndex
    tally: Counter[str] = field(default_factory=Counter)

    def files(self, path: Path, *extensions: str) -> list[Path]:
        """Return a file, or the files below a folder with one of the extensions, sorted.

        Raises:
            UserError: If there is none, or one is too large.
        """
        found = [path]
        if path.is_dir():
            found = sorted(
                each
                for each in path.rglob("*")
                if each.suffix.lower() in extensions
                and not each.name.startswith(".")
                and each.is_file()
                and not self.is_output(each)
            )
        if not found:
            raise UserError(f"{path} holds no file that ends in {' or '.join(extensions)}.")
        for each in found:
            if each.is_file() and each.stat().st_size > MAX_BYTES:
                raise UserError(
                    f"{each} has more than {MAX_BYTES / 1e9:g} GB; is it the right file?"
                )
        return found

    def content(self, path: Path, folder: Path) -> bytes:
        """Return the content of a file, one of many if ``folder`` is a folder."""
        if folder.is_dir():
            return self.sources.content(path, f"{self.sources.name(folder)}/**/*{path.suffix}")
        return self.sources.whole(path)

    def is_output(self, path: Path) -> bool:
        """Whether a path is what an earlier run of the command has written."""
        out: Path = self.options.out
        points = self.options.points_out or out.with_name("points.csv")
        outputs = {os.path.realpath(each) for each in (out, points)}
        return path.name.endswith(".manifest.json") or os.path.realpath(path) in outputs


class Format(Protocol):
    """A module of this package."""

    HELP: str
    ORIGIN: str  # of its coordinates: "corner", or "center" of the top-left pixel
    EXTENSIONS: tuple[str, ...]
    FOLDER: bool  # whether there is a file an image
    FLAGS: tuple[str, ...]  # those that steer it, as attributes of the options

    def read(self, path: Path, inputs: Inputs) -> Iterator[AnnotatedImage]:
        """Yield the images that a file or folder of annotations tells of."""


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise UserError(f"{where} is {shown(value)}, not an object.")
    return value


def sequence(value: Any, where: str) -> Sequence[Any]:
    """Return a JSON list."""
    if not isinstance(value, list):
        raise UserError(f"{where} is {shown(value)}, not a list.")
    return value


def text(value: Any, where: str) -> str:
    """Return a JSON text."""
    if not isinstance(value, str):
        raise UserError(f"{where} is {shown(value)}, not a text.")
    return value


def number(value: Any, where: str) -> float:
    """Return a JSON number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    raise UserError(f"{where} is {shown(value)}, not a finite number.")


def parse_number(cell: str | None, where: str, name: str) -> float:
    """Return the number that a text holds."""
    try:
        value = float((cell or "").replace("_", "?"))  # Python would read 1_000.
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: {name} is {shown(cell)}, not a finite number.")
    return value


def pair(value: Any, where: str) -> tuple[float, float]:
    """Return x and y of a JSON list of at least two numbers."""
    values = sequence(value, where)
    if len(values) < 2:
        raise UserError(f"{where} is {shown(value)}, not x and y.")
    return number(values[0], f"{where}: x"), number(values[1], f"{where}: y")


def image_dimensions(width: Any, height: Any) -> Size | None:
    """Return a stated size; ``None`` if it is none."""
    sides = [
        int(side)
        for side in (width, height)
        if isinstance(side, (int, float)) and not isinstance(side, bool) and 0 < side < 1e9
    ]
    return (sides[0], sides[1]) if len(sides) == 2 else None


def label_of(value: Any, where: str) -> str | None:
    """Return a label without outer blanks; ``None`` for none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise UserError(f"{where}: the label is {shown(value)}, not a text.")
    return check_name(str(value), where, "label")


def polygon_center(corners: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the centroid of a polygon's area; of one without area, the mean of its corners."""
    x0, y0 = corners[0]
    moved = [(x - x0, y - y0) for x, y in corners]
    area = x_sum = y_sum = 0.0
    for (x1, y1), (x2, y2) in zip(moved, [*moved[1:], moved[0]], strict=True):
        cross = x1 * y2 - x2 * y1
        area, x_sum, y_sum = area + cross, x_sum + (x1 + x2) * cross, y_sum + (y1 + y2) * cross
    # Rings that are closed repeat the first corner.
    ring = moved[:-1] if len(moved) > 1 and moved[0] == moved[-1] else moved
    extent = max(max(abs(x), abs(y)) for x, y in moved)
    if abs(area) <= 1e-9 * extent**2:
        return (x0 + sum(x for x, _ in ring) / len(ring), y0 + sum(y for _, y in ring) / len(ring))
    return x0 + x_sum / (3 * area), y0 + y_sum / (3 * area)


def shown(value: Any) -> str:
    """Return a value as messages show it."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else f"a list of {len(value):,}"
    if isinstance(value, int) and abs(value) > 10**40:
        return "a number of very many digits"
    written = repr(value)
    return written if len(written) <= 60 else f"{written[:57]}..."
