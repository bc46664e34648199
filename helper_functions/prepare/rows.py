"""The result of a converter: rows for the split CSV, images left out, notes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from tqdm import tqdm

from helper_functions.runtime.errors import UserError

MISSING = "the image is not there"
MAX_NAME = 255  # bytes that file systems allow a name
MAX_PATH = 1000


class Row(NamedTuple):
    """One image: file name below the image folder, classes, split, longitude and latitude.

    A split of ``None`` is training or validation, still to be cut.
    """

    filename: str
    labels: tuple[str, ...]
    split: str | None
    location: tuple[float, float] | None = None


@dataclass
class ConversionResult:
    """All that a converter has read, in the order of the source.

    Attributes:
        images: The folder that the file names are relative to.
        label_source: Where the labels come from, a clause for the manifest.
        rows: Images for the split CSV.
        skipped: File name and reason of the images that the source names and no row does.
        notes: Sentences that whoever trains on the rows should know.
    """

    images: Path
    label_source: str
    rows: list[Row] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def skip_missing(self) -> None:
        """Move the rows whose image is not there to ``skipped``."""
        rows, self.rows = self.rows, []
        for row in tqdm(rows, desc="checking images", disable=None, leave=False):
            if (self.images / row.filename).is_file():
                self.rows.append(row)
            else:
                self.skipped.append((row.filename, MISSING))


def check_name(text: str, where: str, what: str = "class name") -> str:
    """Return a name without outer blanks that survives the split CSV.

    ``where`` (file and line) and ``what`` are for the message.

    Raises:
        UserError: If it is empty or cannot be written.
    """
    name = text.strip()
    if not name:
        raise UserError(f"{where}: the {what} is empty.")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: the {what} {_shown(name)} is not valid Unicode.") from error
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise UserError(f"{where}: the {what} {_shown(name)} holds a control character.")
    return name


def file_name(text: str, where: str) -> str:
    """Return a name by ``check_name`` that stays inside the image folder.

    Raises:
        UserError: If it is no such name.
    """
    name = check_name(text, where, "file name")
    paths = PurePosixPath(name), PureWindowsPath(name)
    if any(path.is_absolute() or ".." in path.parts for path in paths):
        raise UserError(
            f"{where}: the file name {_shown(name)} leaves the image folder; give it relative to "
            f"that folder."
        )
    if any(len(os.fsencode(part)) > MAX_NAME for part in name.split("/")) or len(name) > MAX_PATH:
        raise UserError(f"{where}: the file name {_shown(name)} is too long for a file system.")
    return name


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 80 else f"{name[:77]}...")


def check_rows(rows: Iterable[Row]) -> None:
    """Raise ``UserError`` if an image comes twice."""
    splits: dict[str, str | None] = {}
    for row in rows:
        if row.filename in splits:
            earlier = splits[row.filename]
            two = f"{earlier} and {row.split}" if earlier != row.split else f"{row.split} twice"
            raise UserError(
                f"The image {row.filename!r} is listed for {two.replace('None', 'the cut')}; "
                f"an image has one row, in one split."
            )
        splits[row.filename] = row.split
