"""Coverage of the intervals of counts over random splits of held-out images, as Markdown.

    python tests/benchmarks/intervals.py runs/count/val/counts.csv --coverage 0.9

The file is that of a validation on images that neither trained the model nor chose its checkpoint.
Each split calibrates on one half at random and asks how many true counts of the other half lie
within their intervals.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import numpy as np
from timing import hardware

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from helper_functions.tasks.count.intervals import read_calibration


def coverage_of_split(
    rows: list[dict[str, str]], order: list[int], coverage: float
) -> tuple[float, float]:
    """Return the covered share of the second half, and the half width of its intervals."""
    half = len(rows) // 2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counts.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows[index] for index in order[:half])
        intervals = read_calibration(path, coverage)
    inside = []
    for index in order[half:]:
        low, high = intervals(int(rows[index]["count"]))
        inside.append(low <= int(rows[index]["true"]) <= high)
    return float(np.mean(inside)), intervals.quantile


def main() -> None:
    """Print mean, lowest and highest coverage over the splits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("counts", type=Path, help="counts.csv with true counts")
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--splits", type=int, default=20)
    options = parser.parse_args()
    with options.counts.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(0)
    results = [
        coverage_of_split(rows, rng.permutation(len(rows)).tolist(), options.coverage)
        for _ in range(options.splits)
    ]
    shares, widths = np.array(results).T
    print(hardware())
    print(
        f"{len(rows)} images, {options.splits} splits in halves, asked {options.coverage:g}: "
        f"covered {shares.mean():.3f} on average ({shares.min():.3f} to {shares.max():.3f}), "
        f"the count ± {widths.mean():.1f}"
    )


if __name__ == "__main__":
    main()
