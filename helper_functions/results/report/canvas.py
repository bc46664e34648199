"""Figures of Matplotlib that go into the page as SVG, in the page's colours, and beside it as PNG.

Colours are replaced by the page's variables, so that a figure follows light and dark. Text becomes
outlines: it looks the same everywhere, and nothing of it is cut off.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from helper_functions.results.report.markup import escape
from helper_functions.results.style import INK, MUTED, PALETTE, PAPER, tint, write_png

GRID = tint(INK, 0.12)
FRAME = tint(INK, 0.3)
TEXT = 11  # points, which are pixels of the page
_DOTS = 72  # points an inch
_PNG_SCALE = 2.5
_VARIABLES = {
    **{PALETTE[name].lower(): f"var(--{name})" for name in PALETTE},
    INK.lower(): "var(--ink)",
    MUTED.lower(): "var(--muted)",
    GRID.lower(): "var(--line)",
    FRAME.lower(): "var(--frame)",
    PAPER.lower(): "var(--paper)",
}


def new_figure(width: float = 380, height: float = 290) -> Figure:
    """An empty figure of so many pixels of the page."""
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05)
    size = (width / _DOTS, height / _DOTS)
    return Figure(figsize=size, dpi=_DOTS, facecolor=PAPER, layout=layout)


def dress(axes: Any, x: str, y: str) -> None:
    """Labels, grid and colours of a pair of axes."""
    axes.set_xlabel(x, color=INK, fontsize=TEXT)
    axes.set_ylabel(y, color=INK, fontsize=TEXT)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_facecolor(PAPER)
    axes.tick_params(colors=MUTED, labelsize=TEXT - 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FRAME)


def svg_of(figure: Figure, name: str, description: str) -> str:
    """The figure as an element of the page.

    Args:
        figure: The figure.
        name: Goes before the ids within, so that those of several figures differ.
        description: What is shown, for those who do not see it.
    """
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(file, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(\sid="|href="#|url\(#)', rf"\1{name}-", text)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda hit: _VARIABLES.get(hit[0], hit[0]), text)
    label = f'<svg role="img" aria-label="{escape(description)}"'
    return text.replace("<svg", label, 1).strip()


def png_of(figure: Figure, output: Path) -> None:
    """Write a figure that is an element already as PNG, large enough for a slide."""
    figure.set_layout_engine("none")  # it stays as the element has been laid out
    figure.set_dpi(_DOTS * _PNG_SCALE)
    write_png(figure, output)
