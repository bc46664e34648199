"""The numeric charts: precision against recall, calibration, histograms of scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from sklearn.metrics import precision_recall_curve

from helper_functions.results.report import Chart, Charts
from helper_functions.results.style import INK, MUTED, PALETTE, fold, new_figure, style_axes
from helper_functions.tasks.classify.report.results import Results

_DPI = 180
_WIDTH, _HEIGHT = 4.6, 3.6  # inches
_LINE = 0.17  # height of a line of a key, inches
_LINE_LENGTH = 48  # letters of a line of a name, of which a key shows two
_FINE = 4000  # bins of scores behind the curve of all labels
_SHOWN = 3  # classes at each end
_BINS = 25  # of a histogram
# Cold for the best, warm for the weakest; dashes tell them apart without color.
_BEST = (("blue", "-"), ("green", (0, (6, 2))), ("sky", (0, (1, 1.5))))
_WORST = (("vermilion", "-"), ("orange", (0, (6, 2))), ("purple", (0, (1, 1.5))))


def _add_key(figure: Figure, lines: list[tuple[Any, str]]) -> None:
    """Name the lines of a chart below it; the figure grows by the height of their names."""
    names = [name for _, name in lines]
    rows = sum(name.count("\n") + 1 for name in names)
    figure.set_size_inches(_WIDTH, _HEIGHT + _LINE * rows)
    style = {"frameon": False, "fontsize": 9, "labelcolor": INK, "handlelength": 3}
    figure.legend([line for line, _ in lines], names, loc="outside lower left", **style)


def _precision_recall(results: Results) -> Chart:
    """All labels, the best and the weakest classes."""
    figure = new_figure(_WIDTH, _HEIGHT, _DPI)
    axes = figure.subplots()
    style_axes(axes, "recall", "precision")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.03))

    # All labels, at the borders of fine bins
    false, true = results.score_counts(_FINE)[:, ::-1].cumsum(axis=1)
    some = true + false > 0
    recall, precision = true[some] / max(true[-1], 1), true[some] / (true + false)[some]
    (line,) = axes.plot(recall, precision, color=INK, linewidth=2.4)
    lines: list[tuple[Any, str]] = [(line, "all labels together")]

    # Single classes
    present = results.present
    best = present[: min(_SHOWN, (len(present) + 1) // 2)]
    worst = present[len(best) :][-_SHOWN:]
    for members, styles, word in ((best, _BEST, "best"), (worst, _WORST, "weakest")):
        for k, (color, dashes) in zip(members, styles, strict=False):
            targets, scores = results.targets[:, k], results.scores[:, k]
            precision, recall, _ = precision_recall_curve(targets, scores, drop_intermediate=True)
            style: dict[str, Any] = {"color": PALETTE[color], "linestyle": dashes, "linewidth": 1.8}
            (line,) = axes.step(recall, precision, where="post", **style)
            ap = f"AP\N{NO-BREAK SPACE}{results.table['AP'][k]:.1f}"
            name = fold(f"{word}: {results.classes[k]}", _LINE_LENGTH, 2)
            lines.append((line, f"{name} ({ap})"))
    _add_key(figure, lines)
    return Chart("precision_recall", "Precision and recall", figure)


def _calibration(results: Results) -> Chart:
    """Share of true labels against score, and how many labels have such a score."""
    reliability = results.reliability
    some = reliability.counts > 0
    bins = len(reliability.counts)
    figure = new_figure(_WIDTH, _HEIGHT + 2 * _LINE, _DPI)
    axes, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    style_axes(axes, "", "share that is true")
    axes.set(xlim=(0, 1), ylim=(0, 1.03))
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, linestyle="--")
    style = {"color": PALETTE["blue"], "linewidth": 2, "marker": "o", "markersize": 4.5}
    axes.plot(reliability.scores[some], reliability.frequencies[some], **style)
    style_axes(below, "score", "labels")
    left = np.arange(bins) / bins
    below.bar(left, reliability.counts, 0.9 / bins, align="edge", color=PALETTE["blue"])
    below.set_yscale("log")
    below.yaxis.set_minor_formatter(NullFormatter())
    figure.align_ylabels()
    note = (
        f"Expected calibration error (ECE): {100 * reliability.error:.2f} % over "
        f"{reliability.counts.sum():,} labels in {bins} bins. On the dashed line scores are "
        "probabilities; below it they are too high."
    )
    return Chart("calibration", "Calibration", figure, note)


def _scores(results: Results) -> Chart:
    """How scores of true and of other labels are spread."""
    counts = results.score_counts(_BINS)
    figure = new_figure(_WIDTH, _HEIGHT, _DPI)
    axes = figure.subplots()
    style_axes(axes, "score", "labels")
    edges = np.linspace(0, 1, _BINS + 1)
    styles = (("labels that are not true", "vermilion", "-"), ("true labels", "blue", "--"))
    lines: list[tuple[Any, str]] = []
    for (name, color, dashes), heights in zip(styles, np.maximum(counts, 0.5), strict=True):
        style: dict[str, Any] = {"color": PALETTE[color], "linewidth": 2, "linestyle": dashes}
        lines.append((axes.stairs(heights, edges, baseline=0.5, **style), name))
    axes.set_yscale("log")
    axes.set(xlim=(0, 1), ylim=(0.5, max(2 * counts.max(), 2)))
    threshold = results.metrics["threshold"]
    if not isinstance(threshold, list):
        line = axes.axvline(threshold, color=MUTED, linewidth=1.2, linestyle="--")
        lines.append((line, "the threshold"))
    _add_key(figure, lines)
    return Chart("scores", "Scores", figure)


def curves(results: Results) -> Charts:
    """Draw every numeric chart."""
    return Charts("Curves", [draw(results) for draw in (_precision_recall, _calibration, _scores)])
