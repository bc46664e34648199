"""A one-hot CSV: a column of file names, then a column of 0 and 1 for each class."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from helper_functions.data.splits import SPLITS
from helper_functions.data.tables import missing_column
from helper_functions.prepare.cutting import RANDOM
from helper_functions.prepare.rows import ConversionResult, Row, check_name, file_name
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError

HELP = "a CSV with a column of 0 and 1 for each class"
CUTS = True

_TRUTH = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flag that names the table."""
    table = "the table below --raw-dir (default: its only .csv)"
    parser.add_argument("--csv", metavar="FILE", help=table)


def _table_path(options: argparse.Namespace, sources: Sources) -> Path:
    """Return the table that is named, or the only one beside the output of an earlier run."""
    if options.csv is not None:
        return sources.find(options.csv, advice="check --csv")
    out = os.path.realpath(options.out)
    tables = sorted(path for path in sources.folder.glob("*.csv") if os.path.realpath(path) != out)
    if len(tables) != 1:
        count = f"{len(tables)} CSV files" if tables else "no CSV file"
        raise UserError(f"{sources.folder} holds {count}; name the table by --csv.")
    return tables[0]


def read(options: argparse.Namespace, sources: Sources) -> ConversionResult:
    """Read the table. A column ``split``, if there is one, is kept; else validation is cut.

    Raises:
        UserError: If a cell is neither 0 nor 1, or a column is missing or comes twice.
    """
    path = _table_path(options, sources)
    rows = sources.table(path)
    header = [name.strip() for name in next(rows)[1]]
    if "filename" not in header:
        raise UserError(missing_column(path, header, "filename"))
    if len(set(header)) < len(header):
        twice = next(name for index, name in enumerate(header) if name in header[:index])
        raise UserError(f"{path} has two columns {twice[:80]!r}; a class has one.")
    filename_index = header.index("filename")
    split_index = header.index("split") if "split" in header else None
    classes = [
        (index, check_name(name, f"{path}, column {index + 1}"))
        for index, name in enumerate(header)
        if index not in (filename_index, split_index)
    ]

    images = sources.folder / file_name(options.images, "--images")
    result = ConversionResult(images, "the columns of 0 and 1")
    if split_index is None:
        result.notes.append(RANDOM)
    for line, cells in rows:
        where = f"{path}, line {line}"
        labels = []
        for index, name in classes:
            shown = _TRUTH.get(cells[index].strip().lower())
            if shown is None:
                column, cell = name[:80], cells[index][:40]
                raise UserError(f"{where}, column {column!r}: {cell!r} is neither 0 nor 1.")
            if shown:
                labels.append(name)
        split = None if split_index is None else cells[split_index].strip()
        if split not in (None, *SPLITS):
            raise UserError(f"{where}: {split!r} is not a split; use one of {', '.join(SPLITS)}.")
        result.rows.append(Row(file_name(cells[filename_index], where), tuple(labels), split))
    return result
