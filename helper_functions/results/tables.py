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

NamedScores = tuple[Sequence[str], npt.NDArray[np.float32]]


def as_text(cell: str) -> str:
    """Return a cell that no spreadsheet evaluates: a leading = + - @ gets an apostrophe.

    >>> as_text("=1+1"), as_text("oak")
    ("'=1+1", 'oak')
    """
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def csv_line(cells: Iterable[str]) -> str:
    """Return cells of text as a line of CSV, each protected by `as_text`."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(map(as_text, cells))
    return line.getvalue()


def _encode(text: str) -> bytes:
    """UTF-8; bytes of a file name that are not become question marks."""
    return text.encode(errors="replace")


def write_table(
    path: Path, columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]], float_format: str = ".4f"
) -> None:
    """Write columns as CSV.

    Args:
        path: The file.
        columns: Cells by name, as many in every column. Text is protected from spreadsheets.
        float_format: How numbers that are not integers are written.
    """

    def cell(value: object) -> str:
        if isinstance(value, (float, np.floating)):
            return format(value, float_format)
        return as_text(value) if isinstance(value, str) else str(value)

    table = io.StringIO(csv_line(columns))
    table.seek(0, io.SEEK_END)
    rows = zip(*columns.values(), strict=True)
    csv.writer(table, lineterminator="\n").writerows(map(cell, row) for row in rows)
    write_atomically(path, lambda file: file.write(_encode(table.getvalue())))


def write_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics as JSON."""
    write_text(path, json.dumps(metrics, indent=2, allow_nan=False) + "\n")


def _write_csv(file: BinaryIO, classes: Sequence[str], parts: Iterable[NamedScores]) -> None:
    file.write(_encode(csv_line(["filename", *classes])))
    # Nine significant digits tell any two float32 apart.
    pattern = ",%.9g" * len(classes) + "\n"
    for filenames, scores in parts:
        for filename, row in zip(filenames, scores, strict=True):
            file.write(_encode(csv_line([filename])[:-1] + pattern % tuple(row.tolist())))


def _write_parquet(file: BinaryIO, classes: Sequence[str], parts: Iterable[NamedScores]) -> None:
    pyarrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    fields = [("filename", pyarrow.string()), *((name, pyarrow.float32()) for name in classes)]
    schema = pyarrow.schema(fields)
    with parquet.ParquetWriter(file, schema) as writer:
        for filenames, scores in parts:
            names = [_encode(name).decode() for name in filenames]
            columns = np.ascontiguousarray(scores.T)
            writer.write_table(pyarrow.Table.from_arrays([names, *columns], schema=schema))


_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet}
PREDICTION_FORMATS = tuple(suffix.removeprefix(".") for suffix in _WRITERS)


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
    write = _WRITERS[path.suffix]
    write_atomically(path, lambda file: write(file, classes, parts))


def write_predictions(
    path: Path, filenames: Sequence[str], classes: Sequence[str], scores: npt.NDArray[np.float32]
) -> None:
    """Write the scores (N, K) of N files by `write_prediction_parts`."""
    write_prediction_parts(path, classes, [(filenames, scores)])
