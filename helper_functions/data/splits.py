"""The split CSV: which image carries which labels and belongs to which split.

Form: UTF-8, a header ``filename,label,split``, a label cell like ``['Abies', 'Pinus']``. Files made
for the original code are read alike, in the same class order.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from helper_functions.data.folders import canonical_name, leaves_folder
from helper_functions.data.label_cells import (
    MISSING,
    LabelCell,
    count_bits,
    means_no_class,
    read_cell,
)
from helper_functions.data.tables import check_exists, missing_column, read_rows
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.lookalikes import contrast

SPLITS = ("train", "val", "test")
ALL = "all"  # asks for every row, as in the original code
COLUMNS = ("filename", "label", "split")
MAX_BYTES = 2_000_000_000
TWO_SPLITS = "image-in-two-splits"


@dataclass(frozen=True)
class Sample:
    """One row: an image's file name below the image folder, class names, split and line."""

    filename: str
    labels: tuple[str, ...]
    split: str
    line: int


@dataclass(frozen=True)
class Problem:
    """What keeps a split CSV, or one of its rows, from being used."""

    kind: str  # a word or two that problems of the same kind share, joined by hyphens
    message: str  # a sentence that names file, line and value, and says what to do


@dataclass(frozen=True)
class SplitTable:
    """A split CSV; ``classes`` are the sorted label strings of all splits together."""

    path: Path
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]

    def split(self, name: str) -> list[Sample]:
        """Return the samples of a split, or of ``all``.

        Raises:
            UserError: If no such split exists or no row belongs to it.
        """
        names = (*SPLITS, ALL)
        if name not in names:
            raise UserError(f"There is no split {name!r}; choose one of {', '.join(names)}.")
        samples = [sample for sample in self.samples if name in (sample.split, ALL)]
        if not samples:
            counts = Counter(sample.split for sample in self.samples)
            present = ", ".join(f"{split} ({count} rows)" for split, count in counts.items())
            raise UserError(f"{self.path} has no image in the split {name!r}; it has {present}.")
        return samples


def _column_indices(path: Path, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Return where the columns are; by name, or by position as in the original code."""
    names = [name.strip().lower() for name in header]
    for column in columns:
        if (count := names.count(column)) > 1:
            raise UserError(f"{path} has {count} columns {column!r}; it should have one.")
    if all(column in names for column in columns):
        return [names.index(column) for column in columns]
    if len(names) >= len(COLUMNS) and names[1] == "label":
        return [COLUMNS.index(column) for column in columns]
    missing = next(column for column in columns if column not in names)
    raise UserError(f"{missing_column(path, header, missing)} It must hold {','.join(columns)}.")


def _label_problem(where: str, filename: str, text: str, cell: LabelCell) -> Problem | None:
    """Return what is wrong with a label cell, whatever the other rows hold."""
    shown = " ".join(text.split())  # NumPy breaks the lines of its lists
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    nothing = "name its classes, or write [] for none"
    if text and text in MISSING:
        fault = f"{filename!r} has no label, only {text}"
        named = f"a class of that name is written [{text!r}]"
        return Problem("no-label", f"{where}: {fault}; {nothing} ({named}).")
    if cell.fault:
        advice = "write them like ['crab', 'sea star']"
        return Problem("unclear-labels", f"{where}: the labels {shown} {cell.fault}; {advice}.")
    if not cell.names and not means_no_class(text):
        return Problem("no-label", f"{where}: {filename!r} has no label; {nothing}.")
    return None


def _row_problems(where: str, sample: Sample) -> Iterator[Problem]:
    """Yield what is wrong with one row, whatever the other rows hold."""
    if not sample.filename:
        fault = "the file name is empty; fill it in or delete the row."
        yield Problem("no-file-name", f"{where}: {fault}")
    if leaves_folder(sample.filename):
        fault = f"the file name {sample.filename!r} leaves the image folder"
        yield Problem("outside-the-folder", f"{where}: {fault}; give it relative to --img_dir.")
    if sample.split not in SPLITS:
        close = difflib.get_close_matches(sample.split.lower(), SPLITS, n=1, cutoff=0.5)
        split, meant = contrast(sample.split, close[0] if close else "")
        hint = f" Did you mean {meant}?" if close else ""
        fault = f"{split} is not a split; use one of {', '.join(SPLITS)}.{hint}"
        yield Problem("unknown-split", f"{where}: {fault}")


def _parse(path: Path, *, labels: bool) -> Iterator[Sample | Problem]:
    """Yield the rows of a split CSV; a ``UserError`` is a fault of the file itself."""
    check_exists(path, "The split CSV", "--csv_path")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UserError(
            f"{path} has {size / 1e9:.1f} GB, but a split CSV of a million images has 0.1. "
            f"Is it the right file?"
        )
    columns = COLUMNS if labels else ("filename", "split")
    rows = read_rows(path)
    _, header = next(rows, (0, None))
    if header is None:
        raise UserError(f"{path} is empty; its first line must read {','.join(columns)}.")
    indices = _column_indices(path, header, columns)

    first_seen: dict[str, Sample] = {}
    lengths: set[int] = set()  # of label cells that hold zeros and ones only; else 0
    line, labeled = 0, False
    for line, row in rows:
        where = f"{path}, line {line}"
        if len(row) <= max(indices):
            columns_of_both = f"the row has {len(row)} columns, but the header has {len(header)}."
            yield Problem("short-row", f"{where}: {columns_of_both}")
            continue
        if any(cell.strip() for cell in row[len(header) :]):
            columns_of_both = f"the row has {len(row)} columns, but the header has {len(header)}"
            advice = "put a label cell that holds commas into double quotes"
            yield Problem("long-row", f"{where}: {columns_of_both}; {advice}.")
            continue
        filename, *label_cells, split = (row[index].strip() for index in indices)
        label_cell = label_cells[0] if labels else "[]"
        cell = read_cell(label_cell)
        sample = Sample(filename, cell.names, split, line)
        labeled = labeled or bool(sample.labels)
        of_labels = _label_problem(where, filename, label_cell, cell)
        problems = [*filter(None, [of_labels]), *_row_problems(where, sample)]
        if problems:
            yield from problems
            continue
        lengths.add(count_bits(label_cell))
        earlier = first_seen.setdefault(canonical_name(filename), sample)
        if earlier.split != split:
            name, other = contrast(filename, earlier.filename)
            spelt = "" if filename == earlier.filename else f" as {other}"
            first = f"line {earlier.line} puts it{spelt} in {earlier.split}"
            fault = f"{name} is in the split {split}, but {first}"
            yield Problem(TWO_SPLITS, f"{where}: {fault}; an image belongs to one split.")
        yield sample

    if not line:
        raise UserError(f"{path} holds a header but no image.")
    if labels and first_seen and not labeled:
        raise UserError(f"{path} names no class in any row.")
    if len(first_seen) > 1 and len(lengths) == 1 and (length := lengths.pop()):
        raise UserError(
            f"{path} has a list of {length} zeros and ones in every label cell; name the classes "
            f"that an image shows, like ['crab', 'sea star']. A table with a column of 0 and 1 "
            f"for each class is read by: python -m helper_functions.prepare onehot"
        )


def parse_rows(path: Path, *, labels: bool = True) -> Iterator[Sample | Problem]:
    """Yield every row of a split CSV in its order, and every problem where it is met.

    A row that cannot be used gives its problems only; one that repeats an image of another split
    gives the problem and the row. What ends the reading of the file is the last problem. Without
    ``labels`` the label column may be missing, and no sample has labels.
    """
    try:
        yield from _parse(path, labels=labels)
    except UserError as error:
        yield Problem("unusable-csv", str(error))


def read_split_table(path: Path, *, labels: bool = True) -> SplitTable:
    """Read a split CSV by ``parse_rows``.

    Raises:
        UserError: On the first problem of the file or of a row; the message gives the line.
    """
    samples = []
    for row in parse_rows(path, labels=labels):
        if isinstance(row, Problem):
            raise UserError(row.message)
        samples.append(row)
    classes = tuple(sorted({name for sample in samples for name in sample.labels}))
    return SplitTable(path, tuple(samples), classes)
