"""The numeric charts: precision against recall, calibration, histograms of scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from helper_functions.results.report.canvas import dress, new_figure, png_of, svg_of
from helper_functions.results.report.data import Results
from helper_functions.results.report.markup import Chart, escape
from helper_functions.results.style import INK, MUTED, PALETTE

FloatArray = npt.NDArray[np.float64]

_POINTS = 200  # of a curve at most
_FINE = 4000  # bins of scores behind the curve of all labels
_SHOWN = 3  # classes at each end
_BINS = 25  # of a histogram
# Cold and solid-ish for the best, warm for the weakest; dashes tell them apart without colour.
_BEST = (("blue", "-"), ("green", (0, (6, 2))), ("sky", (0, (1, 1.5))))
_WORST = (("vermilion", "-"), ("orange", (0, (6, 2))), ("purple", (0, (1, 1.5))))


def precision_recall_curve(
    positives: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]
) -> tuple[FloatArray, FloatArray]:
    """Recall and precision (0 to 1) at every score of a positive, the highest first."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    found = np.cumsum(positives[order])[last]
    rises = np.diff(found, prepend=0) > 0
    return found[rises] / max(found[-1], 1), (found / (last + 1))[rises]


def _thinned(recall: FloatArray, precision: FloatArray) -> tuple[FloatArray, FloatArray]:
    """At most about ``_POINTS`` points of a curve, its ends among them."""
    kept = np.unique(np.linspace(0, len(recall) - 1, _POINTS).astype(int))
    return recall[kept], precision[kept]


def all_labels_curve(results: Results) -> tuple[FloatArray, FloatArray]:
    """Recall and precision of all labels together, at the borders of fine bins of scores."""
    counts = np.zeros((2, _FINE), np.int64)
    for target, score in zip(results.targets, results.scores, strict=True):
        place = np.minimum((score * _FINE).astype(np.int64), _FINE - 1)
        for value in (0, 1):
            counts[value] += np.bincount(place[target == value], minlength=_FINE)
    false, true = counts[:, ::-1].cumsum(axis=1)
    some = true + false > 0
    return true[some] / max(true[-1], 1), true[some] / (true + false)[some]


def _key_line(colour: str, dashes: object) -> str:
    """A piece of line as it is drawn in the chart, for the key below."""
    pattern = {"-": "", (0, (6, 2)): "9 3", (0, (1, 1.5)): "2 3"}[dashes]  # type: ignore[index]
    return (
        '<svg class="line" viewBox="0 0 28 8" aria-hidden="true">'
        f'<path d="M0 4H28" stroke="var(--{colour})" stroke-width="3" stroke-dasharray="{pattern}" '
        "/></svg>"
    )


def curves_chart(results: Results) -> tuple[Figure, str]:
    """Precision against recall: all labels, the best and the weakest classes."""
    figure = new_figure()
    axes = figure.subplots()
    dress(axes, "recall", "precision")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.03))
    axes.plot(*_thinned(*all_labels_curve(results)), color=INK, linewidth=2.4)
    present = [k for k in results.best_first if results.table["support"][k]]
    best = present[: min(_SHOWN, (len(present) + 1) // 2)]
    worst = present[len(best) :][-_SHOWN:]
    keys = [f"<li>{_key_line('ink', '-')} all labels together</li>"]
    for members, styles, word in ((best, _BEST, "best"), (worst, _WORST, "weakest")):
        for k, (colour, dashes) in zip(members, styles, strict=False):
            positives = results.targets[:, k] == 1
            curve = precision_recall_curve(positives, np.ascontiguousarray(results.scores[:, k]))
            colour_code = PALETTE[colour]
            axes.plot(*_thinned(*curve), color=colour_code, linestyle=dashes, linewidth=1.8)
            name = escape(results.classes[k])
            ap = f"AP&nbsp;{results.table['AP'][k]:.1f}"
            keys.append(f"<li>{_key_line(colour, dashes)} {name} ({word}, {ap})</li>")
    return figure, f'<ul class="lines">{"".join(keys)}</ul>'


def calibration_chart(results: Results) -> tuple[Figure, str]:
    """Share of true labels against score, and how many labels have such a score."""
    found = results.reliability
    some = found.counts > 0
    bins = len(found.counts)
    figure = new_figure()
    axes, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    dress(axes, "", "share that is true")
    axes.set(xlim=(0, 1), ylim=(0, 1.03))
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, linestyle="--")
    axes.plot(
        found.scores[some],
        found.frequencies[some],
        color=PALETTE["blue"],
        linewidth=2,
        marker="o",
        markersize=4.5,
    )
    dress(below, "score", "labels")
    left = np.arange(bins) / bins
    below.bar(left, found.counts, 0.9 / bins, align="edge", color=PALETTE["blue"])
    below.set_yscale("log")
    below.yaxis.set_minor_formatter(NullFormatter())
    figure.align_ylabels()
    note = (
        f'<p class="note">Expected calibration error (ECE): {100 * found.error:.2f} % over '
        f"{found.counts.sum():,} labels in {bins} bins. On the dashed line scores are "
        "probabilities; below it they are too high.</p>"
    )
    return figure, note


def histogram_chart(results: Results) -> tuple[Figure, str]:
    """How scores of true and of other labels are spread."""
    counts = np.zeros((2, _BINS), np.int64)
    for target, score in zip(results.targets, results.scores, strict=True):
        place = np.minimum((score * _BINS).astype(np.int64), _BINS - 1)
        for value in (0, 1):
            counts[value] += np.bincount(place[target == value], minlength=_BINS)
    figure = new_figure()
    axes = figure.subplots()
    dress(axes, "score", "labels")
    edges = np.linspace(0, 1, _BINS + 1)
    shares = ((0, "vermilion", "-"), (1, "blue", (0, (6, 2))))
    for value, colour, dashes in shares:
        axes.stairs(
            np.maximum(counts[value], 0.5),
            edges,
            baseline=0.5,
            color=PALETTE[colour],
            linewidth=2,
            linestyle=dashes,
        )
    axes.set_yscale("log")
    axes.set(xlim=(0, 1), ylim=(0.5, max(2 * counts.max(), 2)))
    threshold = results.metrics["threshold"]
    words = ""
    if not isinstance(threshold, list):
        axes.axvline(threshold, color=MUTED, linewidth=1.2, linestyle="--")
        words = f"<li>{_key_line('muted', (0, (6, 2)))} the threshold</li>"
    keys = (
        f"<li>{_key_line('vermilion', '-')} labels that are not true</li>"
        f"<li>{_key_line('blue', (0, (6, 2)))} true labels</li>{words}"
    )
    return figure, f'<ul class="lines">{keys}</ul>'


CHARTS: tuple[tuple[str, str, Callable[[Results], tuple[Figure, str]]], ...] = (
    ("precision_recall", "Precision and recall", curves_chart),
    ("calibration", "Calibration", calibration_chart),
    ("scores", "Scores", histogram_chart),
)


def draw_charts(results: Results, folder: Path) -> list[Chart]:
    """Draw every numeric chart for the page, and as PNG into a folder."""
    charts = []
    for name, title, draw in CHARTS:
        figure, note = draw(results)
        charts.append(Chart(svg_of(figure, name, title), title, note))
        png_of(figure, folder / f"{name}.png")
    return charts
