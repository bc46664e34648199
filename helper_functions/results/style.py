"""Colors and axes that all figures share, and rendering them as PNG."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image, ImageColor

from helper_functions.runtime.files import write_atomically

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


def png_bytes(figure: Figure, colors: int | None = None) -> bytes:
    """Render a figure as PNG, without date or version: equal figures give equal bytes.

    Args:
        figure: What to render.
        colors: Size of the image's palette; 256 make a photo's file three times smaller.
    """
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # it is drawn as an empty box
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
    if colors:
        indexed = Image.open(png).convert("RGB").quantize(colors, kmeans=_KMEANS)
        indexed.save(png := io.BytesIO(), "PNG", optimize=True)
    return png.getvalue()


def write_png(figure: Figure, output: Path, colors: int | None = None) -> None:
    """Write a figure by ``png_bytes``."""
    png = png_bytes(figure, colors)
    write_atomically(output, lambda file: file.write(png))
