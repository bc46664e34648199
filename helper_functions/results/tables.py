"""Result files of every task: CSV tables, predictions in CSV or Parquet, metrics in JSON."""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from helper_functions.runtime.files import write_atomically, write_text

PREDICTION_FORMATS = ("csv", "parquet")

NamedScores = tuple[Sequence[str], npt.NDArray[np.float32]]


def as_text(cell: str) -> str:
    """Return a cell that no spreadsheet evaluates: a leading = + - @ gets an apostrophe.

    >>> as_text("=1+1"), as_text("oak")
    ("'=1+1", 'oak')
    """
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _csv(rows: Iterable[Iterable[object]], float_format: str = "") -> bytes:
    """Encode rows as CSV; bytes of a file name that are not UTF-8 become question marks."""

    def cell(value: object) -> str:
        if isinstance(value, (float, np.floating)):
            return format(value, float_format)
        return as_text(value) if isinstance(value, str) else str(value)

    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(map(cell, row) for row in rows)
    return table.getvalue().encode(errors="replace")


def write_table(
    path: Path, columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]], float_format: str = ".4f"
) -> None:
    """Write columns as CSV.

    Args:
        path: The file.
        columns: Cells by name, as many in every column. Text is protected from spreadsheets.
        float_format: How numbers that are not integers are written.
    """
    content = _csv([columns, *zip(*columns.values(), strict=True)], float_format)
    write_atomically(path, lambda file: file.write(content))


def write_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics as JSON."""
    write_text(path, json.dumps(metrics, indent=2, allow_nan=False) + "\n")


def _write_csv(file: BinaryIO, classes: Sequence[str], parts: Iterable[NamedScores]) -> None:
    file.write(_csv([["filename", *classes]]))
    # Nine significant digits tell any two float32 apart.
    pattern = ",%.9g" * len(classes) + "\n"
    for filenames, scores in parts:
        for filename, row in zip(filenames, scores, strict=True):
            file.write(_csv([[filename]])[:-1] + (pattern % tuple(row.tolist())).encode())


def _write_parquet(file: BinaryIO, classes: Sequence[str], parts: Iterable[NamedScores]) -> None:
    pyarrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    fields = [("filename", pyarrow.string()), *((name, pyarrow.float32()) for name in classes)]
    schema = pyarrow.schema(fields)
    with parquet.ParquetWriter(file, schema) as writer:
        for filenames, scores in parts:
            names = [name.encode(errors="replace").decode() for name in filenames]
            columns = np.ascontiguousarray(scores.T)
            writer.write_table(pyarrow.Table.from_arrays([names, *columns], schema=schema))


def write_prediction_parts(
    path: Path, classes: Sequence[str], parts: Iterable[NamedScores]
) -> None:
    """Write ``filename`` and one score column a class, a part at a time.

    Args:
        path: The file; its suffix, ``.csv`` or ``.parquet``, gives the format. In Parquet names
            stay as they are: no spreadsheet evaluates a value there.
        classes: K names.
        parts: N file names and their scores (N, K) each.
    """
    write = _write_csv if path.suffix == ".csv" else _write_parquet
    write_atomically(path, lambda file: write(file, classes, parts))
