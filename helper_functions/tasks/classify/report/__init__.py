"""What the report says of a validation of multi-label classification."""

from __future__ import annotations

from typing import Any

from helper_functions.results.report import KeyFigure, Section
from helper_functions.tasks.classify.report import charts, confusions, tables
from helper_functions.tasks.classify.report.findings import findings
from helper_functions.tasks.classify.report.galleries import galleries
from helper_functions.tasks.classify.report.results import Results

__all__ = ["Results", "key_figures", "sections"]


def key_figures(metrics: dict[str, Any]) -> list[KeyFigure]:
    """Choose the numbers at the head of the page from those of ``metrics.json``."""
    comparisons = [
        ("this model", metrics["mAP"]),
        ("by chance", metrics["chance_mAP"]),
        ("class frequencies", metrics["frequency_mAP"]),
    ]
    threshold = metrics["threshold"]
    shown = "various" if isinstance(threshold, list) else f"{threshold:g}"
    return [
        KeyFigure(f"{metrics['mAP']:.2f}", "mAP", "mean average precision, %", comparisons),
        KeyFigure(f"{metrics['F_C']:.2f}", "F_C", "mean F1 over classes"),
        KeyFigure(f"{metrics['CF1']:.2f}", "CF1", "F1 of mean precision and mean recall"),
        KeyFigure(f"{metrics['F_O']:.2f}", "F_O", "F1 over all decisions"),
        KeyFigure(f"{metrics['num_images']:,}", "images", "in this split"),
        KeyFigure(shown, "threshold", "a score above it is predicted"),
    ]


def sections(results: Results, shown: int = 12) -> list[Section]:
    """Describe a validation.

    Args:
        results: The validation.
        shown: Number of images, half of them the best and half the worst (if odd, one more of the
            best); fewer if fewer images have a label.

    Raises:
        ImageError: If an image to be shown cannot be read.
    """
    pairs = confusions.count_pairs(results)
    return [
        findings(results, pairs[0]),
        tables.class_table(results),
        *tables.extremes_table(results),
        charts.curves(results),
        *confusions.pair_sections(results, *pairs),
        *tables.regions_table(results.metrics),
        *galleries(results, shown),
    ]
