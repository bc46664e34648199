"""Figures of a set: its classes and which ones come together; the objects of its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from helper_functions.check_data.labels import ClassCounts
from helper_functions.data.splits import Sample
from helper_functions.results.style import INK, PALETTE, fold, new_figure, style_axes, write_png

_BARS = 100  # classes with bars; of more, the most frequent and the rarest halves of it
_PAIRED = 40  # most frequent classes in the matrix
_LETTERS = 24  # of a name before it is cut
_BINS = 40  # of a histogram of counts
_COLORS = {"train": PALETTE["blue"], "val": PALETTE["orange"], "test": PALETTE["purple"]}


def cooccurrence(samples: Sequence[Sample], names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Count the images that show two of K classes together, (K, K); the diagonal: each class."""
    indices = {name: index for index, name in enumerate(names)}
    together = np.zeros((len(names), len(names)), np.int64)
    for sample in samples:
        shown = [indices[name] for name in sample.labels if name in indices]
        together[np.ix_(shown, shown)] += 1
    return together


def _label(set_ticks: Any, names: Sequence[str], **style: Any) -> None:
    """Name the ticks of an axis."""
    set_ticks(range(len(names)), [fold(name, _LETTERS) for name in names], fontsize=7, **style)


def _draw_bars(axes: Any, counts: ClassCounts) -> None:
    """Images of each class and split."""
    names = counts.by_frequency()
    title = f"Images of the {len(names):,} classes"
    if len(names) > _BARS:
        names = [*names[: _BARS // 2], *names[-_BARS // 2 :]]
        title += f": the {_BARS // 2} most frequent and the {_BARS // 2} rarest"
    splits = [split for split in _COLORS if counts.images[split]]
    height = 0.8 / len(splits)
    for index, split in enumerate(splits):
        rows = np.arange(len(names)) + (index - (len(splits) - 1) / 2) * height
        widths = [counts.by_split[split][name] for name in names]
        label = f"{split} (of {counts.images[split]:,})"
        axes.barh(rows, widths, height, color=_COLORS[split], label=label, log=True)
    axes.set(title=title, xlabel="images", ylim=(len(names) - 0.5, -0.5))
    axes.set_xlim(left=0.7)
    _label(axes.set_yticks, names)
    absent = {*counts.without("train"), *counts.without("val")}
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_color(PALETTE["vermilion"] if name in absent else INK)
    axes.legend(title="red names: none in train or val", fontsize=8, title_fontsize=8)


def _draw_matrix(axes: Any, names: Sequence[str], together: npt.NDArray[np.int64]) -> None:
    """Share of a row's images that show the column's class as well."""
    share = together / together.diagonal()[:, None]
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.figure.colorbar(image, ax=axes, shrink=0.4, anchor=(0, 1))
    axes.set(title="Share of the row's images that show the column's class too", anchor="N")
    _label(axes.set_yticks, names)
    _label(axes.set_xticks, names, rotation=90)


def draw_classes(path: Path, samples: Sequence[Sample]) -> None:
    """Write a PNG of the classes (at least one): images of each, and which come together."""
    counts = ClassCounts(samples)
    paired = counts.by_frequency()[:_PAIRED]
    rows = max(min(len(counts.names), _BARS), len(paired) + 8, 20)
    figure = Figure(figsize=(15, 1.5 + 0.2 * rows), dpi=100, layout="constrained")
    bars, matrix = figure.subplots(1, 2)
    _draw_bars(bars, counts)
    _draw_matrix(matrix, paired, cooccurrence(samples, paired))
    write_png(figure, path)


def count_edges(highest: int) -> npt.NDArray[np.float64]:
    """Return edges of at most 40 bins of equally many counts each, the last one at ``highest``."""
    width = -(-(highest + 1) // _BINS)
    bins = highest // width + 1
    return np.arange(bins + 1, dtype=np.float64) * width - 0.5


def draw_counts(path: Path, counts: Mapping[str, Sequence[int]]) -> None:
    """Write a PNG of the points an image, a histogram for each split that is not empty."""
    shown = {split: numbers for split, numbers in counts.items() if numbers}
    edges = count_edges(max(max(numbers) for numbers in shown.values()))
    figure = new_figure(8, 0.7 + 2.3 * len(shown))
    rows = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (split, numbers) in zip(rows, shown.items(), strict=True):
        axes.hist(numbers, edges, color=_COLORS[split])
        style_axes(axes, y="images")
        mean = sum(numbers) / len(numbers)
        axes.axvline(mean, color=INK, linestyle="--", label=f"mean {mean:,.1f}")
        axes.set_title(f"{split}: {len(numbers):,} images, {sum(numbers):,} points", fontsize=10)
        axes.legend(fontsize=8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_locator().set_params(integer=True)
    rows[-1].set_xlabel("points of an image")
    write_png(figure, path)
