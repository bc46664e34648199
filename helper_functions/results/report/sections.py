"""What a report is made of, without a word about any task.

All text is plain text: the page escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, TypeGuard

from matplotlib.figure import Figure
from PIL import Image

from helper_functions.results.overlays import LegendEntry
from helper_functions.results.style import png_bytes


@dataclass(frozen=True)
class KeyFigure:
    """A number at the head of the page.

    Attributes:
        value: As it is to be shown.
        name: As in ``metrics.json``.
        meaning: In a few words.
        comparisons: What the value is held against: names and percentages, also shown as bars. A
            figure with comparisons is shown large.
    """

    value: str
    name: str
    meaning: str
    comparisons: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Text:
    """A list of sentences."""

    layout: ClassVar[str] = "text"

    title: str
    sentences: Sequence[str]


@dataclass(frozen=True)
class Sparkline:
    """A curve, or several, as small as a word.

    Attributes:
        series: Values from 0 to 1, drawn at equal distances.
    """

    series: Sequence[Sequence[float]]

    @property
    def points(self) -> list[str]:
        """Points of each series in a box of 60 x 18, as SVG writes them."""
        return [
            " ".join(
                f"{60 * place / max(len(values) - 1, 1):.0f},{17 - 16 * value:.1f}"
                for place, value in enumerate(values)
            )
            for values in self.series
        ]


Cell = str | float | Sparkline | None


def is_number(cell: Cell) -> TypeGuard[float]:
    """Tell whether a cell holds a number that can be shown."""
    return isinstance(cell, int | float) and not math.isnan(cell)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its head.
        digits: Decimals of its numbers; ``None`` for text and sparklines.
        bar: Whether a bar shows the numbers, from 0 to 100.
    """

    name: str
    digits: int | None = None
    bar: bool = False

    def format(self, cell: Cell) -> str:
        """Write a cell as text; a dash stands for ``None`` and for NaN."""
        if isinstance(cell, str):
            return cell
        return f"{cell:,.{self.digits or 0}f}" if is_number(cell) else "\N{EN DASH}"

    def has_bar(self, cell: Cell) -> bool:
        """Tell whether a bar stands below a cell."""
        return self.bar and is_number(cell)


@dataclass(frozen=True)
class Table:
    """A table, to be sorted by its heads; a long one can be searched and scrolls in a box.

    Attributes:
        title: Its heading.
        columns: The first one names the row.
        rows: A cell for each column.
        note: How to read it.
    """

    layout: ClassVar[str] = "table"

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A drawing.

    Attributes:
        name: Of its PNG file beside the page.
        title: Its heading.
        figure: The drawing; ``None`` where there is nothing to draw, as the note then says.
        note: How to read it.
    """

    name: str
    title: str
    figure: Figure | None
    note: str = ""

    @cached_property
    def png(self) -> bytes:
        """The drawing, sharp on dense screens and large enough for a slide."""
        return b"" if self.figure is None else png_bytes(self.figure)


@dataclass(frozen=True)
class Charts:
    """Drawings side by side, as many as fit."""

    layout: ClassVar[str] = "charts"

    title: str
    charts: Sequence[Chart]
    note: str = ""


@dataclass(frozen=True)
class ChipGroup:
    """Labels of one sort; after the first few they fold away.

    Attributes:
        name: In one word, such as ``right``.
        tone: Color and sign: a check mark, a cross, a dash, or none.
        chips: Texts with a value such as a score, or ``""``; the most important first.
    """

    name: str
    tone: Literal["good", "bad", "missing", "neutral"]
    chips: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Card:
    """An image with what is to be told about it.

    Attributes:
        caption: Such as its file name.
        images: One, or several side by side; the page shrinks them.
        value: Shown beside the caption, such as its score.
        legend: Colors of the images.
        groups: Its labels.
        name: Of the PNG file beside the page that gets ``original``.
        original: A large version of what the card shows.
    """

    caption: str
    images: Sequence[Image.Image]
    value: str = ""
    legend: Sequence[LegendEntry] = ()
    groups: Sequence[ChipGroup] = ()
    name: str = ""
    original: Image.Image | None = None


@dataclass(frozen=True)
class Gallery:
    """Cards side by side, as many as fit.

    Attributes:
        title: Its heading.
        cards: The images.
        note: How to read them.
        legend: What the tones mean: a group for each, its one chip in words.
    """

    layout: ClassVar[str] = "gallery"

    title: str
    cards: Sequence[Card]
    note: str = ""
    legend: Sequence[ChipGroup] = ()


Section = Text | Table | Charts | Gallery
