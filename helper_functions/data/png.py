"""Plain PNGs by a faster decoder: the same pixels as Pillow's, in about half the time."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

import imagecodecs
from PIL import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BIT_RGB = (8, 2)  # bit depth and colour type
# What may stand beside the pixels without a say in what is shown. Not: transparency, animation, and
# text, where an orientation may stand.
_HARMLESS = {
    b"IHDR",
    b"IDAT",
    b"IEND",
    b"gAMA",
    b"cHRM",
    b"sRGB",
    b"iCCP",
    b"pHYs",
    b"bKGD",
    b"tIME",
}


def _chunks(content: bytes) -> Iterator[bytes]:
    """Types of the chunks of a PNG, up to its end or to where it is cut off."""
    place = len(_SIGNATURE)
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        yield kind
        place += 12 + length


def decode_plain_png(file: IO[bytes]) -> Image.Image | None:
    """Decode a file if it is a PNG of three bands of 8 bits and nothing else.

    Args:
        file: At its start; it is rewound.

    Returns:
        The picture in mode RGB, upright. ``None`` if it is something else, damaged, or too large:
        Pillow reads it then, or says what is wrong.
    """
    start = file.read(26)
    file.seek(0)
    if len(start) < 26 or not start.startswith(_SIGNATURE) or start[12:16] != b"IHDR":
        return None
    width, height, *form = struct.unpack_from(">IIBB", start, 16)
    limit = Image.MAX_IMAGE_PIXELS
    if tuple(form) != _EIGHT_BIT_RGB or (limit is not None and width * height > limit):
        return None
    content = file.read()
    file.seek(0)
    if not set(_chunks(content)) <= _HARMLESS:
        return None
    try:
        pixels = imagecodecs.spng_decode(content)
    except (imagecodecs.SpngError, ValueError):
        return None
    return Image.fromarray(pixels) if pixels.shape == (height, width, 3) else None
