"""The table of classes."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import precision_recall_curve

from helper_functions.results.report import Column, Sparkline, Table
from helper_functions.results.report.sections import Cell
from helper_functions.tasks.classify.report.results import Results

_BINS = 10  # of a class's histogram
_RATES = ("precision", "recall", "F1")
_COLUMNS = (
    Column("class"),
    Column("images", 0),
    Column("AP", 1, bar=True),
    *(Column(name, 1) for name in _RATES),
    Column("best threshold", 2),
    Column("precision by recall"),
    Column("scores"),
)


def precision_by_recall(results: Results, k: int) -> list[float]:
    """Interpolate the precision (0 to 1) of a class at recalls of 0, 0.1, ... 1.

    Each is the best precision from there on; there is none for a class without an image.
    """
    if not results.table["support"][k]:
        return []
    precision, recall, _ = precision_recall_curve(results.targets[:, k], results.scores[:, k])
    # The last point, recall 0, belongs to no score.
    best = np.maximum.accumulate(precision[:-1])[::-1]
    first = np.searchsorted(recall[:-1][::-1], np.arange(11) / 10 - 1e-12)
    values: list[float] = best[np.minimum(first, len(best) - 1)].tolist()
    return values


def score_histogram(results: Results, k: int) -> list[list[float]]:
    """Count images by a class's score, those with the class and the others; log scale, 0 to 1."""
    scores, true = results.scores[:, k], results.targets[:, k] == 1
    counts = np.array([np.histogram(scores[chosen], _BINS, (0, 1))[0] for chosen in (true, ~true)])
    heights: list[list[float]] = (np.log1p(counts) / np.log1p(max(counts.max(), 1))).tolist()
    return heights


def _row(results: Results, k: int) -> list[Cell]:
    table = results.table
    curve = precision_by_recall(results, k)
    return [
        results.classes[k],
        int(table["support"][k]),
        float(table["AP"][k]),
        *(float(table[name][k]) for name in _RATES),
        results.best_thresholds[k],
        Sparkline([curve]) if curve else None,
        Sparkline(score_histogram(results, k)),
    ]


def _note(results: Results) -> str:
    """How to read the table, and what in it has no value."""
    metrics = results.metrics
    sentences = [
        "In percent, best AP (average precision) first. The best threshold is that of the highest "
        "F1 on these images. Scores from 0 to 1: solid, images with the class; dashed, the others "
        "(log scale)."
    ]
    if metrics["absent_classes"]:
        absent = f"Classes without an image in this split: {metrics['absent_classes']}"
        sentences.append(f"{absent}; they count as AP 0.")
    if not results.table["predicted"].all():
        sentences.append("Precision and F1 of a class that is never predicted are set to 0.")
    return " ".join(sentences)


def class_table(results: Results) -> Table:
    """All classes, best AP first."""
    rows = [_row(results, k) for k in results.best_first]
    return Table("Classes", _COLUMNS, rows, _note(results))
