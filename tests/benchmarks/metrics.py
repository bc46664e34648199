"""How fast scores become metrics, beside the released way. Prints ratios, time and memory.

    python tests/benchmarks/metrics.py            # ratios
    python tests/benchmarks/metrics.py --large    # and 88,987 surveys of 5,016 species, some 5 GiB

The released way, written again: classes one by one, each column sorted where it lies; in validation
one image a batch, whose metrics are taken at once, and those of the whole set at the end. Both
ways run in one process, in turns. What a network takes is left out.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from helper_functions.metrics.multilabel import (  # noqa: E402
    baselines,
    mean_average_precision,
    multilabel_metrics,
)
from helper_functions.results.tables import (  # noqa: E402
    write_metrics,
    write_prediction_parts,
    write_table,
)

ROUNDS = 3
Array = npt.NDArray[Any]


def sample(num_images: int, num_classes: int, share: float) -> tuple[Array, Array]:
    """Targets uint8 with a share of positives, and float32 scores that know a little of them."""
    rng = np.random.default_rng(0)
    targets = np.empty((num_images, num_classes), np.uint8)
    scores = np.empty((num_images, num_classes), np.float32)
    for row in range(num_images):
        targets[row] = rng.random(num_classes, np.float32) < share
        logits = rng.standard_normal(num_classes, np.float32) - 3 + targets[row]
        scores[row] = 1 / (1 + np.exp(-logits))
    return targets, scores


def plain_average_precision(scores: Array, targets: Array) -> float:
    """Average precision of a column, every rank worked out."""
    order = scores.argsort()[::-1]
    right = targets[order] == 1
    found = np.cumsum(right)
    positives = found[-1]
    found[~right] = 0
    return float((found / np.cumsum(np.ones(len(order)))).sum() / (positives + 1e-8))


def plain_map(targets: Array, scores: Array) -> float:
    """Mean over the classes, one by one, in percent."""
    columns = range(targets.shape[1])
    return 100 * float(
        np.mean([plain_average_precision(scores[:, k], targets[:, k]) for k in columns])
    )


def plain_rates(targets: Array, scores: Array) -> list[float]:
    """Precision, recall and F1, by class and overall, class by class."""
    per_class = []
    total = np.zeros(3)
    for k in range(targets.shape[1]):
        decisions = scores[:, k] > 0.5
        right = (decisions & (targets[:, k] == 1)).sum()
        counts = np.array([right, decisions.sum(), targets[:, k].sum()])
        total += counts
        per_class.append(_rates(*counts))
    return [*np.mean(per_class, axis=0), *_rates(*total)]


def _rates(right: float, predicted: float, support: float) -> tuple[float, float, float]:
    return (
        right / predicted if predicted else 0.0,
        right / support if support else 0.0,
        2 * right / (predicted + support) if predicted + support else 0.0,
    )


def plain_validation(targets: Array, scores: Array) -> None:
    """An image at a time, with the metrics of each batch, and those of the set."""
    seen_targets, seen_scores = [], []
    for row in range(len(targets)):
        batch = slice(row, row + 1)
        seen_targets.append(targets[batch])
        seen_scores.append(scores[batch])
        plain_map(targets[batch], scores[batch])
        plain_rates(targets[batch], scores[batch])
    plain_map(np.concatenate(seen_targets), np.concatenate(seen_scores))
    plain_rates(np.concatenate(seen_targets), np.concatenate(seen_scores))


def our_validation(targets: Array, scores: Array, folder: Path) -> None:
    """What ``val.py`` does with the scores of a set, files included (all but the HTML page)."""
    names = [f"image_{row}.jpg" for row in range(len(targets))]
    classes = [f"class {k}" for k in range(targets.shape[1])]
    metrics, per_class = multilabel_metrics(targets, scores)
    write_prediction_parts(folder / "predictions.csv", classes, [(names, scores)])
    write_table(folder / "per_class.csv", {"class": classes, **per_class})
    write_metrics(folder / "metrics.json", {**metrics, **baselines(targets)})


def seconds(function: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def compare(name: str, ours: Callable[[], object], plain: Callable[[], object]) -> None:
    """Print the median ratio of the times."""
    pairs = [(seconds(ours), seconds(plain)) for _ in range(ROUNDS)]
    ratio = statistics.median(theirs / own for own, theirs in pairs)
    own, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{name:44} {ratio:6.2f} x  ({own:.2f} s against {theirs:.2f} s)", flush=True)


def large() -> None:
    """Every figure of 88,987 surveys of 5,016 species."""
    targets, scores = sample(88_987, 5016, share=17 / 5016)
    started = time.perf_counter()
    metrics, _ = multilabel_metrics(targets, scores)
    reported = time.perf_counter()
    metrics.update(baselines(targets))
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"88,987 x 5,016: {done - started:.1f} s, of which {done - reported:.1f} s for the "
        f"baselines; peak memory {peak:.2f} GiB with the input; mAP {metrics['mAP']:.3f}"
    )


def main() -> None:
    """Compare, and on request measure the large set in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="measure 88,987 x 5,016 as well")
    parser.add_argument("--large-only", action="store_true", help="measure nothing else")
    args = parser.parse_args()
    if args.large_only:
        large()
        return
    targets, scores = sample(50_000, 290, share=0.02)
    difference = abs(plain_map(targets, scores) - mean_average_precision(targets, scores))
    print(f"mAP of 50,000 x 290: the two ways differ by {difference:.1e} percentage points")
    compare(
        "mAP of 50,000 x 290",
        lambda: mean_average_precision(targets, scores),
        lambda: plain_map(targets, scores),
    )
    targets, scores = targets[:5000], scores[:5000]
    with tempfile.TemporaryDirectory() as name:
        compare(
            "validation of 5,000 x 290 after the network",
            lambda: our_validation(targets, scores, Path(name)),
            lambda: plain_validation(targets, scores),
        )
    if args.large:  # in a fresh process, whose peak memory is its own
        subprocess.run([sys.executable, __file__, "--large-only"], check=True)


if __name__ == "__main__":
    main()
