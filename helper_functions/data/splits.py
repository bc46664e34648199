"""The split CSV: which file carries which labels and belongs to which split.

Form: UTF-8, a header ``filename,label,split``, a label cell like ``['Abies', 'Pinus']``. Files made
for the original code read the same here, in the same class order.
"""

from __future__ import annotations

import ast
import csv
import difflib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from helper_functions.runtime.errors import UserError

SPLITS = ("train", "val", "test")
ALL = "all"  # asks for every row, as in the original code
COLUMNS = ("filename", "label", "split")
MAX_BYTES = 2_000_000_000
TWO_SPLITS = "picture-in-two-splits"

_WRAPPING = re.compile(r"""^[\s\[\]()'"]+|[\s\[\]()'"]+$""")  # what surrounds a name


@dataclass(frozen=True)
class Sample:
    """One row: a file name relative to the image folder, its class names, its split and line."""

    filename: str
    labels: tuple[str, ...]
    split: str
    line: int


@dataclass(frozen=True)
class Problem:
    """What keeps a split CSV, or one of its rows, from being used.

    Attributes:
        kind: A word or two that problems of the same kind share, joined by hyphens.
        message: A sentence that names file, line and value, and says what to do.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class SplitTable:
    """A whole split CSV; ``classes`` are the sorted label strings of all splits together."""

    path: Path
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]

    def split(self, name: str) -> list[Sample]:
        """The samples of a split, or of ``all``.

        Raises:
            UserError: If no such split exists or no row belongs to it.
        """
        if name not in (*SPLITS, ALL):
            raise UserError(
                f"There is no split {name!r}; choose one of {', '.join((*SPLITS, ALL))}."
            )
        samples = [sample for sample in self.samples if name in (sample.split, ALL)]
        if not samples:
            counts = Counter(sample.split for sample in self.samples)
            present = ", ".join(f"{split} ({count} rows)" for split, count in counts.items())
            raise UserError(f"{self.path} has no image in the split {name!r}; it has {present}.")
        return samples


def parse_labels(cell: str) -> tuple[str, ...]:
    """Class names of a label cell.

    A Python-style list of strings is read as such, so names may hold commas. Anything else is cut
    at commas and freed of brackets, quotes and outer blanks, as the original code does: ``[1.0,
    9.0]``, ``[oak, ash]`` and a bare name all work. ``[]`` means no class. Repeats count once.
    """
    try:
        value = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if isinstance(value, (list, tuple, set)) and all(isinstance(name, str) for name in value):
        names = [name.strip() for name in value]
    else:
        names = [_WRAPPING.sub("", part) for part in cell.split(",")]
    return tuple(dict.fromkeys(name for name in names if name))


def _is_empty_list(cell: str) -> bool:
    return "".join(cell.split()) in ("[]", "()")


def _column_positions(path: Path, header: list[str]) -> tuple[int, int, int]:
    """Where the three columns stand; by name, or by position as in the original code."""
    names = [name.strip().lower() for name in header]
    if all(column in names for column in COLUMNS):
        return names.index("filename"), names.index("label"), names.index("split")
    if len(names) >= 3 and names[1] == "label":
        return 0, 1, 2
    missing = [column for column in COLUMNS if column not in names]
    found = ", ".join(header[:8]) + (", ..." if len(header) > 8 else "")
    separator = " Use commas between the columns." if len(header) == 1 and ";" in header[0] else ""
    raise UserError(
        f"{path} has no column {missing[0]!r}: its header must read {','.join(COLUMNS)}, but it "
        f"reads {found[:200]}.{separator}"
    )


def _row_problems(path: Path, line: int, filename: str, cell: str, split: str) -> Iterator[Problem]:
    """What is wrong with one row, whatever the other rows say."""
    where = f"{path}, line {line}"
    if not filename:
        yield Problem(
            "no-file-name", f"{where}: the file name is empty; fill it in or delete the row."
        )
    if PurePath(filename).is_absolute() or ".." in PurePath(filename).parts:
        yield Problem(
            "outside-the-folder",
            f"{where}: the file name {filename!r} leaves the image folder; give it relative to "
            f"--img_dir.",
        )
    if re.search(r"""['"]\s+['"]""", cell):
        labels = " ".join(cell.split())  # NumPy breaks the lines of its lists
        yield Problem(
            "unclear-labels", f"{where}: the labels {labels} lack commas between the names."
        )
    if not parse_labels(cell) and not _is_empty_list(cell):
        yield Problem(
            "no-label",
            f"{where}: {filename!r} has no label; name its classes, or write [] for none.",
        )
    if split not in SPLITS:
        close = difflib.get_close_matches(split.lower(), SPLITS, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        yield Problem(
            "unknown-split",
            f"{where}: {split!r} is not a split; use one of {', '.join(SPLITS)}.{hint}",
        )


def _read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row that is not blank, the header included."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8.") from error
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: this is not a valid CSV row: {error}."
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def _parse(path: Path) -> Iterator[Sample | Problem]:
    """The rows of a split CSV; a ``UserError`` is a fault of the whole file."""
    if not path.is_file():
        raise UserError(f"The split CSV {path} does not exist; check --csv_path.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UserError(
            f"{path} has {size / 1e9:.1f} GB, but a split CSV of a million pictures has 0.1. "
            f"Is it the right file?"
        )
    rows = _read_rows(path)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{path} is empty; its first line must read {','.join(COLUMNS)}.")
    positions = _column_positions(path, first[1])
    first_seen: dict[str, Sample] = {}
    empty, named = True, False
    for line, row in rows:
        empty = False
        if len(row) <= max(positions):
            yield Problem(
                "short-row",
                f"{path}, line {line}: the row has {len(row)} columns, but the header has "
                f"{len(first[1])}.",
            )
            continue
        filename, cell, split = (row[position].strip() for position in positions)
        sample = Sample(filename, parse_labels(cell), split, line)
        named = named or bool(sample.labels)
        problems = list(_row_problems(path, line, filename, cell, split))
        if problems:
            yield from problems
            continue
        earlier = first_seen.setdefault(filename, sample)
        if earlier.split != split:
            yield Problem(
                TWO_SPLITS,
                f"{path}, line {line}: {filename!r} is in the split {split}, but line "
                f"{earlier.line} puts it in {earlier.split}; a picture belongs to one split.",
            )
        yield sample
    if empty:
        raise UserError(f"{path} holds a header but no image.")
    if first_seen and not named:
        raise UserError(f"{path} names no class in any row.")


def parse_rows(path: Path) -> Iterator[Sample | Problem]:
    """Every row of a split CSV in its order, and every problem where it is met.

    A row that cannot be used gives its problems only; one that repeats a picture of another split
    gives the problem and the row. Where the file itself ends the reading, that is the last problem.
    """
    try:
        yield from _parse(path)
    except UserError as error:
        yield Problem("unusable-csv", str(error))


def read_split_table(path: Path) -> SplitTable:
    """Read and check a split CSV.

    Raises:
        UserError: If the file is missing, empty or unreadable, lacks a column, or a row lacks its
            file name or label, names an unknown split or a picture of another split. The message
            gives the line. Of several problems it names the first.
    """
    samples = []
    for row in parse_rows(path):
        if isinstance(row, Problem):
            raise UserError(row.message)
        samples.append(row)
    classes = tuple(sorted({name for sample in samples for name in sample.labels}))
    return SplitTable(path, tuple(samples), classes)
