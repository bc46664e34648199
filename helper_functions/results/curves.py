"""The curves of a run: validation mAP, training loss and learning rate by epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from helper_functions.results.style import INK, MUTED, PALETTE, PAPER, tint, write_png
from helper_functions.results.training_log import TrainingLog
from helper_functions.runtime.errors import UserError

FloatArray = npt.NDArray[np.float64]

CURVE_COLUMNS = ("epoch", "lr", "loss_per_label", "val_mAP")


def _number(row: Mapping[str, str | None], column: str, line: int, log: Path) -> float:
    """The number in a column of a log's row."""
    text = row[column]
    try:
        value = float(text or "")  # a torn row has None in its last columns
    except ValueError as error:
        found = f"has {text!r} as {column}" if text else f"lacks a value for {column}"
        raise UserError(f"The log {log} {found} in line {line}, where a number is due.") from error
    return value if math.isfinite(value) else math.nan


def read_curves(log: Path) -> dict[str, FloatArray]:
    """The columns of a run's log that the curves need.

    Args:
        log: The ``log.csv`` of a run.

    Returns:
        An array for each of ``CURVE_COLUMNS``, one entry an epoch; what is not finite is NaN.

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
    missing = [column for column in CURVE_COLUMNS if column not in rows[0]]
    if missing:
        raise UserError(f"The log {log} lacks the column {missing[0]}; give a log.csv of train.py.")
    curves = {
        column: np.array([_number(row, column, line, log) for line, row in enumerate(rows, 2)])
        for column in CURVE_COLUMNS
    }
    if np.isnan(curves["epoch"]).any():
        raise UserError(f"The log {log} has an epoch without a number; give a log.csv of train.py.")
    return curves


def _draw_curve(axes: Any, epochs: FloatArray, values: FloatArray, colour: str, name: str) -> None:
    """One panel: a line with a dot an epoch, as long as the dots are few."""
    dots = "o" if len(epochs) <= 40 else ""
    axes.plot(epochs, values, color=PALETTE[colour], linewidth=2, marker=dots, markersize=4)
    axes.set_ylabel(name, color=INK)
    axes.set_ylim(bottom=0, top=1.08 * np.nanmax(values, initial=1e-9))
    axes.grid(color=tint(INK, 0.12), linewidth=0.8)
    axes.tick_params(colors=MUTED, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(tint(INK, 0.3))


def _mark_scores(axes: Any, epochs: FloatArray, scores: FloatArray, chance: float | None) -> None:
    """Ring the best epoch, the first of equals, dash the score of guessing, and name both."""
    marks = []
    if not np.isnan(scores).all():
        best = int(np.nanargmax(scores))
        ring = {"markersize": 10, "markeredgewidth": 2, "markerfacecolor": "none"}
        colour = PALETTE["vermilion"]
        axes.plot(epochs[best], scores[best], "o", markeredgecolor=colour, clip_on=False, **ring)
        marks.append(f"ringed: best, {scores[best]:.1f} % in epoch {epochs[best]:.0f}")
    if chance is not None:
        axes.axhline(chance, color=MUTED, linewidth=1.2, linestyle="--")
        axes.set_ylim(top=max(axes.get_ylim()[1], 1.08 * chance))
        marks.append(f"dashed: chance, {chance:.1f} %")
    axes.set_title("; ".join(marks), loc="right", fontsize=10, color=MUTED)


def draw_curves(log: Path, output: Path, chance: float | None = None) -> None:
    """Write the curves of a run: validation mAP, training loss and learning rate by epoch.

    Args:
        log: The ``log.csv`` of a run, from one epoch on.
        output: The PNG file.
        chance: mAP of guessing in percent, drawn as a base line.

    Raises:
        UserError: If the log is missing, empty or not a log.
    """
    curves = read_curves(log)
    epochs = curves["epoch"]
    layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.1)
    figure = Figure(figsize=(9, 6.6), dpi=100, facecolor=PAPER, layout=layout)
    score, loss, rate = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [4, 4, 2]})
    score.set_title("Training curves", loc="left", fontsize=12, fontweight="bold", color=INK)
    _draw_curve(score, epochs, curves["val_mAP"], "blue", "validation mAP (%)")
    _mark_scores(score, epochs, curves["val_mAP"], chance)
    _draw_curve(loss, epochs, curves["loss_per_label"], "orange", "training ASL\n(nats per label)")
    _draw_curve(rate, epochs, curves["lr"], "green", "learning\nrate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
    rate.set_xlabel("epoch", color=INK)
    rate.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    rate.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
    figure.align_ylabels()
    write_png(figure, output)
