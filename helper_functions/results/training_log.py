"""``log.csv``: one row an epoch, never a torn or a repeated one."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from helper_functions.runtime.files import write_text


class TrainingLog:
    """The table of a run.

    Args:
        path: The CSV file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, str]]:
        """The rows written so far, as text."""
        if not self.path.is_file():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def write(self, row: dict[str, float]) -> None:
        """Add an epoch; rows of this and later epochs, left by a resumed run, go."""
        rows: list[dict[str, str]] = [
            old for old in self.read() if int(old["epoch"]) < int(row["epoch"])
        ]
        rows.append({name: f"{value:.10g}" for name, value in row.items()})
        text = io.StringIO()
        table = csv.DictWriter(text, fieldnames=list(row), lineterminator="\n", restval="")
        table.writeheader()
        table.writerows([{name: old.get(name, "") for name in row} for old in rows])
        write_text(self.path, text.getvalue())
