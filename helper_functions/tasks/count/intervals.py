"""Prediction intervals of counts, learnt from the errors on images with known counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helper_functions.data.tables import read_rows
from helper_functions.metrics.counting import conformal_quantile, interval
from helper_functions.runtime.errors import UserError


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
    if not path.is_file():
        raise UserError(
            f"--interval learns from the counts.csv of a validation, but {path} does not exist; "
            "validate the checkpoint first, or name the file by --calibration."
        )
    rows = read_rows(path)
    _, header = next(rows, (0, []))
    if header is None or not {"count", "true"} <= set(header):
        raise UserError(
            f"{path} has no columns 'count' and 'true'; give the counts.csv of a validation with "
            "--points-path."
        )
    predicted, true = [], []
    for line, row in rows:
        try:
            cells = dict(zip(header, row, strict=True))
            predicted.append(float(cells["count"]))
            true.append(float(cells["true"]))
        except ValueError as error:
            raise UserError(f"{path}, line {line}: the counts cannot be read ({error}).") from error
    quantile = conformal_quantile(np.array(true), np.array(predicted), coverage)
    if not math.isfinite(quantile):
        needed = math.ceil(coverage / (1 - coverage) - 1e-9)
        raise UserError(
            f"{path} has {len(true)} rows; intervals of {coverage:g} need at least {needed}."
        )
    return Intervals(quantile, coverage, len(true))
