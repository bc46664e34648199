"""``log.csv``: one row an epoch, written atomically, no epoch twice."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from helper_functions.runtime.files import write_text


class TrainingLog:
    """The table of a run in a CSV file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, str]]:
        """Return the rows written so far, as text."""
        if not self.path.is_file():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def write(self, row: dict[str, float]) -> None:
        """Add an epoch; rows of this and later epochs, left by a resumed run, are removed."""
        earlier = [old for old in self.read() if int(old["epoch"]) < int(row["epoch"])]
        text = io.StringIO()
        table = csv.DictWriter(text, list(row), extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows([*earlier, {name: f"{value:.10g}" for name, value in row.items()}])
        write_text(self.path, text.getvalue())
