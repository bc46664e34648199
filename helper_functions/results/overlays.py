"""A region map laid over its picture: every class has a letter and a colour, and a line of legend.

Colours alone tell seven classes apart; the letters, which stand in the picture and in the legend,
tell any number.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
import scipy.ndimage
from PIL import Image, ImageDraw, ImageFont

from helper_functions.results.style import INK, MUTED, PALETTE, PAPER
from helper_functions.tasks.classify.region_maps import RegionMap
from helper_functions.tasks.classify.regions import spread_to_pixels

_OPACITY = 0.38  # of a region's colour
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Pixels = npt.NDArray[np.uint8]


class LegendEntry(NamedTuple):
    """A class that regions of a picture predict.

    Attributes:
        letter: Its mark in the picture.
        colour: As ``#RRGGBB``.
        class_index: Of the class.
        name: Its name.
        scores: Of its regions, the highest first.
        share: Of the picture's cells, from 0 to 1.
    """

    letter: str
    colour: str
    class_index: int
    name: str
    scores: list[float]
    share: float


def _letter(rank: int) -> str:
    """A, B, ... Z, AA, AB, ..."""
    letters = _ALPHABET[rank % 26]
    while rank >= 26:
        rank = rank // 26 - 1
        letters = _ALPHABET[rank % 26] + letters
    return letters


def legend(found: RegionMap, classes: Sequence[str]) -> list[LegendEntry]:
    """The classes that a picture's regions predict, by the share of the cells that they take.

    Args:
        found: The region map.
        classes: K names.
    """
    area = np.bincount(found.classes, found.cells)
    present = np.unique(found.classes)
    order = present[np.argsort(-area[present], kind="stable")]
    colours = list(PALETTE.values())
    return [
        LegendEntry(
            _letter(rank),
            colours[rank % len(colours)],
            int(index),
            classes[index],
            sorted(found.scores[found.classes == index].tolist(), reverse=True),
            float(area[index] / found.labels.size),
        )
        for rank, index in enumerate(order)
    ]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that comes with Matplotlib, so that pictures are alike everywhere."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)


def _channels(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def _borders(labels: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.bool_]:
    """Pixels within ``width`` of another region."""
    border = np.zeros(labels.shape, bool)
    for shift in range(1, width + 1):
        upright = labels[shift:] != labels[:-shift]
        level = labels[:, shift:] != labels[:, :-shift]
        border[shift:] |= upright
        border[:-shift] |= upright
        border[:, shift:] |= level
        border[:, :-shift] |= level
    return border


def mark_places(labels: npt.NDArray[np.int64], region: int) -> list[tuple[float, float]]:
    """Where a region's marks stand, in cells (x, y): in each of its parts, as it may have several.

    A mark stands in the cell of a part that is nearest to its centre.
    """
    parts, number = scipy.ndimage.label(labels == region)
    places = []
    for part in range(1, number + 1):
        rows, columns = np.nonzero(parts == part)
        distance = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
        nearest = int(np.argmin(distance))
        places.append((float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5))
    return places


def overlay(
    picture: Image.Image,
    found: RegionMap,
    classes: Sequence[str],
    side: int = 1280,
    *,
    with_scores: bool = True,
) -> Image.Image:
    """The picture with its regions coloured, outlined and marked with letter and score.

    Args:
        picture: RGB, upright.
        found: Its region map.
        classes: K names.
        side: Longest side of the result in pixels; small pictures are enlarged to half of it.
        with_scores: Leave out the scores to have larger letters.
    """
    factor = side / max(picture.size)
    if factor < 1 or factor > 2:
        factor = factor if factor < 1 else factor / 2
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    colour_of = {
        entry.class_index: (entry.letter, _channels(entry.colour))
        for entry in legend(found, classes)
    }
    labels = spread_to_pixels(found.labels, picture.height, picture.width)
    fills = np.array([colour_of[index][1] for index in found.classes.tolist()], np.float32)
    pixels = (1 - _OPACITY) * np.asarray(picture, np.float32) + _OPACITY * fills[labels]
    thin = max(1, round(max(picture.size) / 400))
    pixels[_borders(labels, 2 * thin)] = _channels(INK)
    pixels[_borders(labels, thin)] = _channels(PAPER)
    drawn = Image.fromarray(pixels.round().astype(np.uint8))
    letters = [colour_of[index][0] for index in found.classes.tolist()]
    _draw_marks(drawn, found, letters, with_scores)
    return drawn


def _draw_marks(
    drawn: Image.Image, found: RegionMap, letters: Sequence[str], with_scores: bool
) -> None:
    """Letter and score in every region; the letter alone where a cell is too small for both."""
    pencil = ImageDraw.Draw(drawn)
    rows, columns = found.labels.shape
    wide, high = drawn.width / columns, drawn.height / rows
    size = max(drawn.size) / (26 if with_scores else 10)
    font = _font(int(max(9, min(size, 0.8 * wide, 0.8 * high))))
    for region, letter in enumerate(letters):
        text = f"{letter} {found.scores[region]:.2f}"
        if not with_scores or pencil.textlength(text, font) > 0.95 * wide:
            text = letter
        edge: dict[str, Any] = {"stroke_width": font.size // 7, "stroke_fill": INK}
        for x, y in mark_places(found.labels, region):
            pencil.text((x * wide, y * high), text, PAPER, font, "mm", **edge)


def _wrapped(name: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """A name as lines no wider than ``width`` pixels; nothing of it is lost."""
    lines = [""]
    for word in name.split(" "):
        candidate = f"{lines[-1]} {word}" if lines[-1] else word
        if font.getlength(candidate) <= width:
            lines[-1] = candidate
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:  # a word may be wider than the line
            if font.getlength(lines[-1] + letter) > width and lines[-1]:
                lines.append("")
            lines[-1] += letter
    return lines


def _score_text(scores: Sequence[float]) -> str:
    """The scores of a class's regions; of many the range."""
    if len(scores) > 4:
        return f"{scores[-1]:.2f} to {scores[0]:.2f} in {len(scores)} regions"
    return ", ".join(f"{score:.2f}" for score in scores)


def draw_legend(drawn: Image.Image, entries: Sequence[LegendEntry]) -> Image.Image:
    """An overlay with its legend to the right: colour, letter, class and scores."""
    size = max(12, max(drawn.size) // 45)
    font, small = _font(size), _font(max(10, round(0.85 * size)))
    swatch, margin = round(1.9 * size), size
    column = 15 * size
    blocks = [
        (
            entry,
            _wrapped(entry.name, font, column),
            _wrapped(_score_text(entry.scores), small, column),
        )
        for entry in entries
    ]
    line, gap = round(1.3 * size), round(0.7 * size)
    heights = [line * (len(names) + len(scores)) + gap for _, names, scores in blocks]
    height = max(drawn.height, sum(heights) + 2 * margin)
    sheet = Image.new("RGB", (drawn.width + margin * 3 + swatch + column, height), PAPER)
    sheet.paste(drawn, (0, 0))
    pencil = ImageDraw.Draw(sheet)
    left, top = drawn.width + margin, margin
    for (entry, names, scores), used in zip(blocks, heights, strict=True):
        pencil.rectangle((left, top, left + swatch, top + swatch), entry.colour, INK)
        centre = (left + swatch / 2, top + swatch / 2)
        pencil.text(
            centre, entry.letter, PAPER, font, "mm", stroke_width=font.size // 7, stroke_fill=INK
        )
        x = left + swatch + margin
        for number, text in enumerate(names):
            pencil.text((x, top + number * line), text, INK, font)
        for number, text in enumerate(scores, len(names)):
            pencil.text((x, top + number * line), text, MUTED, small)
        top += used
    return sheet
