"""Bands and depths: how the raw values of an image become 8-bit RGB.

Satellites and aircraft deliver more than three bands, and more than 8 bits. Such a file leaves open
which bands are red, green and blue and which values are black and white; ``ImageFormat`` tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

PAPER = "paper"
RGB = "rgb"
# Of infrared, green, blue and red, the order of the aerial tiles of TreeSatAI.
TRUE_COLOR = (4, 2, 3)


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
    """

    bands: str | tuple[int, int, int] = PAPER
    value_range: tuple[float, float] | None = None

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


def to_eight_bits(
    values: npt.NDArray[Any], value_range: tuple[float, float] | None = None, bits: int = 0
) -> npt.NDArray[np.uint8]:
    """Scale values of any type to 0..255, rounded to the nearest.

    Without a range, unsigned integers of up to 16 bits are scaled by their depth; other integers
    are taken for 8 bits if all fit, else for 16; floats for 0..1 if all fit, else for 0..255.

    Args:
        values: Of any shape.
        value_range: As in ``ImageFormat``.
        bits: Depth of unsigned integers, if less than that of their type.

    Raises:
        FormatError: If the values are complex or not finite, or do not tell their range.
    """
    if values.dtype == np.uint8 and bits in (0, 8):
        return values
    if values.dtype.kind not in "buif":
        raise FormatError(f"its values are of the type {values.dtype}")
    floating = values.dtype.kind == "f"
    if floating and not np.isfinite(values).all():
        raise FormatError("its floating-point values are not all finite")
    if value_range is not None:
        low, high = value_range
        share = (values.astype(np.float64) - low) / (high - low)
        return np.asarray(np.rint(np.clip(share, 0, 1) * 255), np.uint8)
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        white = 2 ** (bits or 8 * values.dtype.itemsize) - 1
        levels = (values.astype(np.uint32) * 510 + white) // (2 * white)
        return np.asarray(levels, np.uint8)
    low, high, white = values.min().item(), values.max().item(), 255 if floating else 65535
    if low < 0 or high > white:
        type_name = "floating-point" if floating else f"{8 * values.dtype.itemsize}-bit"
        raise FormatError(
            f"its {type_name} values run from {low:.7g} to {high:.7g}, outside 0 to {white}; give "
            f"the values of black and white by --value-range"
        )
    if floating:
        return np.asarray(np.rint(values * (255 if high <= 1 else 1)), np.uint8)
    return to_eight_bits(values.astype(np.uint16 if high > 255 else np.uint8))
