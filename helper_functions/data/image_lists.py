"""Which images to predict: a folder, a pattern, or a list in a file."""

from __future__ import annotations

import glob
from pathlib import Path

from helper_functions.data.dataset import Samples
from helper_functions.data.folders import (
    IMAGE_EXTENSIONS,
    FoundImages,
    find_images,
    locate,
    match_images,
)
from helper_functions.data.tables import read_lines, read_rows
from helper_functions.runtime.errors import UserError

_LIST_EXTENSIONS = frozenset({".csv", ".txt", ".lst", ".list"})


def list_images(source: Path) -> Samples:
    """List the images that ``--img_dir`` names; print a note on what looks like one and is not.

    Args:
        source: A folder (every image below it, named relative to it; links are followed, and each
            folder counts once); a pattern such as ``photos/**/*.jpg`` (``**``: any folders; images
            by extension, sorted, named by their path); or a list, ``.txt`` or ``.csv``: one image a
            row, relative to the list's folder, in a CSV the column ``filename`` or else the first
            one.

    Raises:
        UserError: If there is no such folder, match or list, or no image in it.
    """
    if source.is_file() and source.suffix.lower() in _LIST_EXTENSIONS:
        names = _read_list(source)
        return Samples.from_paths([locate(source.parent, name) for name in names], names=names)
    if glob.has_magic(str(source)) and not source.exists():
        found = match_images(source)
        if not found.paths:
            raise UserError(
                f"The pattern {source} matches no image; check --img_dir.{_left_out(found)}"
            )
        names = [path.as_posix() for path in found.paths]
    else:
        found = find_images(source)
        if not found.paths:
            raise UserError(
                f"The folder {source} holds no image: put in files that end in "
                f"{', '.join(sorted(IMAGE_EXTENSIONS))}.{_left_out(found)}"
            )
        names = [path.relative_to(source).as_posix() for path in found.paths]
    for note in found.notes():
        print(f"Note: {note}")
    return Samples.from_paths(found.paths, names=names)


def _left_out(found: FoundImages) -> str:
    """Return the notes on a folder that seems empty, as further sentences."""
    return "".join(f" {note}" for note in found.notes())


def _read_list(source: Path) -> list[str]:
    """Read the file names of a list; a missing file is noticed when it is opened."""
    if source.suffix.lower() != ".csv":
        names = [line for _, line in read_lines(source)]
    else:
        rows = list(read_rows(source))
        header = [name.strip().lower() for name in rows[0][1]] if rows else []
        column = header.index("filename") if "filename" in header else 0
        names = []
        for line, row in rows["filename" in header :]:
            if column >= len(row) or not row[column].strip():
                raise UserError(f"{source}, line {line}: the file name is empty; delete the row.")
            names.append(row[column].strip())
    if not names:
        raise UserError(f"{source} lists no image: give one file name a row.")
    return names
