"""A table with the labels of an image in one column, and one row or several for each image."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from helper_functions.data.label_cells import MISSING, means_no_class, read_cell
from helper_functions.data.separators import LIKELY, find_joined
from helper_functions.prepare import any_table
from helper_functions.prepare.any_table import (
    ABSENT,
    DROP,
    find_column,
    open_table,
    parse_separator,
)
from helper_functions.prepare.rows import ConversionResult, Row, check_name
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError

HELP = "a table with the labels of an image in one column"
CUTS = True

# Usual names of the column of labels, letters and digits alone
_LABEL_COLUMNS = frozenset(
    ("label", "labels", "class", "classes", "tag", "tags", "category", "categories")
    + ("findinglabels", "species", "classname", "labelname")
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the table and of its column of labels."""
    any_table.add_flags(parser)
    add = parser.add_argument
    names = "column of labels (default: the only one of a usual name, such as label or tags)"
    add("--label-column", metavar="NAME", help=names)
    between = "what is between labels, such as '|' or space (default: lists like ['crab', 'eel'])"
    add("--separator", type=parse_separator, metavar="TEXT", help=between)
    none = "labels that say that no class is shown, such as 'No Finding'"
    add("--none-label", nargs="+", default=[], metavar="NAME", help=none)
    blank = "what a blank cell says: no class, or leave the image out (default: an error)"
    add("--blank-is", choices=(ABSENT, DROP), help=blank)


def _label_column(table: any_table.AnyTable, name: str | None) -> int:
    """Return where the labels are."""
    if name is not None:
        return find_column(table.path, table.header, name, "--label-column")
    plain = ["".join(filter(str.isalnum, name.casefold())) for name in table.header]
    named = [number for number in table.others if plain[number] in _LABEL_COLUMNS]
    found = named or table.others
    if len(found) != 1:
        names = ", ".join(table.header)[:200]
        raise UserError(
            f"{table.path} does not tell which column holds the labels ({names}); name it by "
            f"--label-column."
        )
    return found[0]


def _names(cell: str, separator: str | None, where: str) -> list[str]:
    """Return the class names of a cell."""
    if separator is not None:
        return [name.strip() for name in cell.split(separator) if name.strip()]
    names, fault = read_cell(cell)
    if fault is not None:
        raise UserError(f"{where}: the labels {cell[:80]!r} {fault}; check --label-column.")
    for likely in LIKELY:
        if any(likely in name for name in names):
            raise UserError(
                f"{where}: the labels {cell[:80]!r} hold {likely!r}; if it stands between labels, "
                f"give --separator '{likely}', else --separator ',' or another one."
            )
    return list(names)


def _refuse_joined(table: any_table.AnyTable, labels: Collection[list[str]]) -> None:
    """Refuse names that look like several labels, which nobody has denied by ``--separator``."""
    names = {name for each in labels for name in each}
    if joined := find_joined(names, lists=any(len(each) > 1 for each in labels)):
        parts = " and ".join(map(repr, joined.parts[:3]))
        raise UserError(
            f"{table.path}: the label {joined.names[0]!r} looks like {parts}; if "
            f"{joined.separator!r} stands between labels, give --separator '{joined.separator}', "
            f"else --separator ',' or another one."
        )


def read(options: argparse.Namespace, sources: Sources) -> ConversionResult:
    """Read the table; an image has the labels of all its rows.

    Raises:
        UserError: If a cell is no list of labels, or a column is missing or comes twice.
    """
    table = open_table(options, sources)
    column = _label_column(table, options.label_column)
    result = table.result(f"the column {table.header[column]!r}")
    labels: dict[tuple[str, str | None], list[str]] = {}
    count = 0
    for line, cells in table.rows:
        where = f"{table.path}, line {line}"
        cell = cells[column].strip()
        filename, split = table.place(cells, where)
        if cell in MISSING and cell not in options.none_label:
            if options.blank_is is None:
                raise UserError(
                    f"{where}: {filename!r} has no label; say what that means by --blank-is."
                )
            if options.blank_is == DROP:
                result.skipped.append((filename, "it has no label"))
                continue
            cell = "[]"
        names = [] if means_no_class(cell) else _names(cell, options.separator, where)
        names = [check_name(name, where) for name in names if name not in options.none_label]
        labels.setdefault((filename, split), []).extend(names)
        count += 1
    if options.separator is None:
        _refuse_joined(table, labels.values())
    for (filename, split), names in labels.items():
        result.rows.append(Row(filename, tuple(dict.fromkeys(names)), split))
    if count > len(labels):
        result.notes.append(
            f"{count:,} rows name {len(labels):,} images; an image has the labels of all its rows."
        )
    return result
