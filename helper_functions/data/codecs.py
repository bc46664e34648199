"""Raw values of PNG, JPEG, JPEG 2000, AVIF and PNM that Pillow does not know or reads with loss.

Pillow makes 8 bits of deep colors, so that ``--value-range`` would come too late; of JPEG 2000 it
reads less than 8 bits as too dark, white of more than 8 as black, and signed values as unsigned;
JPEGs of 12 bits and lossless ones it does not decode, and other formats only if it was built with
their libraries.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from typing import IO, Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image, features
from PIL.PpmImagePlugin import PpmImageFile

from helper_functions.data.bands import FormatError, ImageFormat, check_size, check_type

_CODESTREAM = b"\xff\x4f\xff\x51"  # how that of JPEG 2000 begins
_JPEG2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", _CODESTREAM)
# Enumerated color spaces of JPEG 2000 that OpenJPEG leaves as they are though they are not RGB.
_OTHER_SPACES = {1: "YCbCr", 3: "YCbCr", 4: "YCbCr", 11: "CMY", 13: "YCCK", 14: "Lab"}
_OTHER_SPACES |= {19: "Jab", 24: "e-sYCC"}


@dataclass(frozen=True)
class RawFile:
    """A file whose header has been read, and how its values are decoded."""

    format: str  # as Pillow calls it
    content: bytes
    width: int
    height: int
    bands: int
    bits: int
    signed: bool = False
    space: str = ""  # of colors, if they are neither gray nor RGB
    exif: bytes = b""
    pixels: int = 0  # where they begin, in PNM; in JPEG a place before

    def check(self, image_format: ImageFormat) -> None:
        """Refuse what the header tells to be no image that can be read.

        Raises:
            FormatError: With the reason.
        """
        check_size(self.width, self.height, self.bands, image_format)
        letter = "i" if self.signed else "u"
        check_type(np.dtype(f"{letter}{1 if self.bits <= 8 else 2}"), self.bits, image_format)
        if self.space:
            raise FormatError(f"its colors are of the kind {self.space}, which is not supported")

    def decode(self) -> npt.NDArray[Any]:
        """Return the values, (h, w, bands).

        Raises:
            FormatError: If they are damaged.
        """
        if self.format == "PPM":
            values = self._decode_pnm()
        else:
            # Of a truncated JPEG the decoder makes up the rest.
            if self.format == "JPEG" and self.content.find(b"\xff\xd9", self.pixels) < 0:
                raise FormatError("its data are truncated")
            name = {"PNG": "png", "JPEG": "jpeg8", "JPEG2000": "jpeg2k", "AVIF": "avif"}
            try:
                values = getattr(imagecodecs, f"{name[self.format]}_decode")(self.content)
            except (RuntimeError, ValueError) as error:
                raise FormatError(f"imagecodecs cannot decode it ({error})") from error
        if values.shape[:2] != (self.height, self.width):
            raise FormatError("its header contradicts its data")
        return values if values.ndim == 3 else values[..., None]

    def _decode_pnm(self) -> npt.NDArray[np.uint16]:
        data, shape = self.content[self.pixels :], (self.height, self.width, self.bands)
        count = self.height * self.width * self.bands
        if self.content[:2] in (b"P5", b"P6"):
            numbers = np.frombuffer(data[: 2 * count], ">u2")
        else:
            numbers = np.array(re.sub(rb"#[^\r\n]*", b" ", data).split()[:count], np.int64)
        if len(numbers) != count:
            raise FormatError("its data are truncated")
        return numbers.reshape(shape).astype(np.uint16)


def find_raw(
    image: Image.Image | None, file: IO[bytes], image_format: ImageFormat
) -> RawFile | None:
    """Return a file that is to be decoded from its raw values; ``None``: by Pillow, if at all.

    Args:
        image: As Pillow opened it; ``None`` if it could not.
        file: The same; its position is restored.
        image_format: With a value range, all files of more than 8 bits are to be.
    """
    ranged = image_format.value_range is not None
    if image is None:
        raw = _read_header(file)
        return raw if raw and (raw.format == "JPEG" or not _built(raw.format)) else None
    if isinstance(image, PpmImageFile) and ranged:
        return _pnm(image, file)
    if image.format == "JPEG2000" or (image.format in ("PNG", "AVIF") and ranged):
        raw = _read_header(file)
        if raw is None or image.mode in ("P", "PA"):
            return None
        if image.mode == "CMYK":
            return None if raw.bits == 8 else replace(raw, space="CMYK, not of 8 bits")
        odd = raw.format == "JPEG2000" and (raw.bits != 8 or raw.signed or raw.space)
        deep = ranged and raw.bits > 8
        return raw if odd or deep or not _built(raw.format) else None
    return None


def _built(name: str) -> bool:
    """Whether Pillow was built with the library of a format."""
    library = {"JPEG2000": "jpg_2000", "AVIF": "avif"}.get(name)
    return library is None or bool(features.check(library))


def _content(file: IO[bytes]) -> bytes:
    position = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(position)
    return content


def _read_header(file: IO[bytes]) -> RawFile | None:
    """Read the header of any format but PNM; ``None`` if it is none of them or damaged."""
    content = _content(file)
    try:
        if content[:8] == b"\x89PNG\r\n\x1a\n":
            width, height, bits, color = struct.unpack_from(">IIBB", content, 16)
            return RawFile("PNG", content, width, height, {2: 3, 4: 2, 6: 4}.get(color, 1), bits)
        if content.startswith(_JPEG2000):
            return _jpeg2000(content)
        if content[4:12] in (b"ftypavif", b"ftypavis"):
            return _avif(content)
        if content[:2] == b"\xff\xd8":
            return _jpeg(content)
    except (struct.error, IndexError, ValueError):
        pass
    return None


def _jpeg2000(content: bytes) -> RawFile:
    """Read the marker SIZ of a codestream, and the color space of the file around it."""
    start = content.find(_CODESTREAM)
    if start < 0:
        raise IndexError
    right, bottom, left, top = struct.unpack_from(">4I", content, start + 8)
    (bands,) = struct.unpack_from(">H", content, start + 40)
    depths = content[start + 42 : start + 42 + 3 * bands : 3]
    bits, signed = max(depth & 127 for depth in depths) + 1, any(depth & 128 for depth in depths)
    box = content.find(b"colr\1", 0, start)
    number = 0 if box < 0 else struct.unpack_from(">I", content, box + 7)[0]
    space = _OTHER_SPACES.get(number, "")
    return RawFile("JPEG2000", content, right - left, bottom - top, bands, bits, signed, space)


def _avif(content: bytes) -> RawFile:
    """Read size and depth from the properties of the items; the largest is the image."""
    sizes = [
        struct.unpack_from(">II", content, found.end() + 4)
        for found in re.finditer(b"ispe", content[:65536])
    ]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    flags = content[content.index(b"av1C") + 6]
    bits = (12 if flags & 32 else 10) if flags & 64 else 8
    return RawFile("AVIF", content, width, height, 3, bits)


def _jpeg(content: bytes) -> RawFile | None:
    """Read the frame header; ``None`` for what every decoder of JPEGs knows."""
    position, exif = 2, b""
    while content[position] == 0xFF:
        marker, length = content[position + 1], *struct.unpack_from(">H", content, position + 2)
        segment = content[position + 4 : position + 2 + length]
        if marker == 0xE1 and segment.startswith(b"Exif\0\0"):
            exif = segment
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, bands = struct.unpack_from(">BHHB", segment)
            if bits == 8 and marker != 0xC3:
                return None
            space = "CMYK, in a JPEG that is lossless or not of 8 bits" if bands == 4 else ""
            size = (width, height)
            return RawFile("JPEG", content, *size, bands, bits, False, space, exif, position)
        position += 2 + length
    return None


def _pnm(image: PpmImageFile, file: IO[bytes]) -> RawFile | None:
    """Take the header from Pillow; ``None`` for 8 bits, and for what is no gray or RGB."""
    arguments: Any = image.tile[0].args
    content = _content(file)
    known = content[:2] in (b"P2", b"P3", b"P5", b"P6")
    if not known or (arguments != "I;16B" and (arguments in ("L", "RGB") or arguments[-1] < 256)):
        return None
    bands, start = len(image.getbands()), image.tile[0].offset
    return RawFile("PPM", content, *image.size, bands, 16, pixels=start)
