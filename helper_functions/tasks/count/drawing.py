"""Points and blobs over images: what was found, missed, and found where nothing is.

Forms tell them apart, not colors alone: a ring is a match, a cross a false alarm, a square a miss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.ndimage
from PIL import Image, ImageDraw

from helper_functions.metrics.counting import match_points
from helper_functions.results.overlays import LegendEntry, resize
from helper_functions.results.style import INK, PALETTE, PAPER, rgb

FloatArray = npt.NDArray[np.floating]
MATCH, FALSE_ALARM, MISS = "match", "false alarm", "miss"
_COLORS = {
    MATCH: PALETTE["sky"],
    FALSE_ALARM: PALETTE["vermilion"],
    MISS: PALETTE["yellow"],
}
LEGEND = [
    LegendEntry("O", _COLORS[MATCH], "found", "a predicted point with a true one near"),
    LegendEntry("X", _COLORS[FALSE_ALARM], "false alarm", "a predicted point alone"),
    LegendEntry("[]", _COLORS[MISS], "missed", "a true point alone"),
]


class Marks(NamedTuple):
    """Points (P, 2) x, y of one image, by what became of them; unknown truth: all are matches."""

    matches: FloatArray
    false_alarms: FloatArray
    misses: FloatArray


def sort_points(points: FloatArray, true: FloatArray | None, radius: float) -> Marks:
    """Match predicted points (P, 4) x, y, score, class with true ones (T, 3) x, y, class."""
    nothing = np.zeros((0, 2))
    if true is None:
        return Marks(points[:, :2], nothing, nothing)
    parts: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    for k in np.union1d(points[:, 3], true[:, 2]):
        found, known = points[points[:, 3] == k, :2], true[true[:, 2] == k, :2]
        pairs = np.asarray(match_points(found, known, radius), np.int64).reshape(-1, 2)
        alone = np.setdiff1d(np.arange(len(found)), pairs[:, 0])
        missed = np.setdiff1d(np.arange(len(known)), pairs[:, 1])
        parts.append((found[pairs[:, 0]], found[alone], known[missed]))
    if not parts:
        return Marks(nothing, nothing, nothing)
    return Marks(*(np.concatenate(kind) for kind in zip(*parts, strict=True)))


def draw_marks(
    image: Image.Image,
    marks: Marks,
    blobs: npt.NDArray[np.bool_] | None = None,
    side: int | None = None,
) -> Image.Image:
    """Return an image with outlined blobs and marked points.

    Args:
        image: RGB, upright.
        marks: In its pixels.
        blobs: Mask (H, W) of it.
        side: Of ``overlays.resize``; ``None``: as large as the image.
    """
    if blobs is not None:
        edge = blobs & ~scipy.ndimage.binary_erosion(blobs, iterations=_thickness(image))
        pixels = np.array(image)
        pixels[edge] = rgb(PAPER)
        image = Image.fromarray(pixels)
    drawn = image.copy() if side is None else resize(image, side)
    scale = drawn.width / image.width
    draw = ImageDraw.Draw(drawn)
    radius = max(3.0, min(drawn.size) / 80)
    width = max(1, round(radius / 3))
    shapes: Sequence[tuple[str, FloatArray, Callable[..., None]]] = (
        (MISS, marks.misses, _square),
        (FALSE_ALARM, marks.false_alarms, _cross),
        (MATCH, marks.matches, _ring),
    )
    for kind, points, shape in shapes:
        for x, y in (points[:, :2] + 0.5) * scale:
            shape(draw, float(x), float(y), radius, width + 2, INK)
            shape(draw, float(x), float(y), radius, width, _COLORS[kind])
    return drawn


def _thickness(image: Image.Image) -> int:
    return max(1, round(max(image.size) / 800))


def _ring(draw: Any, x: float, y: float, radius: float, width: int, color: str) -> None:
    grown = radius + width / 2
    draw.ellipse((x - grown, y - grown, x + grown, y + grown), outline=color, width=width)


def _square(draw: Any, x: float, y: float, radius: float, width: int, color: str) -> None:
    grown = radius + width / 2
    draw.rectangle((x - grown, y - grown, x + grown, y + grown), outline=color, width=width)


def _cross(draw: Any, x: float, y: float, radius: float, width: int, color: str) -> None:
    draw.line((x - radius, y - radius, x + radius, y + radius), color, width)
    draw.line((x - radius, y + radius, x + radius, y - radius), color, width)
