"""The result of a converter: rows for the split CSV, images left out, notes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from helper_functions.data.folders import canonical_name, leaves_folder, locate
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import MAX_NAME
from helper_functions.runtime.lookalikes import contrast

MISSING = "the image is not there"
_NOR_BY_SLASHES = ", also not with slashes for the backslashes"
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
        """Move the rows whose image is not there to ``skipped``, and name the others as it is."""
        rows, self.rows = self.rows, []
        for row in tqdm(rows, desc="checking images", disable=None, leave=False):
            path = locate(self.images, row.filename)
            if path.is_file():
                if path != self.images / row.filename:
                    row = row._replace(filename=path.relative_to(self.images).as_posix())
                self.rows.append(row)
            else:
                backslashes = "\\" in row.filename
                self.skipped.append((row.filename, MISSING + _NOR_BY_SLASHES * backslashes))


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
    if leaves_folder(name):
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
    """Raise ``UserError`` if an image comes twice, be it in two spellings of its name."""
    first_seen: dict[str, Row] = {}
    for row in rows:
        earlier = first_seen.setdefault(canonical_name(row.filename), row)
        if earlier is not row:
            differ = earlier.split != row.split
            two = f"{earlier.split} and {row.split}" if differ else f"{row.split} twice"
            name, other = contrast(row.filename, earlier.filename)
            spelt = "" if name == other else f" (once as {other})"
            raise UserError(
                f"The image {name}{spelt} is listed for {two.replace('None', 'the cut')}; "
                f"an image has one row, in one split."
            )
