"""Label maps over images: regions or classes with colors, outlines, texts and a legend.

Colors alone tell seven labels apart; letters, which stand in the image and in the legend, tell any
number.
"""

from __future__ import annotations

import io
import string
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import matplotlib
import numpy as np
import numpy.typing as npt
import scipy.ndimage
from PIL import Image, ImageDraw, ImageFont

from helper_functions.results.style import INK, MUTED, PALETTE, PAPER, drawable, fold, rgb
from helper_functions.runtime.files import write_atomically

OPACITY = 0.4  # of a label's color
_LINE_LENGTH = 26  # letters of a line of the legend
_LINES = 4  # of a name in the legend

LabelMap = npt.NDArray[np.integer]
IntegerT = TypeVar("IntegerT", bound=np.integer)


class LegendEntry(NamedTuple):
    """What a color in an image stands for."""

    letter: str  # its mark in the image
    color: str  # as #RRGGBB
    name: str  # of the class
    detail: str = ""  # such as its scores


def letter(rank: int) -> str:
    """Return A, B, ... Z, AA, AB, ... for 0, 1, ..."""
    return (letter(rank // 26 - 1) if rank >= 26 else "") + string.ascii_uppercase[rank % 26]


def color(rank: int) -> str:
    """Return a color of the palette, which starts again after the last."""
    return list(PALETTE.values())[rank % len(PALETTE)]


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load the font that comes with Matplotlib, so that images are alike everywhere."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def spread_to_pixels(
    cells: npt.NDArray[IntegerT], height: int, width: int
) -> npt.NDArray[IntegerT]:
    """Give every pixel the value of the cell its center lies in: (h, w) -> (height, width)."""
    rows, columns = cells.shape
    row = (2 * np.arange(height) + 1) * rows // (2 * height)
    column = (2 * np.arange(width) + 1) * columns // (2 * width)
    pixels: npt.NDArray[IntegerT] = cells[row[:, None], column]
    return pixels


def label_positions(
    labels: LabelMap, label: int, *, largest: bool = False
) -> list[tuple[float, float]]:
    """Find where the texts of a label of (h, w) stand: in each, or the largest, connected part.

    Returns:
        x and y in cells, the center of the cell of a part that is nearest to the part's center.
    """
    map_of_parts, number = scipy.ndimage.label(labels == label)
    parts = [np.nonzero(map_of_parts == part) for part in range(1, number + 1)]
    if largest:
        parts = sorted(parts, key=lambda part: -len(part[0]))[:1]
    positions = []
    for rows, columns in parts:
        nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
        positions.append((float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5))
    return positions


def resize(image: Image.Image, side: int) -> Image.Image:
    """Shrink an image to a longest side; enlarge one of less than half of that to the half."""
    factor = side / max(image.size)
    factor = min(factor, max(1, factor / 2))
    size = [max(1, round(factor * length)) for length in image.size]
    return image.resize(size, Image.Resampling.LANCZOS)


def draw_labels(
    image: Image.Image, labels: LabelMap, colors: Sequence[str | None], *, outlines: bool = True
) -> Image.Image:
    """Color and outline the labels of an image.

    Args:
        image: RGB, upright.
        labels: (h, w), of its pixels or of the cells of a coarser grid.
        colors: As ``#RRGGBB``, by label; labels without one, or beyond the last, stay as they are.
        outlines: Whether to draw lines between labels.
    """
    # A table of colors and opacities by label; its last row serves labels without a color.
    known = [color is not None for color in colors] + [False]
    fills = np.array([rgb(color or INK) for color in [*colors, None]], np.float32)
    opacities = np.where(known, np.float32(OPACITY), np.float32(0))[:, None]
    spread = spread_to_pixels(labels, image.height, image.width)
    rows = np.where((spread >= 0) & (spread < len(colors)), spread, len(colors))
    pixels = (1 - opacities[rows]) * np.asarray(image, np.float32) + opacities[rows] * fills[rows]
    if outlines:
        thin = max(1, round(max(image.size) / 400))
        for width, ink in ((2 * thin, INK), (thin, PAPER)):
            size = 2 * width + 1
            highest = scipy.ndimage.maximum_filter(spread, size)
            pixels[highest != scipy.ndimage.minimum_filter(spread, size)] = rgb(ink)
    return Image.fromarray(pixels.round().astype(np.uint8))


def draw_texts(
    image: Image.Image,
    labels: LabelMap,
    texts: Sequence[str],
    size: float,
    *,
    largest: bool = False,
) -> None:
    """Write a text into every connected part of a label, readable on any ground.

    Args:
        image: Changed in place.
        labels: (h, w), of its pixels or of the cells of a coarser grid.
        texts: By label; ``""`` for none.
        size: Of the letters, in pixels; at least 9.
        largest: Only in the largest part of a label.
    """
    draw = ImageDraw.Draw(image)
    rows, columns = labels.shape
    x_scale, y_scale = image.width / columns, image.height / rows
    used = font(round(max(9, size)), bold=True)
    style: dict[str, Any] = {"align": "center", "stroke_width": used.size // 7}
    for label, text in enumerate(map(drawable, texts)):
        for x, y in label_positions(labels, label, largest=largest) if text else ():
            x, y = x * x_scale, y * y_scale
            left, top, right, bottom = draw.multiline_textbbox((x, y), text, used, "mm", **style)
            x += max(0, -left) - max(0, right - image.width)  # nothing is cut off
            y += max(0, -top) - max(0, bottom - image.height)
            draw.multiline_text((x, y), text, PAPER, used, "mm", stroke_fill=INK, **style)


def draw_legend(image: Image.Image, entries: Sequence[LegendEntry]) -> Image.Image:
    """Return an image with its legend to the right: color, letter, name and detail."""
    size = max(12, max(image.size) // 45)
    large, small = font(size), font(max(10, round(0.85 * size)))
    swatch, margin = round(1.9 * size), size
    line, gap = round(1.3 * size), round(0.7 * size)
    blocks = [
        [
            (line, used, ink)
            for text, used, ink in ((entry.name, large, INK), (entry.detail, small, MUTED))
            for line in fold(text, _LINE_LENGTH, _LINES).splitlines()
        ]
        for entry in entries
    ]

    # The sheet: as wide as the longest line, as high as the image or the legend.
    lengths = [used.getlength(text) for block in blocks for text, used, _ in block]
    widest = max([15.0 * size, *lengths])
    heights = [max(line * len(block), swatch) + gap for block in blocks]
    height = max(image.height, sum(heights) + 2 * margin)
    sheet = Image.new("RGB", (image.width + 3 * margin + swatch + round(widest), height), PAPER)
    sheet.paste(image, (0, 0))

    # Its entries
    draw = ImageDraw.Draw(sheet)
    left, top = image.width + margin, margin
    for entry, block, used_height in zip(entries, blocks, heights, strict=True):
        draw.rectangle((left, top, left + swatch, top + swatch), entry.color, INK)
        center = (left + swatch / 2, top + swatch / 2)
        draw.text(center, entry.letter, PAPER, large, "mm", stroke_width=size // 7, stroke_fill=INK)
        for index, (text, used, ink) in enumerate(block):
            draw.text((left + swatch + margin, top + index * line), text, ink, used)
        top += used_height
    return sheet


def write_image(path: Path, image: Image.Image) -> None:
    """Write an image as PNG; the old file stays until the new one is complete."""
    png = io.BytesIO()
    image.save(png, "PNG")
    write_atomically(path, lambda file: file.write(png.getvalue()), sync=False)


def draw_caption(image: Image.Image, text: str) -> Image.Image:
    """Return an image with a text below it, in as many lines as its width needs."""
    used = font(max(9, image.width // 20))
    length = max(8, int(image.width / used.getlength("n")))
    wrapped = fold(text, length, None).splitlines()
    line = round(1.4 * used.size)
    sheet = Image.new("RGB", (image.width, image.height + line * len(wrapped) + line // 2), PAPER)
    sheet.paste(image, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for index, words in enumerate(wrapped):
        draw.text((line // 4, image.height + line // 4 + line * index), words, INK, used)
    return sheet


def contact_sheet(images: Sequence[Image.Image], columns: int = 4) -> Image.Image:
    """Return images side by side, in rows of ``columns``."""
    width, height = (max(sizes, default=1) for sizes in zip(*(i.size for i in images), strict=True))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), PAPER)
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    return sheet
