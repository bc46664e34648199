"""``counts.csv`` and ``points.csv``: what was counted in each image, and where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from helper_functions.results.tables import write_table
from helper_functions.tasks.count.intervals import Intervals


class CountTables:
    """Collects the rows of all images.

    Args:
        classes: K names; of several each has a row an image, and a column ``label``.
        compared: Whether true counts are known.
        intervals: Of the counts.
    """

    def __init__(
        self, classes: Sequence[str], *, compared: bool, intervals: Intervals | None
    ) -> None:
        self.classes = classes
        self.intervals = intervals
        label = ["label"] if len(classes) > 1 else []
        true = ["true"] if compared else []
        bounds = [] if intervals is None else ["low", "high"]
        self.counts: dict[str, list[Any]] = {
            name: [] for name in ("filename", *label, "count", *true, *bounds)
        }
        self.points: dict[str, list[Any]] = {
            name: [] for name in ("filename", "x", "y", "score", *label)
        }

    def add(self, name: str, points: Any, true: Any) -> None:
        """Add an image: predicted points (P, 4), and the true ones (T, 3) where they are known."""
        for k, label in enumerate(self.classes):
            count = int(np.count_nonzero(points[:, 3] == k))
            row = {"filename": name, "label": label, "count": count}
            if true is not None:
                row["true"] = int(np.count_nonzero(true[:, 2] == k))
            if self.intervals is not None:
                row["low"], row["high"] = self.intervals(count)
            for column, cells in self.counts.items():
                cells.append(row[column])
        for x, y, score, k in points.tolist():
            row = {"filename": name, "x": x, "y": y, "score": score, "label": self.classes[int(k)]}
            for column, cells in self.points.items():
                cells.append(row[column])

    def write(self, folder: Path) -> None:
        """Write both files."""
        write_table(folder / "counts.csv", self.counts, ".1f")
        write_table(folder / "points.csv", self.points, ".3f")
