"""The table of classes: rows in the page, and data for the script that sorts and searches them.

All classes are in the data. Rows beyond ``STATIC_ROWS`` are made by the script as they are scrolled
to, so that thousands of classes do not slow the page down.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from helper_functions.results.report.charts import precision_recall_curve
from helper_functions.results.report.data import Results
from helper_functions.results.report.markup import bar, escape

STATIC_ROWS = 500
_ENDS = 10  # classes listed at each end, once there are more than fit on a screen
_MANY = 40
_BINS = 10  # of a class's histogram
_COLUMNS = (
    ("class", "class", "text"),
    ("images", "support", "number"),
    ("AP", "AP", "number"),
    ("preci&shy;sion", "precision", "number"),
    ("recall", "recall", "number"),
    ("F1", "F1", "number"),
    ("best thres&shy;hold", "threshold", "number"),
)


def _threshold_text(threshold: float) -> str:
    return "&ndash;" if math.isnan(threshold) else f"{threshold:.2f}"


def _class_row(results: Results, k: int) -> str:
    """One line of the table."""
    row = {key: column[k] for key, column in results.table.items()}
    rates = "".join(f"<td>{row[key]:.1f}</td>" for key in ("precision", "recall", "F1"))
    return (
        f'<tr><th scope="row">{escape(results.classes[k])}</th><td>{row["support"]:,}</td>'
        f'<td class="ap"><div><span>{row["AP"]:.1f}</span>{bar(row["AP"])}</div></td>{rates}'
        f"<td>{_threshold_text(results.best_thresholds[k])}</td></tr>"
    )


def _note(results: Results) -> str:
    """How to read the table, and what in it has no value."""
    metrics = results.metrics
    sentences = [
        "In percent, best AP (average precision) first. The best threshold is that of the highest "
        "F1 on these pictures."
    ]
    if metrics["absent_classes"]:
        absent = f"Classes without an image in this split: {metrics['absent_classes']}"
        sentences.append(f"{absent}; they count as AP&nbsp;0.")
    if not results.table["predicted"].all():
        sentences.append("Precision and F1 of a class that is never predicted are set to 0.")
    return f'<p class="note">{" ".join(sentences)}</p>'


def _ends(results: Results) -> str:
    """The best and the weakest classes by name, where the table is long."""
    if len(results.classes) <= _MANY:
        return ""
    present = [k for k in results.best_first if results.table["support"][k]]
    lists = []
    for title, chosen in (("Best", present[:_ENDS]), ("Weakest", present[::-1][:_ENDS])):
        items = "".join(
            f"<li>{escape(results.classes[k])} <span>{results.table['AP'][k]:.1f}</span></li>"
            for k in chosen
        )
        lists.append(f'<section><h3>{title} by AP</h3><ol class="ends">{items}</ol></section>')
    return f'<div class="charts">{"".join(lists)}</div>'


def _curve(results: Results, k: int) -> list[int]:
    """Precision in percent at recalls of 0, 10, ... 100 %, each the best from there on."""
    positives = results.targets[:, k] == 1
    if not positives.any():
        return []
    recall, precision = precision_recall_curve(
        positives, np.ascontiguousarray(results.scores[:, k])
    )
    best_from = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, np.arange(11) / 10 - 1e-12)
    percent = 100 * best_from[np.minimum(at, len(recall) - 1)]
    points: list[int] = np.rint(percent).astype(int).tolist()
    return points


def _histogram(results: Results, k: int) -> list[list[int]]:
    """Labels by score in ten bins: those that are not true, and those that are."""
    place = np.minimum((results.scores[:, k] * _BINS).astype(np.int64), _BINS - 1)
    true = results.targets[:, k] == 1
    return [np.bincount(place[chosen], minlength=_BINS).tolist() for chosen in (~true, true)]


def class_data(results: Results) -> str:
    """All classes as JSON, best AP first, for the page's script."""

    def entry(k: int) -> list[Any]:
        table, threshold = results.table, results.best_thresholds[k]
        return [
            results.classes[k].encode(errors="replace").decode(),
            int(table["support"][k]),
            *(round(float(table[key][k]), 1) for key in ("AP", "precision", "recall", "F1")),
            None if math.isnan(threshold) else round(threshold, 3),
            _curve(results, k),
            _histogram(results, k),
        ]

    text = json.dumps([entry(k) for k in results.best_first], separators=(",", ":"))
    # Within a script element only these could end it.
    return text.replace("<", "\\u003c").replace("&", "\\u0026")


def class_table(results: Results) -> str:
    """All classes, best AP first."""
    header = "".join(
        f'<th scope="col" class="{key}" data-kind="{kind}">{title}</th>'
        for title, key, kind in _COLUMNS
    )
    rows = [_class_row(results, k) for k in results.best_first[:STATIC_ROWS]]
    hidden = len(results.classes) - len(rows)
    box = "scroll box" if len(results.classes) > _MANY else "scroll"
    rest = f"<noscript><p>{hidden:,} more classes are in per_class.csv.</p></noscript>"
    return "\n".join(
        [
            "<h2>Classes</h2>",
            _note(results),
            _ends(results),
            '<div id="tools" hidden><label>Search <input type="search" id="search"></label>'
            '<span id="count" role="status"></span></div>',
            f'<div class="{box}" id="box"><table id="classes">',
            f"<thead><tr>{header}</tr></thead><tbody>",
            *rows,
            "</tbody></table></div>",
            rest if hidden else "",
            f'<script type="application/json" id="class-data">{class_data(results)}</script>',
        ]
    )
