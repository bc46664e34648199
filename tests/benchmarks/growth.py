"""How the cost of what follows the backbone grows: a table, and images/cost.png.

    python tests/benchmarks/growth.py

Forward and backward pass of VDSM alone, and of VDSM, head and losses together, on random feature
maps: with the images in a batch, the cells of the grid and the classes. What does not vary is 16
images, 4 x 4 cells and 15 classes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from passes import MIN_SUPERPIXELS, ROOT, feature_maps, head, head_model, random_targets, vdsm
from timing import hardware, interleaved

from helper_functions.data.workers import keep_freed_memory
from helper_functions.results.style import INK, MUTED, PALETTE, PAPER, tint, write_png

CHANNELS = 2432
BATCH, SIDE, CLASSES = 16, 4, 15
SWEEPS = {
    "images in a batch": [(batch, SIDE, CLASSES) for batch in (1, 2, 4, 8, 16, 32, 64)],
    "cells of the grid": [(BATCH, side, CLASSES) for side in (2, 4, 7, 10, 14)],
    "classes": [(BATCH, SIDE, classes) for classes in (15, 290, 5016)],
}
LINES = {"VDSM": ("blue", "o"), "VDSM, head and losses": ("vermilion", "s")}


class Point(NamedTuple):
    """One measurement: what varied, and the median milliseconds of each line."""

    value: int
    milliseconds: dict[str, float]


def measure(batch: int, side: int, classes: int, rounds: int) -> dict[str, float]:
    """Median milliseconds of forward and backward pass."""
    torch.manual_seed(0)
    features = feature_maps(batch, CHANNELS, side)
    merged_to = min(MIN_SUPERPIXELS, side * side // 2)
    model = head_model(CHANNELS, classes, merged_to)
    passes = {
        "VDSM": vdsm(features, "released", merged_to),
        "VDSM, head and losses": head(features, model, random_targets(batch, classes)),
    }
    seconds = interleaved(passes, rounds, before=1)
    return {name: 1e3 * statistics.median(times) for name, times in seconds.items()}


def _label(value: float, _position: int) -> str:
    """Format a tick: 5016, 10, 0.5."""
    return f"{value:g}"


def draw(sweeps: dict[str, Sequence[Point]], output: Path) -> None:
    """Write the three panels; both axes are logarithmic, so a slope of one is linear growth."""
    figure = Figure(figsize=(11, 4.2), dpi=100, facecolor=PAPER, layout="constrained")
    panels = figure.subplots(1, len(sweeps), sharey=True)
    for axes, (title, points) in zip(panels, sweeps.items(), strict=True):
        values = [point.value for point in points]
        for name, (color, marker) in LINES.items():
            times = [point.milliseconds[name] for point in points]
            axes.plot(values, times, color=PALETTE[color], marker=marker, linewidth=2, label=name)
        first = min(points[0].milliseconds.values())
        steepest = [first * value / values[0] for value in values]
        axes.plot(values, steepest, color=MUTED, linewidth=1, linestyle="--", label="linear growth")
        axes.set(xscale="log", yscale="log")
        axes.set_xlabel(title, fontsize=11, color=INK)
        axes.xaxis.set(
            major_locator=FixedLocator(values),
            minor_locator=NullLocator(),
            major_formatter=FuncFormatter(_label),
        )
        axes.yaxis.set_major_formatter(FuncFormatter(_label))
        axes.grid(color=tint(INK, 0.12), linewidth=0.8)
        axes.spines[:].set_color(tint(INK, 0.3))
        axes.tick_params(colors=MUTED)
    panels[0].set_ylabel("milliseconds, forward and backward", fontsize=11, color=INK)
    panels[0].legend(frameon=False, labelcolor=INK, fontsize=9.5, loc="upper left")
    figure.suptitle(
        f"What follows the backbone in training: {BATCH} images, {SIDE} x {SIDE} cells and "
        f"{CLASSES} classes where they do not vary, {CHANNELS} channels",
        fontsize=11.5,
        color=INK,
    )
    write_png(figure, output, colors=64)


def main() -> None:
    """Measure, print the table and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=ROOT / "images" / "cost.png")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print(hardware(), "\n")
    print("| varies | images | cells | classes | VDSM, ms | VDSM, head and losses, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    sweeps: dict[str, Sequence[Point]] = {}
    for index, (title, settings) in enumerate(SWEEPS.items()):
        points = []
        for setting in settings:
            batch, side, classes = setting
            times = measure(*setting, options.rounds)
            points.append(Point((batch, side * side, classes)[index], times))
            both = " | ".join(f"{times[name]:.1f}" for name in LINES)
            print(f"| {title} | {batch} | {side} x {side} | {classes} | {both} |", flush=True)
        sweeps[title] = points
    draw(sweeps, options.output)


if __name__ == "__main__":
    main()
