"""Tables of any origin with a row for each image: delimiter, file column, image files, splits."""

from __future__ import annotations

import argparse
import csv
import difflib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

from helper_functions.data.folders import find_images
from helper_functions.data.splits import SPLITS
from helper_functions.data.tables import open_text
from helper_functions.prepare.cutting import RANDOM
from helper_functions.prepare.rows import ConversionResult, file_name
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError

ABSENT, PRESENT, DROP = "absent", "present", "drop"

_DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|", "space": " "}
_EXTENSIONS = (".csv", ".tsv", ".tab", ".txt")  # of a table, the first that occurs
_SAMPLE = 50  # rows by which delimiter and file column are guessed
# Usual names of the file column, letters and digits alone
_FILE_COLUMNS = frozenset(
    ("filename", "file", "filepath", "path", "image", "imageid", "imagename", "imagepath")
    + ("imageindex", "imagefile", "imagelabel", "img", "imgname", "imgpath", "id", "name")
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every table takes."""
    add = parser.add_argument
    table = "the table below --raw-dir (default: its only .csv, else .tsv, .tab or .txt)"
    add("--csv", metavar="FILE", help=table)
    columns = (
        f"what is between columns: {', '.join(_DELIMITERS)}, or a character (default: guessed)"
    )
    add("--delimiter", type=parse_separator, metavar="CHAR", help=columns)
    names = "column of image files (default: 'filename', or the only one that looks like it)"
    add("--filename-column", metavar="NAME", help=names)


def parse_separator(text: str) -> str:
    """Return a separator that is given by its name or as it is."""
    return _DELIMITERS.get(text.lower(), text)


def _table_path(options: argparse.Namespace, sources: Sources) -> Path:
    """Return the table that is named, or the only one beside the output of an earlier run."""
    if options.csv is not None:
        return sources.find(options.csv, advice="check --csv")
    out = os.path.realpath(options.out)
    for extension in _EXTENSIONS:
        tables = [
            path
            for path in sorted(sources.folder.glob("*"))
            if path.suffix.lower() == extension and os.path.realpath(path) != out
        ]
        if len(tables) == 1:
            return tables[0]
        if tables:
            count = f"{len(tables)} {extension[1:].upper()} files"
            raise UserError(f"{sources.folder} holds {count}; name the table by --csv.")
    raise UserError(f"{sources.folder} holds no CSV file; name the table by --csv.")


def _guess_delimiter(path: Path) -> str:
    """Return the delimiter that gives most columns, equally many in the first rows."""
    with open_text(path) as file:
        lines = list(islice(file, _SAMPLE))
    best, columns = ",", 1
    for delimiter in (",", "\t", ";", "|"):
        try:
            rows = [row for row in csv.reader(lines, delimiter=delimiter) if any(row)]
        except csv.Error:
            continue
        widths = {len(row) - (row[-1] == "") for row in rows[:-1] or rows}  # the last may be cut
        if len(widths) == 1 and max(widths) > columns:
            best, columns = delimiter, max(widths)
    return best


def find_column(path: Path, header: Sequence[str], name: str, flag: str) -> int:
    """Return where a column is that a flag names.

    Raises:
        UserError: If it is not there.
    """
    if name in header:
        return header.index(name)
    close = difflib.get_close_matches(name, header, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    names = ", ".join(header[:8])[:200] + ", ..." * (len(header) > 8)
    raise UserError(f"{flag}: {path} has no column {name!r}, only {names}.{hint}")


class ImageFolder:
    """Where the images of a folder lie, by names with more or fewer folders, or no extension.

    Args:
        folder: Every image below it counts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Paths below the folder, by bare name and by bare name without extension."""
        paths: defaultdict[str, list[str]] = defaultdict(list)
        for path in find_images(self.folder).paths:
            below = path.relative_to(self.folder).as_posix()
            paths[path.name].append(below)
            paths[path.stem].append(below)
        return paths

    def candidates(self, name: str) -> list[str]:
        """Return the images that a name may mean, those that share most folders with it."""
        if (self.folder / name).is_file():
            return [name]
        folders = PurePosixPath(name).parts[-2::-1]  # the innermost first
        found: defaultdict[int, list[str]] = defaultdict(list)
        for path in self._by_name.get(PurePosixPath(name).name, []):
            pairs = list(zip(PurePosixPath(path).parts[-2::-1], folders, strict=False))
            if all(mine == wanted for mine, wanted in pairs):
                found[len(pairs)].append(path)
        return sorted(found[max(found)]) if found else []

    def find(self, name: str, where: str) -> str:
        """Return where an image lies; the name as it is if there is none.

        Raises:
            UserError: If several images have the name.
        """
        found = self.candidates(name)
        if len(found) > 1:
            raise UserError(
                f"{where}: {name!r} may be {found[0]} or {found[1]}; write the whole name "
                f"into the table, or name the image folder by --images."
            )
        return found[0] if found else name


@dataclass
class AnyTable:
    """A table: its header without blank columns, and its rows one by one."""

    path: Path
    header: list[str]
    rows: Iterator[tuple[int, list[str]]]
    filename: int  # columns
    split: int | None
    images: ImageFolder
    index: list[int] = field(default_factory=list)  # columns without name that hold nothing to read

    @property
    def others(self) -> list[int]:
        """Columns that hold neither file, split nor nothing."""
        known = (self.filename, self.split, *self.index)
        return [number for number in range(len(self.header)) if number not in known]

    def result(self, label_source: str) -> ConversionResult:
        """Return an empty result, with a note if validation is to be cut."""
        result = ConversionResult(self.images.folder, label_source)
        if self.split is None:
            result.notes.append(RANDOM)
        return result

    def place(self, cells: Sequence[str], where: str) -> tuple[str, str | None]:
        """Return where the image of a row lies, and its split if the table has any.

        Raises:
            UserError: If name or split cannot be used.
        """
        split = None if self.split is None else cells[self.split].strip()
        if split not in (None, *SPLITS):
            raise UserError(f"{where}: {split!r} is not a split; use one of {', '.join(SPLITS)}.")
        return self.images.find(file_name(cells[self.filename], where), where), split


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _guess_file_column(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], images: ImageFolder
) -> int:
    """Return the only column that can be that of the files.

    Raises:
        UserError: If there is no such column, or several.
    """
    if "filename" in header:
        return header.index("filename")
    named = [number for number, name in enumerate(header) if _plain(name) in _FILE_COLUMNS]
    if len(named) == 1:
        return named[0]
    present = [
        number
        for number in named or range(len(header))
        if rows and all(images.candidates(row[number].strip() or "?") for row in rows)
    ]
    if len(present) == 1:
        return present[0]
    names = ", ".join(header[:8])[:200] + (f", ... ({len(header):,} columns)" * (len(header) > 8))
    raise UserError(
        f"{path} has no column 'filename': its header reads {names}. Name the column of the image "
        f"files by --filename-column."
    )


def open_table(options: argparse.Namespace, sources: Sources) -> AnyTable:
    """Read the header of the table, and find the columns of files and splits.

    Raises:
        UserError: If they are not there or come twice.
    """
    path = _table_path(options, sources)
    delimiter = options.delimiter or _guess_delimiter(path)
    if len(delimiter) != 1:
        raise UserError(f"--delimiter {delimiter!r} is not one character.")
    rows = sources.table(path, delimiter)
    header = [name.strip() for name in next(rows)[1]]
    # pandas writes the number of each row into a first column without a name.
    index = [0] if not header[0] and len(header) > 1 else []
    named = [name for number, name in enumerate(header) if number not in index]
    if len(set(named)) < len(named):
        twice = next(name for number, name in enumerate(named) if name in named[:number])
        raise UserError(f"{path} has two columns {twice[:80]!r}; a class has one.")
    images = ImageFolder(sources.folder / file_name(options.images, "--images"))
    first = list(islice(rows, _SAMPLE))
    if options.filename_column is None:
        filename = _guess_file_column(path, header, [cells for _, cells in first], images)
    else:
        filename = find_column(path, header, options.filename_column, "--filename-column")

    def all_rows() -> Iterator[tuple[int, list[str]]]:
        yield from first
        yield from rows

    split = header.index("split") if "split" in header else None
    return AnyTable(path, header, all_rows(), filename, split, images, index)
