"""What the figures share: colours and the writing of PNG files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from helper_functions.runtime.files import write_atomically

# Okabe and Ito, "Color Universal Design" (2008): apart for every kind of colour vision.
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
SETTLED = 20_000  # pixels: a palette is good once fewer of them change their colour


def tint(colour: str, share: float) -> str:
    """Mix ``share`` of a colour with white."""
    channels = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - channel)):02X}" for channel in channels)


def write_png(figure: Any, output: Path, colours: int | None = None) -> None:
    """Render a figure of matplotlib, without date or version in the file.

    Args:
        figure: What to render.
        output: The PNG file.
        colours: Size of the picture's palette; 256 make a photo's file three times smaller.
    """
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
    if colours:
        with Image.open(png) as picture:
            small = picture.convert("RGB").quantize(colours, kmeans=SETTLED)
        png = io.BytesIO()
        small.save(png, "PNG", optimize=True)
    write_atomically(output, lambda file: file.write(png.getvalue()))
