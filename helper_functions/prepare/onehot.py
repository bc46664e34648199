"""A one-hot CSV: a column of file names, then a column of 0 and 1 for each class."""

from __future__ import annotations

import argparse
from pathlib import Path

from helper_functions.data.splits import SPLITS
from helper_functions.prepare.cutting import RANDOM
from helper_functions.prepare.rows import Found, Row, class_name, file_name
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError

HELP = "a CSV with a column of 0 and 1 for each class"
CUTS = True

_TRUTH = {
    **dict.fromkeys(("0", "0.0", "false", "False", "FALSE"), False),
    **dict.fromkeys(("1", "1.0", "true", "True", "TRUE"), True),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Which file it is."""
    parser.add_argument(
        "--csv", metavar="FILE", help="the table below --raw-dir (default: its only .csv)"
    )
    parser.add_argument(
        "--images",
        default=".",
        metavar="DIR",
        help="image folder below --raw-dir (default: --raw-dir)",
    )


def _same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def read(options: argparse.Namespace, sources: Sources) -> Found:
    """Read the table. A column ``split``, where there is one, is kept; else validation is cut.

    Raises:
        UserError: If a cell is neither 0 nor 1, or a column is missing or comes twice.
    """
    if options.csv is None:
        found_below = sorted(sources.folder.glob("*.csv"))
        tables = [path for path in found_below if not _same(path, options.out)]
        if len(tables) != 1:
            raise UserError(
                f"{sources.folder} holds {len(tables) or 'no'} CSV file{'s' * bool(tables)}; name "
                f"the table by --csv."
            )
        path = tables[0]
    else:
        path = sources.find(options.csv, advice="check --csv")
    rows = sources.rows(path)
    _, header = next(rows)
    names = [name.strip() for name in header]
    if "filename" not in names:
        semicolons = len(names) == 1 and ";" in names[0]
        raise UserError(
            f"{path} has no column 'filename'; its first column is {names[0][:80]!r}."
            + " Use commas between the columns." * semicolons
        )
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise UserError(f"{path} has two columns {twice[:80]!r}; a class has one.")
    place = names.index("filename")
    split_place = names.index("split") if "split" in names else None
    classes = [
        (number, class_name(name, f"{path}, column {number + 1}"))
        for number, name in enumerate(names)
        if number not in (place, split_place)
    ]
    images = sources.folder / file_name(options.images, "--images")
    found = Found(images, "the columns of 0 and 1")
    if split_place is None:
        found.notes.append(RANDOM)
    for line, cells in rows:
        where = f"{path}, line {line}"
        labels = []
        for number, name in classes:
            shown = _TRUTH.get(cells[number].strip())
            if shown is None:
                raise UserError(
                    f"{where}, column {name[:80]!r}: {cells[number][:40]!r} is neither 0 nor 1."
                )
            if shown:
                labels.append(name)
        split = None if split_place is None else cells[split_place].strip()
        if split not in (None, *SPLITS):
            raise UserError(f"{where}: {split!r} is not a split; use one of {', '.join(SPLITS)}.")
        found.rows.append(Row(file_name(cells[place], where), tuple(labels), split))
    return found
