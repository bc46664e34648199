"""Which images to predict: a folder, a pattern, or a list in a file."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import NamedTuple

from helper_functions.data.images import IMAGE_EXTENSIONS, find_images
from helper_functions.data.tables import read_lines, read_rows
from helper_functions.runtime.errors import UserError

_LIST_EXTENSIONS = frozenset({".csv", ".txt", ".lst", ".list"})
_COLUMN = "filename"


class ImageList(NamedTuple):
    """Images in the order of the predictions.

    Attributes:
        names: As the predictions name them.
        paths: Their files.
    """

    names: list[str]
    paths: list[Path]


def list_images(source: Path) -> ImageList:
    """List the images that ``--img_dir`` names.

    Args:
        source: A folder (every image below it, named relative to it); a pattern such as
            ``photos/**/*.jpg`` (``**``: any folders; images by extension, sorted, named by their
            path); or a list, ``.txt`` or ``.csv``: one image a row, relative to the list's folder,
            in a CSV the column ``filename`` or else the first one.

    Raises:
        UserError: If there is no such folder, match or list, or no image in it.
    """
    if source.is_file() and source.suffix.lower() in _LIST_EXTENSIONS:
        names = _read_list(source)
        return ImageList(names, [source.parent / name for name in names])
    if glob.has_magic(str(source)) and not source.exists():
        paths = sorted(
            path
            for path in map(Path, glob.iglob(str(source), recursive=True))  # noqa: PTH207
            if path.suffix.lower() in IMAGE_EXTENSIONS and path.is_file()
        )
        if not paths:
            raise UserError(f"The pattern {source} matches no image; check --img_dir.")
        return ImageList([path.as_posix() for path in paths], paths)
    paths = find_images(source)
    return ImageList([path.relative_to(source).as_posix() for path in paths], paths)


def _read_list(source: Path) -> list[str]:
    """Read the file names of a list; a missing file is noticed when it is opened."""
    if source.suffix.lower() != ".csv":
        names = [line for _, line in read_lines(source)]
    else:
        rows = list(read_rows(source))
        header = [name.strip().lower() for name in rows[0][1]] if rows else []
        column = header.index(_COLUMN) if _COLUMN in header else 0
        names = []
        for line, row in rows[_COLUMN in header :]:
            if column >= len(row) or not row[column].strip():
                raise UserError(f"{source}, line {line}: the file name is empty; delete the row.")
            names.append(row[column].strip())
    if not names:
        raise UserError(f"{source} lists no image: give one file name a row.")
    return names


# The names that callers still use.
Pictures, find_pictures = ImageList, list_images
