"""A one-hot table beside its images."""

from __future__ import annotations

from pathlib import Path

from raw_archives.images import Truth, save

CLASSES = ("crab", "anemone", "sea star")
ROWS = ("100", "010", "001", "110", "011", "101", "000", "111", "100", "010", "001", "110")


def write(folder: Path) -> Truth:
    """No split is given."""
    lines = [",".join(("filename", *CLASSES))]
    truth: Truth = {}
    for number, row in enumerate(ROWS):
        name = f"dive{number % 2}/{number:03d}.png"
        save(folder / name, number)
        lines.append(",".join((name, *row)))
        truth[name] = [each for each, cell in zip(CLASSES, row, strict=True) if cell == "1"], None
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return truth
