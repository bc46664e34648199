"""Bands and depths: how the raw values of an image become 8-bit RGB.

Satellites and aircraft deliver more than three bands, and more than 8 bits. Such a file leaves open
which bands are red, green and blue and which values are black and white; ``ImageFormat`` tells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

PAPER = "paper"
RGB = "rgb"
# Of infrared, green, blue and red, the order of the aerial tiles of TreeSatAI.
TRUE_COLOR = (4, 2, 3)
# What Pillow holds safe against decompression bombs: about 89.5 megapixels.
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485


class FormatError(ValueError):
    """Values that cannot become an image; the message is a clause without a full stop."""


@dataclass(frozen=True)
class ImageFormat:
    """How the images of a run are read.

    Attributes:
        bands: ``"paper"``: the first three, as the released code reads them. ``"rgb"``: the same,
            but of four bands in a TIFF 4, 2 and 3. Or the numbers of three bands, from 1.
        value_range: The values that become 0 and 255 in images of more than 8 bits; what is
            outside becomes 0 or 255. ``None``: the range of the type.
        max_pixels: Larger images are refused; ``None``: ``MAX_PIXELS``. It decides no pixel, so it
            is no part of what caches and stored predictions know a format by.
    """

    bands: str | tuple[int, int, int] = PAPER
    value_range: tuple[float, float] | None = None
    max_pixels: int | None = field(default=None, repr=False, compare=False)

    @property
    def numbers(self) -> tuple[int, int, int] | None:
        """The bands, if they were chosen by number."""
        return None if isinstance(self.bands, str) else self.bands


def parse_bands(words: list[str] | None) -> str | tuple[int, int, int]:
    """Parse the words of ``--bands``: a preset's name or three numbers.

    Raises:
        ValueError: If they are neither.
    """
    if words is None:
        return PAPER
    if len(words) == 1 and words[0] in (PAPER, RGB):
        return words[0]
    if len(words) == 3 and all(word.isdecimal() and int(word) >= 1 for word in words):
        first, second, third = map(int, words)
        return first, second, third
    raise ValueError(
        f"--bands takes {PAPER!r}, {RGB!r} or the numbers of three bands from 1, such as 4 2 3; "
        f"not {' '.join(words)!r}."
    )


def check_size(width: int, height: int, bands: int, image_format: ImageFormat) -> None:
    """Refuse a size that may be a decompression bomb, before anything of it is allocated.

    A file of hundreds of bands may be as large as an image of the limit with four.

    Raises:
        FormatError: If it is above the limit.
    """
    limit = image_format.max_pixels or MAX_PIXELS
    pixels = width * height * max(4, bands) / 4
    if pixels <= limit:
        return
    counted = f" in {bands} bands, which count as" if bands > 4 else ","
    needed = math.ceil(pixels / 1e5) / 10 if pixels > 1e6 else pixels / 1e6
    raise FormatError(
        f"it has {width} x {height} pixels{counted} {pixels / 1e6:.7g} megapixels, and "
        f"{limit / 1e6:.4g} are allowed, as larger images may be decompression bombs; if it is "
        f"none, give --max-megapixels {needed:.10g}"
    )


def choose_bands(values: npt.NDArray[Any], image_format: ImageFormat) -> npt.NDArray[Any]:
    """Return red, green and blue of an image, (h, w, bands) -> (h, w, 3).

    One or two bands are gray, and gray with transparency.

    Raises:
        FormatError: If the image lacks a band, or ``rgb`` does not cover so many.
    """
    count, chosen = values.shape[2], image_format.numbers
    if chosen is None:
        if image_format.bands == RGB and count > 4:
            raise FormatError(
                f"it has {count} bands, and --bands {RGB} knows images of up to 4; give the "
                f"numbers of three bands"
            )
        chosen = TRUE_COLOR if image_format.bands == RGB and count == 4 else (1, 2, 3)
        if count < 3:
            chosen = (1, 1, 1)
    if max(chosen) > count:
        raise FormatError(f"it has {count} band{'s' * (count > 1)}, so there is no {max(chosen)}")
    return values[..., [number - 1 for number in chosen]]


def check_type(dtype: np.dtype[Any], bits: int, image_format: ImageFormat) -> None:
    """Refuse values whose type alone does not tell what is black and white.

    Args:
        dtype: Of the values.
        bits: Their depth; 0: that of the type.
        image_format: Its ``value_range`` tells it for all but complex values.

    Raises:
        FormatError: If it does not.
    """
    if dtype.kind not in "buif":
        raise FormatError(f"its values are of the type {dtype}, which no image has")
    narrow = dtype.kind == "u" and (bits or 8 * dtype.itemsize) < 32
    if image_format.value_range is None and dtype.kind in "ui" and not narrow:
        raise FormatError(
            f"its values are of the type {dtype}, which leaves open what is black and white; give "
            f"the values of both by --value-range"
        )


def to_eight_bits(
    values: npt.NDArray[Any], value_range: tuple[float, float] | None = None, bits: int = 0
) -> npt.NDArray[np.uint8]:
    """Scale values of any type to 0..255, rounded to the nearest.

    Without a range, the type decides, never the values, so that all images of a set are scaled
    alike: unsigned integers are scaled by their depth, floats from 0..1.

    Args:
        values: Of any shape.
        value_range: As in ``ImageFormat``.
        bits: Depth of unsigned integers, if less than that of their type.

    Raises:
        FormatError: If the values are complex or not finite, or do not tell their range.
    """
    if values.dtype == np.uint8 and bits in (0, 8):
        return values
    check_type(values.dtype, bits, ImageFormat(value_range=value_range))
    floating = values.dtype.kind == "f"
    if floating and not np.isfinite(values).all():
        raise FormatError("its floating-point values are not all finite")
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if value_range is None and not floating:
        white = 2 ** (bits or 8 * values.dtype.itemsize) - 1
        levels = (values.astype(np.uint64) * np.uint64(510) + np.uint64(white)) // np.uint64(
            2 * white
        )
        return np.asarray(levels, np.uint8)
    low, high = value_range or (0, 1)
    if value_range is None:
        lowest, highest = values.min().item(), values.max().item()
        if lowest < low or highest > high:
            raise FormatError(
                f"its floating-point values run from {lowest:.7g} to {highest:.7g}, outside 0 to "
                f"1; give the values of black and white by --value-range, such as 0 255"
            )
    share = (values.astype(np.float64) - low) / (high - low)
    return np.asarray(np.rint(np.clip(share, 0, 1) * 255), np.uint8)
