"""``report.html``: the results of any task as one page that opens without a network.

A task describes its results as key figures and sections, the classes below; ``page.write_report``
makes the page of them. All text is plain text: the page escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from matplotlib.figure import Figure
from PIL import Image

from helper_functions.results.overlays import LegendEntry
from helper_functions.results.style import png_bytes


@dataclass(frozen=True)
class KeyFigure:
    """A number at the head of the page; one with comparisons is shown large."""

    value: str  # as it is to be shown
    name: str  # as in metrics.json
    meaning: str  # in a few words
    comparisons: Sequence[tuple[str, float]] = ()  # names and percentages, also shown as bars


@dataclass(frozen=True)
class Text:
    """A list of sentences."""

    layout: ClassVar[str] = "text"
    title: str
    sentences: Sequence[str]


@dataclass(frozen=True)
class Sparkline:
    """A curve, or several, as small as a word."""

    series: Sequence[Sequence[float]]  # values from 0 to 1, drawn at equal distances

    @property
    def points(self) -> list[str]:
        """Points of each series in a box of 60 x 18, as SVG writes them."""
        return [
            " ".join(
                f"{60 * index / max(len(values) - 1, 1):.0f},{17 - 16 * value:.1f}"
                for index, value in enumerate(values)
            )
            for values in self.series
        ]


Cell = str | float | Sparkline | None


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str  # its head
    digits: int | None = None  # decimals of its numbers; None for text and sparklines
    bar: bool = False  # whether a bar shows the numbers, from 0 to 100

    def format(self, cell: Cell) -> str:
        """Write a cell as text; a dash stands for ``None`` and for NaN."""
        if isinstance(cell, str):
            return cell
        if cell is None or isinstance(cell, Sparkline) or math.isnan(cell):
            return "\N{EN DASH}"
        return f"{cell:,.{self.digits or 0}f}"


@dataclass(frozen=True)
class Table:
    """A table, to be sorted by its heads; a long one can be searched and scrolls in a box."""

    layout: ClassVar[str] = "table"
    title: str
    columns: Sequence[Column]  # the first one names the row
    rows: Sequence[Sequence[Cell]]  # a cell for each column
    note: str = ""  # how to read it


@dataclass(frozen=True)
class Chart:
    """A drawing; where its figure is ``None`` there is nothing to draw, as the note then says."""

    name: str  # of its PNG file beside the page
    title: str
    figure: Figure | None
    note: str = ""  # how to read it

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
    """Labels of one sort; after the first few they fold away."""

    name: str  # in one word, such as "right"
    tone: Literal["good", "bad", "missing", "neutral"]  # check mark, cross, dash or none; color
    chips: Sequence[tuple[str, str]]  # texts with a score or ""; the most important first


@dataclass(frozen=True)
class Card:
    """An image with what is to be told about it."""

    caption: str  # such as its file name
    images: Sequence[Image.Image]  # one, or several side by side; the page shrinks them
    value: str = ""  # shown beside the caption, such as its score
    legend: Sequence[LegendEntry] = ()  # colors of the images
    groups: Sequence[ChipGroup] = ()  # its labels
    name: str = ""  # of the PNG file beside the page that gets the original
    original: Image.Image | None = None  # a large version of what the card shows


@dataclass(frozen=True)
class Gallery:
    """Cards side by side, as many as fit."""

    layout: ClassVar[str] = "gallery"
    title: str
    cards: Sequence[Card]
    note: str = ""  # how to read them
    legend: Sequence[ChipGroup] = ()  # what the tones mean: a group for each, its one chip in words


Section = Text | Table | Charts | Gallery
