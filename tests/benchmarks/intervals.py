"""Coverage and width of the intervals of counts, over random splits of held-out images.

    python tests/benchmarks/intervals.py runs/count/val/counts.csv --coverage 0.9

The file is that of a validation on images that neither trained the model nor chose its checkpoint.
Each split calibrates on one half at random and asks how many true counts of the other half lie
within their intervals.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from timing import hardware

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from helper_functions.metrics.counting import conformal_quantile, interval


def main() -> None:
    """Print mean, lowest and highest coverage over the splits, and the mean width."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("counts", type=Path, help="counts.csv with true counts")
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--splits", type=int, default=20)
    options = parser.parse_args()
    with options.counts.open(newline="") as file:
        rows = [(int(row["count"]), int(row["true"])) for row in csv.DictReader(file)]
    predicted, true = np.array(rows).T
    rng = np.random.default_rng(0)
    shares, widths = [], []
    for _ in range(options.splits):
        known, held_out = np.array_split(rng.permutation(len(rows)), 2)
        quantile = conformal_quantile(true[known], predicted[known], options.coverage)
        low, high = interval(predicted[held_out], quantile).T
        shares.append(((low <= true[held_out]) & (true[held_out] <= high)).mean())
        widths.append((high - low).mean())
    print(hardware())
    print(
        f"{len(rows)} images, {options.splits} splits in halves, asked {options.coverage:g}: "
        f"covered {np.mean(shares):.3f} on average ({min(shares):.3f} to {max(shares):.3f}); "
        f"intervals {np.mean(widths):.1f} wide, counts {true.mean():.1f} on average"
    )


if __name__ == "__main__":
    main()
