"""Classes that are taken for each other, and classes that come together.

`mistaken[a, b]`: pictures that show a and not b, in which b is predicted and a is not. `together[a,
b]`: pictures that show both.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from helper_functions.results.report.canvas import TEXT, new_figure, png_of, svg_of
from helper_functions.results.report.data import Results
from helper_functions.results.report.markup import Chart, escape
from helper_functions.results.style import INK, PALETTE, PAPER

IntArray = npt.NDArray[np.int64]

_CLASSES = 1000  # with the most mistakes, or the most pictures, that pairs are sought among
_PICTURES = 20_000  # counted at most, evenly spread over the split
_MATRIX = 15  # classes of a matrix
_PAIRS = 10  # listed
_NAME = 26  # letters of a line of a name
_ROW, _LINE = 16, 12  # heights of a row and of a line of a name, in pixels of the page


class Pairs(NamedTuple):
    """Counts of ordered pairs of classes.

    Attributes:
        classes: (M,) the classes that were looked at.
        counts: (M, M), diagonal 0.
        support: (M,) pictures that show each class, of those that were counted.
    """

    classes: IntArray
    counts: IntArray
    support: IntArray

    def top(self, number: int) -> list[tuple[int, int, int]]:
        """The most frequent pairs: two classes, by their index of K, and their count."""
        order = np.argsort(-self.counts, axis=None, kind="stable")[:number]
        rows, columns = np.unravel_index(order, self.counts.shape)
        return [
            (int(self.classes[a]), int(self.classes[b]), int(self.counts[a, b]))
            for a, b in zip(rows, columns, strict=True)
            if self.counts[a, b]
        ]


def _product(left: npt.NDArray[np.bool_], right: npt.NDArray[np.bool_]) -> IntArray:
    """Pictures in which a holds on the left and b on the right, (M, M), without the diagonal."""
    counts = left.T.astype(np.float32) @ right.astype(np.float32)  # exact below 2 ** 24
    np.fill_diagonal(counts, 0)
    return counts.round().astype(np.int64)


def _most(counts: npt.NDArray[np.int64]) -> IntArray:
    """The classes with the highest counts, in the order of the classes."""
    return np.sort(np.argsort(-counts, kind="stable")[:_CLASSES])


def _sampled(results: Results) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Truth and decisions of at most ``_PICTURES`` pictures."""
    step = -(-len(results.targets) // _PICTURES)
    return results.targets[::step] == 1, results.scores[::step] > results.limits


def mistaken_pairs(results: Results) -> Pairs:
    """How often a class is taken for another, (a true and missed, b predicted and not true)."""
    true, decided = _sampled(results)
    missed, wrong = true & ~decided, decided & ~true
    # A pair needs both, so classes that lack one are of no interest.
    chosen = _most(np.minimum(missed.sum(axis=0), wrong.sum(axis=0)))
    counts = _product(missed[:, chosen], wrong[:, chosen])
    return Pairs(chosen, counts, true[:, chosen].sum(axis=0))


def joint_pairs(results: Results) -> Pairs:
    """How often two classes are in one picture."""
    true, _ = _sampled(results)
    chosen = _most(true.sum(axis=0))
    counts = _product(true[:, chosen], true[:, chosen])
    return Pairs(chosen, counts, true[:, chosen].sum(axis=0))


def _matrix(results: Results, pairs: Pairs, rows: str, columns: str) -> Figure | None:
    """The classes with the highest counts as a matrix; ``None`` without any pair.

    In percent of the pictures that show the class of the row. Columns have the numbers that stand
    behind the names of the rows.
    """
    weight = pairs.counts.sum(axis=0) + pairs.counts.sum(axis=1)
    if not weight.any():
        return None
    heaviest = np.argsort(-weight, kind="stable")[:_MATRIX]
    members = np.sort(heaviest[weight[heaviest] > 0])
    support = np.maximum(pairs.support[members], 1)
    shares = 100 * pairs.counts[np.ix_(members, members)] / support[:, None]
    names = [
        textwrap.fill(f"{results.classes[k]} \u00b7 {number}", _NAME)
        for number, k in enumerate(pairs.classes[members], 1)
    ]
    heights = np.array([max(_ROW, _LINE * (name.count("\n") + 1) + 4) for name in names])
    bottoms = heights.cumsum()
    tops = bottoms - heights
    figure = new_figure(380, 60 + float(bottoms[-1]))
    axes = figure.subplots()
    strength = 0.06 + 0.94 * shares / shares.max()
    corners = [
        [(c - 0.5, tops[r]), (c + 0.5, tops[r]), (c + 0.5, bottoms[r]), (c - 0.5, bottoms[r])]
        for r, c in np.ndindex(shares.shape)
    ]
    blue = PALETTE["blue"]
    colours = [(blue, share) for share in strength.ravel().tolist()]
    axes.add_collection(PolyCollection(corners, facecolors=colours, linewidths=0))
    for (row, column), percent in np.ndenumerate(shares):
        if percent >= 0.5:
            style: dict[str, Any] = {"fontsize": TEXT - 2, "ha": "center", "va": "center"}
            style["color"] = PAPER if strength[row, column] > 0.8 else INK
            place = (column, (tops[row] + bottoms[row]) / 2)
            axes.text(*place, f"{percent:.0f}", **style).set_in_layout(False)
    axes.set(xlim=(-0.5, len(members) - 0.5), ylim=(bottoms[-1], 0))
    numbers = [str(number) for number in range(1, len(members) + 1)]
    axes.set_xticks(range(len(members)), numbers, fontsize=TEXT - 2, color=INK)
    axes.set_yticks((tops + bottoms) / 2, names, fontsize=TEXT - 1, color=INK)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(columns, fontsize=TEXT, color=INK)
    axes.set_ylabel(rows, fontsize=TEXT, color=INK)
    return figure


def _mistake_items(results: Results, pairs: Pairs) -> str:
    """The most frequent mistakes as sentences."""
    names = [escape(name) for name in results.classes]
    items = [
        f"<li><b>{names[a]}</b> taken for <b>{names[b]}</b>: {count} of "
        f"{results.table['support'][a]} pictures</li>"
        for a, b, count in pairs.top(_PAIRS)
    ]
    return f'<ol class="pairs">{"".join(items)}</ol>'


def _joint_items(results: Results, pairs: Pairs) -> str:
    """The most frequent pairs as sentences, with how often they are predicted together."""
    names = [escape(name) for name in results.classes]
    _, decided = _sampled(results)
    # Every pair comes in both orders.
    chosen = [pair for pair in pairs.top(2 * _PAIRS + 2) if pair[0] < pair[1]][:_PAIRS]
    items = [
        f"<li><b>{names[a]}</b> with <b>{names[b]}</b>: {count} pictures, predicted in "
        f"{np.count_nonzero(decided[:, a] & decided[:, b])}</li>"
        for a, b, count in chosen
    ]
    return f'<ol class="pairs">{"".join(items)}</ol>'


def _restriction(results: Results, pairs: Pairs) -> str:
    """What was left out, as a sentence."""
    words = []
    if len(pairs.classes) < len(results.classes):
        words.append(f"the {len(pairs.classes)} classes with the most of them")
    if len(results.targets) > _PICTURES:
        words.append(f"every {-(-len(results.targets) // _PICTURES)}th picture")
    return f" Counted over {' and '.join(words)}." if words else ""


def draw_pairs(results: Results, mistakes: Pairs, folder: Path) -> list[Chart]:
    """Both matrices with their lists for the page, and as PNG into a folder."""
    company = joint_pairs(results)
    parts = (
        (
            "confusion",
            "Taken for another",
            mistakes,
            ("shown and missed", "predicted instead"),
            "Pictures that show one class and not the other, where the other is predicted in its "
            "place; in percent of all that show the one.",
            _mistake_items(results, mistakes),
        ),
        (
            "together",
            "In one picture",
            company,
            ("shown", "shown as well"),
            "Pictures that show both classes, in percent of those that show the class of the row.",
            _joint_items(results, company),
        ),
    )
    charts = []
    for name, title, pairs, (rows, columns), note, items in parts:
        figure = _matrix(results, pairs, rows, columns)
        text = f'<p class="note">{note}{_restriction(results, pairs)}</p>'
        if figure is None:
            charts.append(Chart("", title, f"{text}<p>There is no such pair.</p>"))
            continue
        charts.append(Chart(svg_of(figure, name, title), title, f"{text}{items}"))
        png_of(figure, folder / f"{name}.png")
    return charts
