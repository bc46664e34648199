"""What ``val.py`` leaves behind and prints: metrics, predictions, the per-class table."""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pandas as pd

from helper_functions.runtime.files import write_atomically, write_text

ScoredNames = tuple[Sequence[str], npt.NDArray[np.float32]]

_LISTED = 10  # classes named in the summary before it shortens


def as_text(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: a leading = + - @ gets an apostrophe."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _csv_line(cells: Sequence[str]) -> str:
    """Cells of text as a line of CSV, without its end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(map(as_text, cells))
    return line.getvalue()


def _encoded(line: str) -> bytes:
    """UTF-8; bytes of a file name that are not become question marks."""
    return line.encode(errors="replace")


def prediction_lines(filenames: Sequence[str], scores: npt.NDArray[np.float32]) -> Iterator[str]:
    """Lines of ``predictions.csv``: a file name and its scores, to nine significant digits.

    Args:
        filenames: N names.
        scores: (N, K) probabilities.
    """
    pattern = "".join([",%.9g"] * scores.shape[1]) + "\n"
    for filename, row in zip(filenames, scores, strict=True):
        yield _csv_line([filename]) + pattern % tuple(row.tolist())


def prediction_header(classes: Sequence[str]) -> str:
    """The first line of ``predictions.csv``."""
    return _csv_line(["filename", *classes]) + "\n"


def _write_csv(file: BinaryIO, classes: Sequence[str], parts: Iterable[ScoredNames]) -> None:
    file.write(_encoded(prediction_header(classes)))
    for filenames, scores in parts:
        file.writelines(map(_encoded, prediction_lines(filenames, scores)))


def _write_parquet(file: BinaryIO, classes: Sequence[str], parts: Iterable[ScoredNames]) -> None:
    pyarrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    fields = [("filename", pyarrow.string()), *((name, pyarrow.float32()) for name in classes)]
    schema = pyarrow.schema(fields)
    with parquet.ParquetWriter(file, schema) as writer:
        for filenames, scores in parts:
            names = [_encoded(name).decode() for name in filenames]
            columns = np.ascontiguousarray(scores.T)
            writer.write_table(pyarrow.Table.from_arrays([names, *columns], schema=schema))


_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet}
PREDICTION_FORMATS = tuple(suffix.removeprefix(".") for suffix in _WRITERS)


def write_prediction_parts(
    path: Path, classes: Sequence[str], parts: Iterable[ScoredNames]
) -> None:
    """Write ``filename`` and one score column a class, a part at a time.

    Args:
        path: The file; ``.csv`` or ``.parquet`` says how it is written. In Parquet names stay as
            they are: no spreadsheet takes a value for a formula there.
        classes: K names.
        parts: N names and their probabilities (N, K) each.
    """
    write = _WRITERS[path.suffix]
    write_atomically(path, lambda file: write(file, classes, parts))


def write_predictions(
    path: Path, filenames: Sequence[str], classes: Sequence[str], scores: npt.NDArray[np.float32]
) -> None:
    """Write predictions by ``write_prediction_parts``, all of them one part."""
    write_prediction_parts(path, classes, [(filenames, scores)])


def write_per_class(path: Path, classes: Sequence[str], table: dict[str, npt.NDArray[Any]]) -> None:
    """Write one row a class: support, AP, precision, recall, F1 (percent), predicted."""
    frame = pd.DataFrame({"class": [as_text(name) for name in classes], **table})
    write_text(path, frame.to_csv(index=False, float_format="%.4f"))


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write the metrics as JSON."""
    write_text(path, json.dumps(metrics, indent=2, allow_nan=False) + "\n")


def _class_lines(classes: Sequence[str], table: dict[str, npt.NDArray[Any]]) -> list[str]:
    """The per-class table as text, best AP first; the middle of a long list is left out."""
    order = np.argsort(-table["AP"], kind="stable")
    width = max(len(name) for name in classes)
    header = f"{'class':<{width}}  images     AP  precision  recall     F1"
    lines = [
        f"{classes[k]:<{width}}  {table['support'][k]:6d} {table['AP'][k]:6.1f}  "
        f"{table['precision'][k]:9.1f}  {table['recall'][k]:6.1f} {table['F1'][k]:6.1f}"
        for k in order
    ]
    if len(lines) > 2 * _LISTED:
        hidden = f"... {len(lines) - 2 * _LISTED} more classes in per_class.csv ..."
        lines = [*lines[:_LISTED], hidden, *lines[-_LISTED:]]
    return [header, *lines]


def _region_lines(metrics: dict[str, Any]) -> list[str]:
    """What the masks say of the regions, as text; nothing without masks."""
    if "region_grid" not in metrics:
        return []
    rows, columns = metrics["region_grid"]
    return [
        "",
        f"{f'in {rows} x {columns} cells':<23}  purity  accuracy    mIoU",
        *(
            f"{name:<23}  {metrics[f'region_purity{suffix}']:6.2f}  "
            f"{metrics[f'region_accuracy{suffix}']:8.2f}  {metrics[f'region_miou{suffix}']:6.2f}"
            for name, suffix in (
                ("classes of the regions", ""),
                ("the picture's top class", "_majority"),
            )
        ),
        f"{'a random class':<23}  {metrics['region_purity_chance']:6.2f}",
    ]


def _threshold_words(threshold: float | list[float]) -> str:
    """The decision threshold, as the head of a table."""
    return "at own thresholds" if isinstance(threshold, list) else f"at threshold {threshold:g}"


def summary(metrics: dict[str, Any], table: dict[str, npt.NDArray[Any]]) -> str:
    """The result of a validation for a person to read.

    Args:
        metrics: As written to ``metrics.json``.
        table: As written to ``per_class.csv``.
    """
    lines = [
        f"{metrics['num_images']} images, {len(metrics['classes'])} classes",
        "",
        f"mAP                 {metrics['mAP']:6.2f}",
        f"  by chance         {metrics['chance_mAP']:6.2f}",
        f"  class frequencies {metrics['frequency_mAP']:6.2f}",
        "",
        f"{_threshold_words(metrics['threshold']):<20}precision  recall     F1",
        f"mean over classes      {metrics['P_C']:6.2f}  {metrics['R_C']:6.2f}"
        f" {metrics['F_C']:6.2f}   (CF1 {metrics['CF1']:.2f})",
        f"over all decisions     {metrics['P_O']:6.2f}  {metrics['R_O']:6.2f}"
        f" {metrics['F_O']:6.2f}",
        f"mean over pictures                     {metrics['samples_F1']:6.2f}",
        f"classes by frequency                   {metrics['weighted_F1']:6.2f}",
        "",
        f"by rank: top-1 {metrics['top1']:.2f}, precision at 5 {metrics['precision_at_5']:.2f}, "
        f"recall at 5 {metrics['recall_at_5']:.2f}, MAP at 20 {metrics['MAP_at_20']:.2f}",
    ]
    if metrics["nothing_predicted"]:
        lines += ["No score exceeds the threshold: precision, recall and F1 are set to 0."]
    if metrics["absent_classes"]:
        absent = [
            name
            for name, support in zip(metrics["classes"], table["support"], strict=True)
            if support == 0
        ]
        named = ", ".join(absent[:_LISTED]) + (", ..." if len(absent) > _LISTED else "")
        lines += [
            "",
            f"{len(absent)} classes have no image in this split and count as AP 0: {named}. "
            f"Over the others the mAP is {metrics['mAP_present']:.2f}.",
        ]
    return "\n".join(
        [*lines, *_region_lines(metrics), "", *_class_lines(metrics["classes"], table)]
    )
