"""Result files of every task: CSV tables, predictions in CSV or Parquet, metrics in JSON."""

from __future__ import annotations

import csv
import importlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from helper_functions.runtime.files import write_atomically, write_text

PREDICTION_FORMATS = ("csv", "parquet")
_CRLF = "\r\n"

NamedScores = tuple[Sequence[str], npt.NDArray[np.float32]]


# What a spreadsheet takes for a formula, and the same behind apostrophes, so that removing one
# apostrophe gives the exact name.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def as_text(cell: str) -> str:
    """Return a cell that no spreadsheet evaluates: a leading = + - @ gets an apostrophe.

    >>> as_text("=1+1"), as_text("'=1+1"), as_text("oak")
    ("'=1+1", "''=1+1", 'oak')
    """
    return f"'{cell}" if _FORMULA.match(cell) else cell


def column_names(names: Sequence[str], fixed: Sequence[str] = ()) -> list[str]:
    """Return names for columns that come from data, in their order, all different.

    A column is called like its class. One that would be called like another column gets as many
    underscores at its end as it needs; so does one of two that differ only in what UTF-8 lacks.

    Args:
        names: Of classes.
        fixed: Of the columns beside them, which keep their names.

    >>> column_names(["filename", "filename_", "oak"], ["filename"])
    ['filename__', 'filename_', 'oak']
    """
    encoded = [name.encode(errors="replace").decode() for name in names]
    taken = {*fixed, *encoded}
    used = set(fixed)
    columns = []
    for name in encoded:
        if name in used:
            while name in taken:
                name += "_"
            taken.add(name)
        used.add(name)
        columns.append(name)
    return columns


def encode_rows(rows: Iterable[Iterable[object]]) -> bytes:
    """Encode rows as CSV; bytes of a file name that are not UTF-8 become question marks."""
    # Before Python 3.13 a line break within a cell is quoted only if it also ends rows.
    lines: list[str] = []
    target = SimpleNamespace(write=lambda line: lines.append(f"{line.removesuffix(_CRLF)}\n"))
    csv.writer(target, lineterminator=_CRLF).writerows(rows)
    return "".join(lines).encode(errors="replace")


def _encode_cells(rows: Iterable[Iterable[object]], float_format: str = "") -> bytes:
    """Encode rows for a spreadsheet, with numbers that are not integers in a format."""

    def cell(value: object) -> str:
        if isinstance(value, (float, np.floating)):
            return format(value, float_format)
        return as_text(value) if isinstance(value, str) else str(value)

    return encode_rows(map(cell, row) for row in rows)


def write_table(
    path: Path, columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]], float_format: str = ".4f"
) -> None:
    """Write columns as CSV.

    Args:
        path: The file.
        columns: Cells by name, as many in every column. Text is protected from spreadsheets.
        float_format: How numbers that are not integers are written.
    """
    content = _encode_cells(
        [column_names(list(columns)), *zip(*columns.values(), strict=True)], float_format
    )
    write_atomically(path, lambda file: file.write(content))


def write_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics as JSON."""
    write_text(path, json.dumps(metrics, indent=2, allow_nan=False) + "\n")


def _write_csv(file: BinaryIO, classes: Sequence[str], parts: Iterable[NamedScores]) -> None:
    header = ["filename", *column_names(classes, ["filename"])]
    file.write(_encode_cells([header]))
    # Nine significant digits tell any two float32 apart.
    pattern = ",%.9g" * len(classes) + "\n"
    for filenames, scores in parts:
        for filename, row in zip(filenames, scores, strict=True):
            file.write(_encode_cells([[filename]])[:-1] + (pattern % tuple(row.tolist())).encode())


def _write_parquet(file: BinaryIO, classes: Sequence[str], parts: Iterable[NamedScores]) -> None:
    pyarrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    names = column_names(classes, ["filename"])
    fields = [("filename", pyarrow.string()), *((name, pyarrow.float32()) for name in names)]
    schema = pyarrow.schema(fields)
    with parquet.ParquetWriter(file, schema) as writer:
        for filenames, scores in parts:
            images = [name.encode(errors="replace").decode() for name in filenames]
            columns = np.ascontiguousarray(scores.T)
            writer.write_table(pyarrow.Table.from_arrays([images, *columns], schema=schema))


def write_prediction_parts(
    path: Path, classes: Sequence[str], parts: Iterable[NamedScores]
) -> None:
    """Write ``filename`` and one score column a class by ``column_names``, a part at a time.

    Args:
        path: The file; its suffix, ``.csv`` or ``.parquet``, gives the format. In Parquet names
            stay as they are: no spreadsheet evaluates a value there.
        classes: K names.
        parts: N file names and their scores (N, K) each.
    """
    write = _write_csv if path.suffix == ".csv" else _write_parquet
    write_atomically(path, lambda file: write(file, classes, parts))
