"""Numbered rows of CSV files and lines of text files; a sentence for everything that is wrong.

All files are UTF-8, with or without byte order mark, and blank rows are skipped.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from helper_functions.runtime.errors import UserError
from helper_functions.runtime.lookalikes import contrast, find_look_alike


def check_exists(path: Path, what: str, flag: str) -> None:
    """Raise ``UserError`` if there is no file that the flag could mean."""
    if path.is_dir():
        raise UserError(f"{what} {path} is a folder; give the file by {flag}.")
    if not path.is_file():
        raise UserError(f"{what} {path} does not exist; check {flag}.")


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file for reading.

    Raises:
        UserError: If it cannot be opened or read, or is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and stripped text of every line that is not blank.

    Raises:
        UserError: If the file cannot be read.
    """
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if text := line.strip():
                yield number, text


def read_rows(
    path: Path, *, strict: bool = False, delimiter: str = ","
) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of every CSV row that is not blank, the header first.

    Args:
        path: The file. Of a row that spans several lines the last one is its number.
        strict: Refuse misplaced quotes, rows unlike the header, and a table without rows. Blank
            cells behind the last column of the header are left out.
        delimiter: What stands between the columns.

    Raises:
        UserError: If the file cannot be read or a row is no CSV.
    """
    width, count = 0, 0
    with open_text(path) as file:
        reader = csv.reader(file, strict=strict, delimiter=delimiter)
        try:
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                count += 1
                while strict and len(row) > width and not row[-1].strip():
                    row.pop()
                width = width or len(row)
                if strict and len(row) != width:
                    fault = f"the row has {len(row):,} columns, but the header has {width:,}"
                    raise UserError(f"{path}, line {reader.line_num}: {fault}.")
                yield reader.line_num, row
        except csv.Error as error:
            where = f"{path}, line {reader.line_num}"
            raise UserError(f"{where}: this is not a valid CSV row: {error}.") from error
    if strict and count == 0:
        raise UserError(f"{path} is empty; it should be a CSV with a header.")
    if strict and count == 1:
        raise UserError(f"{path} holds a header but no row.")


def missing_column(path: Path, header: Sequence[str], column: str) -> str:
    """Return the sentence on a column that a header lacks."""
    names = ", ".join(header[:8])[:200] + (f", ... ({len(header):,} columns)" * (len(header) > 8))
    other = len(header) == 1 and (";" in header[0] or "\t" in header[0])
    advice = " Use commas between the columns." if other else ""
    if alike := find_look_alike(column, header):
        wanted, found = contrast(column, alike)
        return f"{path} has no column {wanted}, but one that looks like it: {found}."
    return f"{path} has no column {column!r}: its header reads {names}.{advice}"
