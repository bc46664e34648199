"""Prediction intervals of counts, learnt from the errors on images with known counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helper_functions.data.tables import check_exists, read_rows
from helper_functions.metrics.counting import conformal_quantile, interval
from helper_functions.runtime.errors import UserError

COLUMNS = ("count", "true")
DIGITS = 9  # of a count


@dataclass(frozen=True)
class Intervals:
    """Split-conformal intervals (Papadopoulos et al. 2002) of a coverage, from N known counts."""

    quantile: float
    coverage: float
    images: int

    def __call__(self, count: int) -> tuple[float, float]:
        """Return the lowest and highest count, never below 0."""
        low, high = interval([count], self.quantile)[0].tolist()
        return low, high


def read_calibration(path: Path, coverage: float) -> Intervals:
    """Learn intervals from a ``counts.csv`` with true counts.

    Raises:
        UserError: If it cannot be read, tells no true counts, or tells of too few images.
    """
    if not path.exists():
        raise UserError(
            f"--interval learns from the counts.csv of a validation, but {path} does not exist; "
            "validate the checkpoint first, or name the file by --calibration."
        )
    check_exists(path, "The calibration", "--calibration")
    rows = read_rows(path)
    _, header = next(rows, (0, []))
    if any(header.count(column) != 1 for column in COLUMNS):
        raise UserError(
            f"{path} needs one column 'count' and one column 'true'; give the counts.csv of a "
            "validation with --points-path."
        )
    counts: dict[str, list[int]] = {column: [] for column in COLUMNS}
    for line, row in rows:
        if len(row) != len(header):
            fault = f"the row has {len(row):,} columns, but the header has {len(header):,}"
            raise UserError(f"{path}, line {line}: {fault}; validate again to write it anew.")
        for column in COLUMNS:
            cell = row[header.index(column)].strip()
            if not (cell.isascii() and cell.isdigit() and len(cell) <= DIGITS):
                raise UserError(
                    f"{path}, line {line}: {column} is {cell[:40]!r}, not a number of objects; "
                    "validate again to write it anew."
                )
            counts[column].append(int(cell))
    true, predicted = np.array(counts["true"]), np.array(counts["count"])
    quantile = conformal_quantile(true, predicted, coverage)
    if not math.isfinite(quantile):
        needed = math.ceil(coverage / (1 - coverage) - 1e-9)
        raise UserError(
            f"{path} has {len(true)} rows; intervals of {coverage:g} need at least {needed}."
        )
    return Intervals(quantile, coverage, len(true))
