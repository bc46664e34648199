"""Classes that are taken for each other, and classes that come together.

``confusions[a, b]``: images that show a and not b, in which b is predicted and a is not.
``cooccurrence[a, b]``: images that show both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from helper_functions.results.report import Cell, Chart, Charts, Column, Section, Table
from helper_functions.results.style import INK, PALETTE, PAPER, fold, new_figure
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
    """Counts of ordered pairs of classes."""

    classes: IntArray  # (M,) the classes that were counted
    counts: IntArray  # (M, M), diagonal 0
    support: IntArray  # (M,) images that show each class, of those that were counted

    def top(self, length: int) -> list[tuple[int, int, int]]:
        """Return the most frequent pairs: two classes, by their index of K, and their count."""
        order = np.argsort(-self.counts, axis=None, kind="stable")[:length]
        rows, columns = np.unravel_index(order, self.counts.shape)
        counts = self.counts[rows, columns]
        pairs = np.stack([self.classes[rows], self.classes[columns], counts], axis=1)
        return [(a, b, count) for a, b, count in pairs.tolist() if count]


def _sample(results: Results) -> tuple[BoolArray, BoolArray]:
    """Return truth and decisions of at most ``_IMAGES`` images."""
    step = -(-len(results.targets) // _IMAGES)
    return results.targets[::step] == 1, results.scores[::step] > results.limits


def _count(true: BoolArray, left: BoolArray, right: BoolArray) -> Pairs:
    """Count images in which a holds on the left and b on the right, for every pair of classes."""
    # A pair needs both sides, so classes that lack one are of no interest.
    weight = np.minimum(left.sum(axis=0), right.sum(axis=0))
    chosen = np.sort(np.argsort(-weight, kind="stable")[:_CLASSES])
    counts = left[:, chosen].T.astype(np.float32) @ right[:, chosen].astype(np.float32)
    np.fill_diagonal(counts, 0)  # exact below 2 ** 24
    return Pairs(chosen, counts.round().astype(np.int64), true[:, chosen].sum(axis=0))


def count_pairs(results: Results) -> tuple[Pairs, Pairs]:
    """Count confusions and co-occurrences."""
    true, decided = _sample(results)
    return _count(true, true & ~decided, decided & ~true), _count(true, true, true)


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
        f"{fold(results.classes[k], _LINE_LENGTH, 2)} \N{MIDDLE DOT} {rank}"
        for rank, k in enumerate(pairs.classes[members], 1)
    ]
    lines = max(label.count("\n") for label in labels) + 1
    figure = new_figure(6, 0.8 + len(members) * (0.1 + 0.14 * lines), 150)
    axes = figure.subplots()
    axes.imshow(shares, cmap=_WHITE_TO_BLUE, vmin=0, aspect="auto")
    for (y, x), percent in np.ndenumerate(shares):
        if percent >= 0.5:
            ink = PAPER if percent > 0.6 * shares.max() else INK
            axes.text(x, y, f"{percent:.0f}", color=ink, fontsize=8, ha="center", va="center")
    ticks = range(len(members))
    axes.set_xticks(ticks, [str(tick + 1) for tick in ticks], fontsize=8, color=INK)
    axes.set_yticks(ticks, labels, fontsize=9, color=INK)
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


def pair_sections(results: Results, confusions: Pairs, cooccurrence: Pairs) -> list[Section]:
    """Draw both matrices and list the most frequent pairs."""
    confused_note = (
        "Images that show one class and not the other, where the other is predicted in its place; "
        "in percent of all that show the one."
    )
    together_note = (
        "Images that show both classes, in percent of those that show the class of the row."
    )
    charts = []
    for title, pairs, y, x, note in (
        ("Confusions", confusions, "shown and missed", "predicted instead", confused_note),
        ("Co-occurrence", cooccurrence, "shown", "shown as well", together_note),
    ):
        figure = _matrix(results, pairs, y, x)
        note += _restriction(results, pairs) if figure else " There is no such pair."
        charts.append(Chart(title.lower().replace("-", ""), title, figure, note))

    # The lists; of classes that come together every pair is there in both orders
    names, support, (_, decided) = results.classes, results.table["support"], _sample(results)
    confused: list[list[Cell]] = [
        [names[a], names[b], count, int(support[a])] for a, b, count in confusions.top(_PAIRS)
    ]
    together: list[list[Cell]] = [
        [names[a], names[b], count, int((decided[:, a] & decided[:, b]).sum())]
        for a, b, count in cooccurrence.top(2 * _PAIRS + 2)
        if a < b
    ]
    sections: list[Section] = [Charts("Confusions and co-occurrence", charts)]
    for title, second, last, rows in (
        ("Most frequent confusions", "taken for", "shown in", confused),
        ("Classes most often in one image", "with", "predicted in", together[:_PAIRS]),
    ):
        columns = [Column("class"), Column(second), Column("images", 0), Column(last, 0)]
        if rows:
            sections.append(Table(title, columns, rows))
    return sections
