"""Which pictures to predict: a folder, a pattern, or a list in a file."""

from __future__ import annotations

import csv
import glob
from pathlib import Path

from helper_functions.data.dataset import NoTargets, Samples
from helper_functions.data.images import IMAGE_EXTENSIONS, find_images
from helper_functions.runtime.errors import UserError

_LIST_EXTENSIONS = frozenset({".csv", ".txt", ".lst", ".list"})
_COLUMN = "filename"


def list_images(source: Path) -> Samples:
    """The pictures that ``--img_dir`` names.

    Args:
        source: A folder (every picture below it, named relative to it); a pattern such as
            ``photos/**/*.jpg`` (``**``: any folders; pictures by extension, sorted, named by their
            path); or a list, ``.txt`` or ``.csv``: one picture a row, relative to the list's
            folder, in a CSV the column ``filename`` or else the first one.

    Raises:
        UserError: If there is nothing of the kind, or no picture in it.
    """
    if source.is_file() and source.suffix.lower() in _LIST_EXTENSIONS:
        return _read_list(source)
    if glob.has_magic(str(source)) and not source.exists():
        paths = sorted(
            path
            for path in map(Path, glob.iglob(str(source), recursive=True))  # noqa: PTH207
            if path.suffix.lower() in IMAGE_EXTENSIONS and path.is_file()
        )
        if not paths:
            raise UserError(f"The pattern {source} matches no picture; check --img_dir.")
        return _unlabeled([path.as_posix() for path in paths], paths)
    paths = find_images(source)
    return _unlabeled([path.relative_to(source).as_posix() for path in paths], paths)


def _unlabeled(names: list[str], paths: list[Path]) -> Samples:
    return Samples(names, paths, NoTargets(len(names)))


def _read_list(source: Path) -> Samples:
    """The pictures of a list; that each exists is seen when it is opened."""
    rows = _rows(source)
    column = 0
    if source.suffix.lower() == ".csv" and rows:
        header = [name.strip().lower() for name in rows[0][1]]
        if _COLUMN in header:
            column = header.index(_COLUMN)
            rows = rows[1:]
    names = []
    for line, row in rows:
        if column >= len(row) or not row[column].strip():
            raise UserError(f"{source}, line {line}: the file name is empty; delete the row.")
        names.append(row[column].strip())
    if not names:
        raise UserError(f"{source} lists no picture: give one file name a row.")
    return _unlabeled(names, [source.parent / name for name in names])


def _rows(source: Path) -> list[tuple[int, list[str]]]:
    """Line number and cells of every row that is not blank; a text file has one cell a row."""
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            if source.suffix.lower() == ".csv":
                reader = csv.reader(file)
                rows = [(reader.line_num, row) for row in reader]
            else:
                rows = [(number, [line]) for number, line in enumerate(file, start=1)]
    except UnicodeDecodeError as error:
        raise UserError(
            f"{source} is not UTF-8 text ({error.reason}); save it as UTF-8."
        ) from error
    except csv.Error as error:
        raise UserError(f"{source} is not a valid CSV: {error}.") from error
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}.") from error
    return [(line, row) for line, row in rows if any(cell.strip() for cell in row)]
