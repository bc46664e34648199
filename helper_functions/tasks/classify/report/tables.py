"""The tables of classes and of regions."""

from __future__ import annotations

from typing import Any

import numpy as np

from helper_functions.results.report import Cell, Column, Sparkline, Table
from helper_functions.tasks.classify.report.results import Results

_BINS = 10  # of a class's histogram
_MANY = 40  # classes, before those at both ends are listed
_ENDS = 10
_RATES = ("precision", "recall", "F1")


def precision_by_recall(results: Results, k: int) -> list[float]:
    """Interpolate the precision (0 to 1) of a class at recalls of 0, 0.1, ... 1.

    Each is the best precision from there on; there is none for a class without an image.
    """
    true = results.targets[:, k] == 1
    ranks = np.flatnonzero(true[np.argsort(-results.scores[:, k], kind="stable")]) + 1
    if not len(ranks):
        return []
    precision = np.arange(1, len(ranks) + 1) / ranks
    best = np.maximum.accumulate(precision[::-1])[::-1]
    needed = -(-np.arange(11) * len(ranks) // 10)  # images found at each recall
    values: list[float] = best[np.maximum(needed - 1, 0)].tolist()
    return values


def score_histogram(results: Results, k: int) -> list[list[float]]:
    """Count images by a class's score, those with the class and the others; log scale, 0 to 1."""
    scores, true = results.scores[:, k], results.targets[:, k] == 1
    counts = np.array([np.histogram(scores[chosen], _BINS, (0, 1))[0] for chosen in (true, ~true)])
    heights: list[list[float]] = (np.log1p(counts) / np.log1p(max(counts.max(), 1))).tolist()
    return heights


def _row(results: Results, k: int) -> list[Cell]:
    table, curve = results.table, precision_by_recall(results, k)
    return [
        *(results.classes[k], int(table["support"][k])),
        *(float(table[name][k]) for name in ("AP", *_RATES)),
        results.best_thresholds[k],
        Sparkline([curve]) if curve else None,
        Sparkline(score_histogram(results, k)),
    ]


def class_table(results: Results) -> Table:
    """All classes, best AP first."""
    note = (
        "In percent, best AP (average precision) first. The best threshold is that of the highest "
        "F1 on these images. Scores from 0 to 1: solid, images with the class; dashed, the others "
        "(log scale)."
    )
    if absent := results.metrics["absent_classes"]:
        note += f" Classes without an image in this split: {absent}; they count as AP 0."
    if not results.table["predicted"].all():
        note += " Precision and F1 of a class that is never predicted are set to 0."
    columns = [
        *(Column("class"), Column("images", 0), Column("AP", 1, bar=True)),
        *(Column(name, 1) for name in _RATES),
        *(Column("best threshold", 2), Column("precision by recall"), Column("scores")),
    ]
    return Table("Classes", columns, [_row(results, k) for k in results.best_first], note)


def extremes_table(results: Results) -> list[Table]:
    """List the best and the weakest classes, where there are too many to see both at once."""
    if len(results.classes) <= _MANY:
        return []
    ap, present = results.table["AP"], results.present
    rows: list[list[Cell]] = [
        [results.classes[a], float(ap[a]), results.classes[b], float(ap[b])]
        for a, b in zip(present[:_ENDS], present[::-1][:_ENDS], strict=True)
    ]
    columns = [Column("best"), Column("AP", 1), Column("weakest"), Column("AP", 1)]
    return [Table("Best and weakest classes", columns, rows)]


def regions_table(metrics: dict[str, Any]) -> list[Table]:
    """Compare regions with masks; without masks there is no table."""
    if "region_grid" not in metrics:
        return []
    rows: list[list[Cell]] = [
        [name, *(metrics[f"region_{key}{suffix}"] for key in ("purity", "accuracy", "miou"))]
        for name, suffix in (("classes of the regions", ""), ("image's top class", "_majority"))
    ]
    rows.append(["a random class", metrics["region_purity_chance"], None, None])
    columns = [Column("every cell takes")]
    columns += [Column(name, 1) for name in ("purity", "accuracy", "mIoU")]
    height, width = metrics["region_grid"]
    note = (
        f"In percent, on {height} x {width} cells an image. Purity: the predicted class is shown "
        "in the cell; accuracy: it covers most of it; mIoU: of the pixels, mean over classes."
    )
    return [Table("Regions against masks", columns, rows, note)]
