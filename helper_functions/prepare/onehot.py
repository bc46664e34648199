"""A one-hot table: a column of file names, then a column of 0 and 1 for each class."""

from __future__ import annotations

import argparse

from helper_functions.prepare import any_table
from helper_functions.prepare.any_table import ABSENT, DROP, PRESENT, find_column, open_table
from helper_functions.prepare.rows import ConversionResult, Row, check_name
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError

HELP = "a table with a column of 0 and 1 for each class"
CUTS = True

_BLANK, _UNCERTAIN = "blank", "uncertain"
_WORDS = {
    **dict.fromkeys(("false", "no", "n"), ABSENT),
    **dict.fromkeys(("true", "yes", "y", "x"), PRESENT),
    **dict.fromkeys(("", "nan", "na", "n/a", "none", "null"), _BLANK),
    **dict.fromkeys(("u", "?"), _UNCERTAIN),
}
_NUMBERS = {0.0: ABSENT, 1.0: PRESENT, -1.0: _UNCERTAIN}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the table and of its cells."""
    any_table.add_flags(parser)
    add = parser.add_argument
    columns = parser.add_mutually_exclusive_group()
    names = "columns that are classes (default: all but those of files and splits)"
    columns.add_argument("--classes", nargs="+", metavar="COLUMN", help=names)
    others = "columns that are no classes, such as Sex and Age"
    columns.add_argument("--ignore-columns", nargs="+", metavar="COLUMN", help=others)
    meanings = (ABSENT, PRESENT, DROP)
    blank = "what a blank cell says of its class; drop: leave the image out (default: an error)"
    add("--blank-is", choices=meanings, help=blank)
    add("--uncertain-is", choices=meanings, help="what -1 says of its class (default: an error)")


def _meaning(cell: str) -> str | None:
    """Return what a cell says of its class, if that is clear."""
    text = cell.strip().lower()
    if text in _WORDS:
        return _WORDS[text]
    try:
        return _NUMBERS.get(float(text))
    except ValueError:
        return None


def _class_columns(table: any_table.AnyTable, options: argparse.Namespace) -> list[tuple[int, str]]:
    """Return number and name of the columns of classes."""
    path, header = table.path, table.header
    if options.classes is not None:
        chosen = [find_column(path, header, name, "--classes") for name in options.classes]
        numbers = sorted(set(chosen))
    else:
        ignored = options.ignore_columns or ()
        left_out = {find_column(path, header, name, "--ignore-columns") for name in ignored}
        numbers = [number for number in table.others if number not in left_out]
    if not numbers:
        raise UserError(f"{path} has no column of a class, only {', '.join(header)[:200]}.")
    return [
        (number, check_name(header[number], f"{path}, column {number + 1}")) for number in numbers
    ]


def read(options: argparse.Namespace, sources: Sources) -> ConversionResult:
    """Read the table. A column ``split``, if there is one, is kept; else validation is cut.

    Raises:
        UserError: If a cell has no clear meaning, or a column is missing or comes twice.
    """
    table = open_table(options, sources)
    classes = _class_columns(table, options)
    result = table.result("the columns of 0 and 1")
    given = {
        _BLANK: ("--blank-is", options.blank_is, "a blank cell"),
        _UNCERTAIN: ("--uncertain-is", options.uncertain_is, "an uncertain cell"),
    }
    for line, cells in table.rows:
        where = f"{table.path}, line {line}"
        labels, dropped = [], None
        for number, name in classes:
            meaning = _meaning(cells[number])
            advice = "name a column that is no class by --ignore-columns"
            if meaning in given:
                flag, meaning, reason = given[meaning]
                advice = f"say what it means by {flag}"
                dropped = dropped or (reason if meaning == DROP else None)
            if meaning is None:
                column, cell = name[:80], cells[number][:40]
                fault = f"{cell!r} is neither 0 nor 1"
                raise UserError(f"{where}, column {column!r}: {fault}; {advice}.")
            if meaning == PRESENT:
                labels.append(name)
        filename, split = table.place(cells, where)
        if dropped is None:
            result.rows.append(Row(filename, tuple(labels), split))
        else:
            result.skipped.append((filename, f"its row has {dropped}"))
    return result
