"""The curves of a run of any task: validation score, losses and learning rate by epoch."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from helper_functions.results.style import INK, MUTED, PALETTE, new_figure, style_axes, write_png
from helper_functions.results.training_log import TrainingLog
from helper_functions.runtime.errors import UserError

FloatArray = npt.NDArray[np.float64]

_LOSS_STYLES = (("orange", "-"), ("vermilion", "--"), ("purple", ":"), ("sky", "-."))


def _parse(text: str | None, column: str, line: int, log: Path) -> float:
    """Parse a cell of a log; what is not finite becomes NaN."""
    try:
        value = float(text or "")  # a torn row has None in its last columns
    except ValueError as error:
        fault = f"has {text!r} as {column}" if text else f"lacks a value for {column}"
        raise UserError(f"The log {log} {fault} in line {line}, where a number is due.") from error
    return value if math.isfinite(value) else math.nan


def read_curves(log: Path, columns: Sequence[str]) -> dict[str, FloatArray]:
    """Read columns of a run's ``log.csv``, ``epoch`` among them.

    Returns:
        An array for each column, one entry an epoch; what is not finite is NaN.

    Raises:
        UserError: If the log is missing, empty or not a log.
    """
    if not log.is_file():
        raise UserError(f"The log {log} does not exist; train.py writes one in its output folder.")
    try:
        rows = TrainingLog(log).read()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The log {log} cannot be read as CSV: {error}.") from error
    if not rows:
        raise UserError(f"The log {log} holds no epoch yet; wait until train.py has finished one.")
    if missing := [column for column in columns if column not in rows[0]]:
        raise UserError(f"The log {log} lacks the column {missing[0]}; give a log.csv of train.py.")
    curves = {
        name: np.array([_parse(row[name], name, line, log) for line, row in enumerate(rows, 2)])
        for name in columns
    }
    if np.isnan(curves["epoch"]).any():
        raise UserError(f"The log {log} has an epoch without a number; give a log.csv of train.py.")
    return curves


def _draw(
    axes: Any, epochs: FloatArray, curves: Sequence[FloatArray], *styles: tuple[str, str]
) -> None:
    """Draw lines from 0, unless a value is negative, with dots as long as these are few."""
    marker = "o" if len(epochs) <= 40 else ""
    for values, (color, line) in zip(curves, itertools.cycle(styles), strict=False):
        style = {"linewidth": 2, "linestyle": line, "marker": marker, "markersize": 4}
        axes.plot(epochs, values, color=PALETTE[color], **style)
    values = np.concatenate(curves)
    if not (values < 0).any():
        axes.set_ylim(bottom=0, top=1.08 * np.nanmax(values, initial=1e-9))


def _mark_scores(axes: Any, epochs: FloatArray, scores: FloatArray, chance: float | None) -> None:
    """Ring the best epoch, the first of equals, dash the score of guessing, and name both."""
    marks = []
    if not np.isnan(scores).all():
        best = int(np.nanargmax(scores))
        ring = {"markersize": 10, "markeredgewidth": 2, "markerfacecolor": "none"}
        color = PALETTE["vermilion"]
        axes.plot(epochs[best], scores[best], "o", markeredgecolor=color, clip_on=False, **ring)
        marks.append(f"ringed: best, {scores[best]:.4g} in epoch {epochs[best]:.0f}")
    if chance is not None:
        axes.axhline(chance, color=MUTED, linewidth=1.2, linestyle="--")
        axes.set_ylim(top=max(axes.get_ylim()[1], 1.08 * chance))
        marks.append(f"dashed: chance, {chance:.4g}")
    axes.set_title("; ".join(marks), loc="right", fontsize=10, color=MUTED)


def draw_curves(
    log: Path,
    output: Path,
    monitor: str,
    losses: Sequence[str] = ("loss",),
    chance: float | None = None,
) -> None:
    """Write the curves of a run: validation score, losses and learning rate by epoch.

    Args:
        log: The ``log.csv`` of a run, from one epoch on.
        output: The PNG file.
        monitor: The validation measure that picks the best model, as in the column
            ``val_<monitor>``; higher is better.
        losses: Columns of the training loss and its terms.
        chance: The score of guessing, drawn as a base line.

    Raises:
        UserError: If the log is missing, empty, not a log, or without one of these columns.
    """
    score_name = f"val_{monitor}"
    curves = read_curves(log, ["epoch", "lr", score_name, *losses])
    epochs, scores = curves["epoch"], curves[score_name]
    figure = new_figure(9, 6.6, pad=0.12)
    score, loss, rate = figure.subplots(3, 1, sharex=True, height_ratios=[4, 4, 2])

    # The validation score
    style_axes(score, y=f"validation {monitor}")
    score.set_title("Training curves", loc="left", fontsize=12, fontweight="bold", color=INK)
    _draw(score, epochs, [scores], ("blue", "-"))
    _mark_scores(score, epochs, scores, chance)

    # The training loss and its terms
    style_axes(loss, y="training loss")
    _draw(loss, epochs, [curves[name] for name in losses], *_LOSS_STYLES)
    loss.legend([name.replace("_", " ") for name in losses], frameon=False, labelcolor=INK)

    # The learning rate
    style_axes(rate, "epoch", "learning\nrate")
    _draw(rate, epochs, [curves["lr"]], ("green", "-"))
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
    rate.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    rate.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
    figure.align_ylabels()
    write_png(figure, output)
