"""Classes that are taken for each other, and classes that come together.

``confusions[a, b]``: images that show a and not b, in which b is predicted and a is not.
``cooccurrence[a, b]``: images that show both.
"""

from __future__ import annotations

import textwrap
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from helper_functions.results.report import Cell, Chart, Charts, Column, Table
from helper_functions.results.style import INK, PALETTE, PAPER, new_figure
from helper_functions.tasks.classify.report.results import Results

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

_CLASSES = 1000  # with the most mistakes, or the most images, that pairs are sought among
_IMAGES = 20_000  # counted at most, evenly spread over the split
_MATRIX = 15  # classes of a matrix
_PAIRS = 10  # listed
_LINE_LENGTH = 26  # letters of a line of a name, of which a matrix shows two
_WHITE_TO_BLUE = LinearSegmentedColormap.from_list("shares", [PAPER, PALETTE["blue"]])


class Pairs(NamedTuple):
    """Counts of ordered pairs of classes.

    Attributes:
        classes: (M,) the classes that were counted.
        counts: (M, M), diagonal 0.
        support: (M,) images that show each class, of those that were counted.
    """

    classes: IntArray
    counts: IntArray
    support: IntArray

    def top(self, number: int) -> list[tuple[int, int, int]]:
        """Return the most frequent pairs: two classes, by their index of K, and their count."""
        order = np.argsort(-self.counts, axis=None, kind="stable")[:number]
        rows, columns = np.unravel_index(order, self.counts.shape)
        return [
            (int(self.classes[a]), int(self.classes[b]), int(self.counts[a, b]))
            for a, b in zip(rows, columns, strict=True)
            if self.counts[a, b]
        ]


def _sampled(results: Results) -> tuple[BoolArray, BoolArray]:
    """Return truth and decisions of at most ``_IMAGES`` images."""
    step = -(-len(results.targets) // _IMAGES)
    return results.targets[::step] == 1, results.scores[::step] > results.limits


def _count_pairs(true: BoolArray, left: BoolArray, right: BoolArray) -> Pairs:
    """Count images in which a holds on the left and b on the right, for every pair of classes."""
    # A pair needs both sides, so classes that lack one are of no interest.
    weight = np.minimum(left.sum(axis=0), right.sum(axis=0))
    chosen = np.sort(np.argsort(-weight, kind="stable")[:_CLASSES])
    counts = left[:, chosen].T.astype(np.float32) @ right[:, chosen].astype(np.float32)
    np.fill_diagonal(counts, 0)  # exact below 2 ** 24
    return Pairs(chosen, counts.round().astype(np.int64), true[:, chosen].sum(axis=0))


def confused_pairs(results: Results) -> Pairs:
    """Count how often a class is taken for another: a true and missed, b predicted and not true."""
    true, decided = _sampled(results)
    return _count_pairs(true, true & ~decided, decided & ~true)


def cooccurring_pairs(results: Results) -> Pairs:
    """Count how often two classes are in one image."""
    true, _ = _sampled(results)
    return _count_pairs(true, true, true)


def _matrix(results: Results, pairs: Pairs, rows: str, columns: str) -> Figure | None:
    """Draw the classes with the highest counts as a matrix; nothing without any pair.

    In percent of the images that show the class of the row. Columns have the numbers that stand
    behind the names of the rows.
    """
    weight = pairs.counts.sum(axis=0) + pairs.counts.sum(axis=1)
    if not weight.any():
        return None
    heaviest = np.argsort(-weight, kind="stable")[:_MATRIX]
    members = np.sort(heaviest[weight[heaviest] > 0])
    support = np.maximum(pairs.support[members], 1)
    shares = 100 * pairs.counts[np.ix_(members, members)] / support[:, None]
    labels = [
        "\n".join(textwrap.wrap(results.classes[k], _LINE_LENGTH, max_lines=2, placeholder="…"))
        + f" \N{MIDDLE DOT} {number}"
        for number, k in enumerate(pairs.classes[members], 1)
    ]
    lines = max(label.count("\n") for label in labels) + 1
    figure = new_figure(6, 0.8 + len(members) * (0.1 + 0.14 * lines), 150)
    axes = figure.subplots()
    axes.imshow(shares, cmap=_WHITE_TO_BLUE, vmin=0, aspect="auto")
    for (row, column), percent in np.ndenumerate(shares):
        if percent >= 0.5:
            ink = PAPER if percent > 0.6 * shares.max() else INK
            axes.text(
                column, row, f"{percent:.0f}", color=ink, fontsize=8, ha="center", va="center"
            )
    numbers = range(len(members))
    axes.set_xticks(numbers, [str(number + 1) for number in numbers], fontsize=8, color=INK)
    axes.set_yticks(numbers, labels, fontsize=9, color=INK, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(columns, color=INK)
    axes.set_ylabel(rows, color=INK)
    return figure


def _restriction(results: Results, pairs: Pairs) -> str:
    """What was left out, as a sentence."""
    words = []
    if len(pairs.classes) < len(results.classes):
        words.append(f"the {len(pairs.classes)} classes with the most of them")
    if len(results.targets) > _IMAGES:
        words.append(f"every {-(-len(results.targets) // _IMAGES)}th image")
    return f" Counted over {' and '.join(words)}." if words else ""


def pair_charts(results: Results, confusions: Pairs, cooccurrence: Pairs) -> Charts:
    """Draw both matrices."""
    parts = (
        (
            *("confusions", "Confusions", confusions, "shown and missed", "predicted instead"),
            "Images that show one class and not the other, where the other is predicted in its "
            "place; in percent of all that show the one.",
        ),
        (
            *("cooccurrence", "Co-occurrence", cooccurrence, "shown", "shown as well"),
            "Images that show both classes, in percent of those that show the class of the row.",
        ),
    )
    charts = []
    for name, title, pairs, rows, columns, note in parts:
        figure = _matrix(results, pairs, rows, columns)
        note += _restriction(results, pairs) if figure else " There is no such pair."
        charts.append(Chart(name, title, figure, note))
    return Charts("Confusions and co-occurrence", charts)


def pair_tables(results: Results, confusions: Pairs, cooccurrence: Pairs) -> list[Table]:
    """List the most frequent pairs; those that come together with how often both are predicted."""
    names = results.classes
    _, decided = _sampled(results)
    confused: list[list[Cell]] = [
        [names[a], names[b], count, int(results.table["support"][a])]
        for a, b, count in confusions.top(_PAIRS)
    ]
    # Every pair comes in both orders.
    pairs = [pair for pair in cooccurrence.top(2 * _PAIRS + 2) if pair[0] < pair[1]][:_PAIRS]
    together: list[list[Cell]] = [
        [names[a], names[b], count, int((decided[:, a] & decided[:, b]).sum())]
        for a, b, count in pairs
    ]
    tables = (
        ("Most frequent confusions", "taken for", "shown in", confused),
        ("Classes most often in one image", "with", "predicted in", together),
    )
    return [
        Table(title, [Column("class"), Column(second), Column("images", 0), Column(last, 0)], rows)
        for title, second, last, rows in tables
        if rows
    ]
