"""Colors and axes that all figures share, and rendering them: every name is drawn as it is."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter
from PIL import Image, ImageColor

from helper_functions.runtime.files import write_atomically
from helper_functions.runtime.text import printable

# Okabe and Ito, "Color Universal Design" (2008): distinct for every type of color vision.
PALETTE = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "yellow": "#F0E442",
}
INK = "#1F2933"
MUTED = "#5B6770"
PAPER = "#FFFFFF"
_KMEANS = 20_000  # pixels: a palette is good once fewer of them change their color

rgb = ImageColor.getrgb  # "#RRGGBB" to red, green and blue from 0 to 255


def tint(color: str, share: float) -> str:
    """Mix ``share`` of a color with white."""
    return "#" + "".join(f"{round(255 - share * (255 - channel)):02X}" for channel in rgb(color))


def new_figure(width: float, height: float, dpi: int = 100, pad: float = 0.05) -> Figure:
    """Create an empty figure, in inches, whose layout leaves room for all of its text."""
    layout = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad)
    return Figure(figsize=(width, height), dpi=dpi, facecolor=PAPER, layout=layout)


def style_axes(axes: Any, x: str = "", y: str = "") -> None:
    """Set labels, grid and colors of a pair of axes."""
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.grid(color=tint(INK, 0.12), linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(tint(INK, 0.3))


def fold(name: str, length: int, lines: int | None = 1) -> str:
    """Return a name in at most so many lines; an ellipsis stands for what does not fit.

    Args:
        name: Such as a class.
        length: Of a line, in letters; those of East Asia are as wide as two others.
        lines: Their number; ``None`` for as many as it needs.
    """
    words = " ".join(printable(name).split())
    if lines == 1:
        return _cut(words, length)
    wrapped = textwrap.wrap(words, length if _width(words) == len(words) else length // 2)
    if lines is not None and len(wrapped) > lines:
        wrapped = [*wrapped[: lines - 1], _cut(" ".join(wrapped[lines - 1 :]), length)]
    return "\n".join(wrapped)


def _width(text: str) -> int:
    """Return the length of a text in letters; those of East Asia are as wide as two others."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _cut(text: str, length: int) -> str:
    """Return as much of a text as fits into a length, with an ellipsis where it is cut."""
    if _width(text) <= length:
        return text
    kept = text
    while _width(kept) > length - 1:
        kept = kept[:-1]
    return f"{kept.rstrip()}…"


def drawable(text: str) -> str:
    """Return a text in the same lines, without letters that steer or cannot be drawn."""
    return "\n".join(map(printable, text.split("\n")))


def _draw_names_as_they_are(figure: Figure) -> None:
    """Keep Matplotlib from reading what stands between two dollars as mathematics.

    Only the numbers beside an axis, which it writes itself, are: powers of ten.
    """
    numbers: set[Text] = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if isinstance(axis.get_major_formatter(), FuncFormatter):  # of names
            names = [drawable(label.get_text()) for label in axis.get_ticklabels()]
            axis.set_ticklabels(names)
        else:
            numbers |= {*axis.findobj(Text)} - {axis.label}
    for text in {*figure.findobj(Text)} - numbers:
        text.set_parse_math(False)
        text.set_text(drawable(text.get_text()))


@contextmanager
def _canvas(figure: Figure) -> Iterator[FigureCanvasAgg]:
    """Give the canvas that renders a figure, whatever its names hold."""
    _draw_names_as_they_are(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # it is drawn as an empty box
        yield FigureCanvasAgg(figure)


def to_image(figure: Figure) -> Image.Image:
    """Render a figure as an image."""
    with _canvas(figure) as canvas:
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def png_bytes(figure: Figure, colors: int | None = None) -> bytes:
    """Render a figure as PNG, without date or version: equal figures give equal bytes.

    Args:
        figure: What to render.
        colors: Size of the image's palette; 256 make a photo's file three times smaller.
    """
    png = io.BytesIO()
    with _canvas(figure) as canvas:
        canvas.print_png(png, metadata={"Software": None})
    if colors:
        indexed = Image.open(png).convert("RGB").quantize(colors, kmeans=_KMEANS)
        indexed.save(png := io.BytesIO(), "PNG", optimize=True)
    return png.getvalue()


def write_png(figure: Figure, output: Path, colors: int | None = None) -> None:
    """Write a figure by ``png_bytes``."""
    png = png_bytes(figure, colors)
    write_atomically(output, lambda file: file.write(png))
