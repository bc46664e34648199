"""The classes of a set in one picture: how frequent they are, and which ones come together.

Everything is placed in inches, so that a row of names is as large for 15 classes as for 290.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.sparse import csr_array

from helper_functions.check_data.labels import ClassCounts
from helper_functions.data.splits import Sample
from helper_functions.results.style import INK, MUTED, PALETTE, PAPER, tint, write_png

_WIDTH = 15.0  # of the picture, inches
_MARGIN = 0.3
_COLUMNS = 5  # of bars, at most
_WIDEST = 6.0  # column, inches
_ROWS = 12  # of a column before there is another one
_SHOWN = 300  # classes with a bar; of more, the most frequent and the rarest halves of it
_PAIRED = 40  # most frequent classes in the matrix
_LINE = 0.17  # height of a row of bars
_NAME = 1.4  # width of the names beside bars and matrix
_NUMBERS = 0.85  # width of the numbers behind the bars
_LETTERS = 21  # of a name before it is cut
_CELL = 0.27  # side of a cell of the matrix
_FONT = 7.5  # points
_COLOURS = {"train": PALETTE["blue"], "val": PALETTE["orange"], "test": PALETTE["purple"]}


def cooccurrence(samples: Sequence[Sample], names: Sequence[str]) -> npt.NDArray[np.int64]:
    """How many pictures show two classes together.

    Args:
        samples: Rows of a split CSV.
        names: K classes.

    Returns:
        (K, K); on the diagonal, the pictures of each class.
    """
    position = {name: number for number, name in enumerate(names)}
    cells = [
        (row, position[name])
        for row, sample in enumerate(samples)
        for name in sample.labels
        if name in position
    ]
    rows, columns = np.array(cells, np.int64).reshape(-1, 2).T
    shows = csr_array((np.ones(len(cells), np.int64), (rows, columns)), (len(samples), len(names)))
    together: npt.NDArray[np.int64] = (shows.T @ shows).toarray()
    return together


def _write(axes: Any, x: float, y: float, text: str, **style: Any) -> None:
    """Text at a place in inches from the upper left corner; a dollar sign is just that."""
    settings = {"fontsize": _FONT, "color": INK, "va": "center", "parse_math": False}
    axes.text(x, y, text, **{**settings, **style})


def _short(name: str) -> str:
    return name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…"


def _present(counts: ClassCounts) -> list[str]:
    """The splits that have pictures, in the usual order."""
    return [split for split in _COLOURS if counts.pictures[split]]


def _shown(names: Sequence[str]) -> list[str | None]:
    """The classes that get a bar; ``None`` stands for those left out."""
    if len(names) <= _SHOWN:
        return list(names)
    return [*names[: _SHOWN // 2], None, *names[-_SHOWN // 2 :]]


def _draw_bar(
    axes: Any, start: float, y: float, numbers: Mapping[str, int], scale: Callable[[int], float]
) -> None:
    """Bar (training) and marks (validation, test) of one class."""
    for split, colour in _COLOURS.items():
        number = numbers.get(split, 0)
        if not number:
            continue
        end = scale(number)
        if split == "train":
            axes.barh(y, end, left=start, height=0.6 * _LINE, color=colour, linewidth=0)
        else:
            axes.barh(y, 0.04, left=start + end, height=0.8 * _LINE, color=colour, linewidth=0)


def _draw_bars(axes: Any, top: float, names: Sequence[str], counts: ClassCounts) -> float:
    """All bars, in columns; where they end."""
    shown = _shown(names)
    columns = min(_COLUMNS, math.ceil(len(shown) / _ROWS))
    rows = math.ceil(len(shown) / columns)
    width = min((_WIDTH - 2 * _MARGIN) / columns, _WIDEST)
    length = width - _NAME - _NUMBERS
    highest = max(max(numbers.values(), default=1) for numbers in counts.by_split.values())
    lacking = {*counts.without("train"), *counts.without("val")}

    def scale(number: int) -> float:
        return length * (math.log10(number) + 0.1) / (math.log10(highest) + 0.1)

    for number, name in enumerate(shown):
        x = _MARGIN + number // rows * width
        y = top + (number % rows + 0.5) * _LINE
        if name is None:
            hidden = f"... {len(names) - _SHOWN:,} more ..."
            _write(axes, x + _NAME - 0.08, y, hidden, ha="right", color=MUTED)
            continue
        colour = PALETTE["vermilion"] if name in lacking else INK
        _write(axes, x + _NAME - 0.08, y, _short(name), ha="right", color=colour)
        numbers = {split: counts.by_split[split][name] for split in _present(counts)}
        _draw_bar(axes, x + _NAME, y, numbers, scale)
        text = " / ".join(f"{number:,}" for number in numbers.values())
        _write(axes, x + _NAME + length + 0.12, y, text, color=MUTED)
    return top + rows * _LINE


def _draw_matrix(
    axes: Any, top: float, names: Sequence[str], together: npt.NDArray[np.int64]
) -> float:
    """Shares of a row's pictures that show the column's class as well; where it ends."""
    share = together / together.diagonal()[:, None]
    np.fill_diagonal(share, np.nan)
    white_to_blue = LinearSegmentedColormap.from_list("share", [PAPER, PALETTE["blue"]])
    colours = white_to_blue.with_extremes(bad=tint(INK, 0.12))
    side = _CELL * len(names)
    left = _MARGIN + _NAME
    extent = (left, left + side, top + side, top)
    axes.imshow(share, cmap=colours, vmin=0, vmax=1, extent=extent, interpolation="nearest")
    frame = Rectangle((left, top), side, side, fill=False, edgecolor=tint(INK, 0.3), linewidth=0.8)
    axes.add_patch(frame)
    for number, name in enumerate(names):
        middle = (number + 0.5) * _CELL
        _write(axes, left - 0.08, top + middle, _short(name), ha="right")
        below = {"ha": "center", "va": "top", "rotation": 90}
        _write(axes, left + middle, top + side + 0.08, _short(name), **below)
        for other, value in enumerate(share[number]):
            if value > 0.005:
                paint = PAPER if value > 0.5 else INK
                place = left + (other + 0.5) * _CELL
                _write(axes, place, top + middle, f"{100 * value:.0f}", ha="center", color=paint)
    return top + side + _NAME


def _draw_legend(axes: Any, top: float, counts: ClassCounts) -> None:
    x = _MARGIN
    for split in _present(counts):
        kind = "bar" if split == "train" else "mark"
        text = f"{kind}: {split} (of {counts.pictures[split]:,})"
        axes.barh(top, 0.18, left=x, height=0.12, color=_COLOURS[split], linewidth=0)
        _write(axes, x + 0.26, top, text, fontsize=9)
        x += 2.3
    numbers = f"logarithmic; numbers: {' / '.join(_present(counts))}"
    red = "red: no training or no validation picture"
    _write(axes, x, top, f"{numbers}; {red}", fontsize=9)


def draw_classes(path: Path, samples: Sequence[Sample], counts: ClassCounts) -> None:
    """Write a picture of a set's classes: pictures of each, and which come together.

    Args:
        path: The PNG file.
        samples: Rows of a split CSV that name a class.
        counts: Their classes.
    """
    names = sorted(counts.names, key=lambda name: -counts.total[name])
    paired = names[:_PAIRED]
    figure = Figure(figsize=(_WIDTH, 1), dpi=100, facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    title = {"fontsize": 12, "fontweight": "bold"}
    _write(axes, _MARGIN, 0.3, f"{len(names):,} classes, pictures of each", **title)
    _draw_legend(axes, 0.6, counts)
    bottom = _draw_bars(axes, 0.85, names, counts) + 0.4
    which = f"the {_PAIRED} most frequent classes" if len(names) > _PAIRED else "the classes"
    _write(axes, _MARGIN, bottom, f"How often {which} come together", **title)
    of_row = "percent of the row's pictures that show the column's class too"
    _write(axes, _MARGIN, bottom + 0.3, of_row, fontsize=9)
    bottom = _draw_matrix(axes, bottom + 0.5, paired, cooccurrence(samples, paired))
    figure.set_size_inches(_WIDTH, bottom + _MARGIN)
    axes.set_aspect("auto")
    axes.set(xlim=(0, _WIDTH), ylim=(bottom + _MARGIN, 0))
    axes.axis("off")
    with warnings.catch_warnings():
        # A class name in letters that the font lacks shows boxes, which is no news to anybody.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        write_png(figure, path)
