"""The result of a validation as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from helper_functions.metrics.multilabel import Table
from helper_functions.runtime.text import printable, shorten

_LISTED = 10  # classes named before a list is shortened
_WIDEST = 60  # letters of a name


def _class_lines(classes: Sequence[str], table: Table) -> list[str]:
    """The per-class table, best AP first; the middle of a long list is left out."""
    names = [shorten(printable(name), _WIDEST) for name in classes]
    width = max(map(len, names))
    lines = [
        f"{names[k]:<{width}}  {table['support'][k]:6d} {table['AP'][k]:6.1f}  "
        f"{table['precision'][k]:9.1f}  {table['recall'][k]:6.1f} {table['F1'][k]:6.1f}"
        for k in np.argsort(-table["AP"], kind="stable")
    ]
    if len(lines) > 2 * _LISTED:
        hidden = f"... {len(lines) - 2 * _LISTED} more classes in per_class.csv ..."
        lines = [*lines[:_LISTED], hidden, *lines[-_LISTED:]]
    return ["", f"{'class':<{width}}  images     AP  precision  recall     F1", *lines]


def _region_lines(metrics: dict[str, Any]) -> list[str]:
    """The metrics of the regions; nothing where no masks were given."""
    if "region_grid" not in metrics:
        return []
    rows, columns = metrics["region_grid"]
    lines = ["", f"{f'in {rows} x {columns} cells':<23}  purity  accuracy    mIoU"]
    for name, suffix in (("classes of the regions", ""), ("the image's top class", "_majority")):
        lines.append(
            f"{name:<23}  {metrics[f'region_purity{suffix}']:6.2f}  "
            f"{metrics[f'region_accuracy{suffix}']:8.2f}  {metrics[f'region_miou{suffix}']:6.2f}"
        )
    return [*lines, f"{'a random class':<23}  {metrics['region_purity_chance']:6.2f}"]


def _absent_lines(metrics: dict[str, Any], table: Table) -> list[str]:
    """The classes without an image."""
    support = zip(metrics["classes"], table["support"], strict=True)
    absent = [shorten(printable(name), _WIDEST) for name, count in support if count == 0]
    if not absent:
        return []
    named = ", ".join(absent[:_LISTED]) + (", ..." if len(absent) > _LISTED else "")
    return [
        "",
        f"{len(absent)} classes have no image in this split and count as AP 0: {named}. "
        f"Over the others the mAP is {metrics['mAP_present']:.2f}.",
    ]


def summary(metrics: dict[str, Any], table: Table) -> str:
    """Return the content of ``metrics.json`` and ``per_class.csv`` for a person to read."""
    threshold = metrics["threshold"]
    at = "own thresholds" if isinstance(threshold, list) else f"threshold {threshold:g}"
    text = (
        "{num_images} images, {count} classes\n\n"
        "mAP                 {mAP:6.2f}\n"
        "  by chance         {chance_mAP:6.2f}\n"
        "  class frequencies {frequency_mAP:6.2f}\n\n"
        "{heading:<20}precision  recall     F1\n"
        "mean over classes      {P_C:6.2f}  {R_C:6.2f} {F_C:6.2f}   (CF1 {CF1:.2f})\n"
        "over all decisions     {P_O:6.2f}  {R_O:6.2f} {F_O:6.2f}\n"
        "mean over images                       {samples_F1:6.2f}\n"
        "classes by frequency                   {weighted_F1:6.2f}\n\n"
        "by rank: top-1 {top1:.2f}, precision at 5 {precision_at_5:.2f}, "
        "recall at 5 {recall_at_5:.2f}, MAP at 20 {MAP_at_20:.2f}"
    )
    classes = metrics["classes"]
    lines = [text.format(count=len(classes), heading=f"at {at}", **metrics)]
    if metrics["nothing_predicted"]:
        lines.append("No score exceeds the threshold: precision, recall and F1 are set to 0.")
    lines += [*_absent_lines(metrics, table), *_region_lines(metrics)]
    return "\n".join([*lines, *_class_lines(classes, table)])
