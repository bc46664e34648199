"""Read image files: any format, mode and depth to 8-bit RGB, or a sentence that tells why not."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import imagecodecs
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from helper_functions.data.bands import (
    FormatError,
    ImageFormat,
    check_size,
    check_type,
    choose_bands,
    to_eight_bits,
)
from helper_functions.data.codecs import RawFile, find_raw
from helper_functions.data.folders import missing_hint
from helper_functions.data.tiff import is_faithful, is_tiff, read_tiff

# What Pillow may tell of a PNG whose pixels are shown as they are; not among it: transparency,
# animation, and EXIF or text, where an orientation may be.
_PLAIN_PNG_INFO = frozenset(("gamma", "chromaticity", "srgb", "icc_profile", "dpi", "aspect"))


class ImageError(Exception):
    """An image file that cannot be read; the reason is a clause without a full stop."""

    index: int = -1  # position among the samples of a data set, which sets it

    def __init__(self, path: Path, reason: str) -> None:
        # Both go to Exception.args, which is what pickle rebuilds the error from.
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"Cannot read the image {self.path}: {self.reason}."


DEFAULT = ImageFormat()
ORIENTATION = ExifTags.Base.Orientation


@dataclass
class _Lifted:
    """How many threads read images, and Pillow's limit until they are done."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    readers: int = 0
    limit: int | None = None


_LIFTED = _Lifted()


def read_image(path: Path, image_format: ImageFormat = DEFAULT) -> Image.Image:
    """Decode an image file of any mode to 8-bit RGB, upright by its EXIF orientation.

    Of an animation the first frame is read. Transparency is dropped without blending: the color
    under transparent pixels is kept, as by the released code. Values of more than 8 bits are scaled
    by `bands.to_eight_bits`; of color PNGs with 16 bits the upper 8 are taken, unless a range of
    values is given.

    Raises:
        ImageError: The file is missing, a directory, empty, truncated, not an image or larger than
            the format allows; or it lacks a band that is asked for, or its values do not tell what
            is black and white.
    """
    image = _attempt(path, image_format, header_only=False)
    assert image is not None
    return image


def image_problem(path: Path, image_format: ImageFormat = DEFAULT) -> ImageError | None:
    """Return what keeps a file from being read, as far as its header tells; decode nothing."""
    try:
        _attempt(path, image_format, header_only=True)
    except ImageError as error:
        return error
    return None


def _attempt(path: Path, image_format: ImageFormat, *, header_only: bool) -> Image.Image | None:
    """Read a file, whose errors become ``ImageError``; ``None`` if only its header is to be."""
    try:
        with warnings.catch_warnings(), without_limit(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # on odd metadata, which decides nothing
            if os.fstat(file.fileno()).st_size == 0:
                raise ImageError(path, "it is empty (0 bytes)")
            return _read(file, image_format, header_only=header_only)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # On a damaged file Pillow's decoders raise whatever they run into.
        raise ImageError(path, _reason(error)) from error


def _read(file: IO[bytes], image_format: ImageFormat, *, header_only: bool) -> Image.Image | None:
    """Open, decode, turn upright and convert; errors are those of the decoders and the system."""
    try:
        opened = Image.open(file)
    except UnidentifiedImageError:
        if is_tiff(file):
            return read_tiff(file, image_format, header_only=header_only)
        if (raw := find_raw(None, file, image_format)) is None:
            raise
        return _read_raw(raw, None, image_format, header_only=header_only)
    with opened as image:
        # Which decoder
        if not is_faithful(image, image_format):
            return read_tiff(file, image_format, header_only=header_only)
        check_size(*image.size, len(image.getbands()), image_format)
        if raw := find_raw(image, file, image_format):
            return _read_raw(raw, image, image_format, header_only=header_only)
        if image.mode == "I" and image.format != "PPM":
            check_type(np.dtype(np.int32), 32, image_format)
        if image_format.numbers is not None:  # Of the three that it is converted to.
            choose_bands(np.empty((0, 0, 3), np.uint8), image_format)
        if header_only:
            return None

        # The pixels
        rgb = _decode_plain_png(image, file)
        if rgb is None:
            try:
                rgb = _decode_by_pillow(image, image_format)
            except OSError:
                if image.format != "JPEG" or (raw := find_raw(None, file, image_format)) is None:
                    raise
                return _read_raw(raw, image, image_format, header_only=False)
        if image_format.numbers is not None:
            return Image.fromarray(choose_bands(np.asarray(rgb), image_format))
        return rgb


@contextlib.contextmanager
def without_limit() -> Iterator[None]:
    """Lift Pillow's limit of pixels, which all threads share: here sizes have one of their own."""
    with _LIFTED.lock:
        if not _LIFTED.readers:
            _LIFTED.limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _LIFTED.readers += 1
    try:
        yield
    finally:
        with _LIFTED.lock:
            _LIFTED.readers -= 1
            if not _LIFTED.readers:
                Image.MAX_IMAGE_PIXELS = _LIFTED.limit


def _read_raw(
    raw: RawFile, opened: Image.Image | None, image_format: ImageFormat, *, header_only: bool
) -> Image.Image | None:
    """Decode a file from its raw values; its orientation is known to Pillow, if that opened it."""
    raw.check(image_format)
    choose_bands(np.empty((0, 0, max(3, raw.bands)), np.uint8), image_format)
    if header_only:
        return None
    bands = choose_bands(raw.decode(), image_format)
    image = Image.fromarray(to_eight_bits(bands, image_format.value_range, raw.bits))
    with contextlib.suppress(SyntaxError, struct.error):
        exif = image.getexif()
        if opened is not None:
            exif[ORIENTATION] = opened.getexif().get(ORIENTATION, 1)
        else:
            exif.load(raw.exif)
    _turn_upright(image)
    return image


def _decode_plain_png(image: Image.Image, file: IO[bytes]) -> Image.Image | None:
    """Decode a PNG of three bands of 8 bits in about half the time that Pillow takes.

    Returns:
        ``None`` if it is something else, may be turned by metadata, or is damaged: Pillow reads it
        then, or tells what is wrong. The position in the file is restored.
    """
    if not isinstance(image, PngImageFile) or image.tile[0].args != "RGB":
        return None
    position = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(position)
    # Pillow has read what stands before the pixels; behind them nothing may stand.
    chunk = image.tile[0].offset - 8
    while content[chunk + 4 : chunk + 8] == b"IDAT":
        chunk += 12 + int.from_bytes(content[chunk : chunk + 4])
    if content[chunk + 4 : chunk + 8] != b"IEND" or not _PLAIN_PNG_INFO.issuperset(image.info):
        return None
    try:
        return Image.fromarray(imagecodecs.spng_decode(content))
    except (imagecodecs.SpngError, ValueError):
        return None


def _decode_by_pillow(image: Image.Image, image_format: ImageFormat) -> Image.Image:
    """Decode an opened image, turn it upright and convert it to RGB."""
    image.load()
    # Else Pillow carries the transparent color along to RGB, with a warning for palettes.
    image.info.pop("transparency", None)
    _turn_upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        # More than 8 bits, which Pillow's own convert would clip at 255.
        values = np.asarray(image)
        if image.format == "PPM" and image.mode == "I":  # which Pillow has scaled to 16 bits
            values = values.astype(np.uint16)
        image = Image.fromarray(to_eight_bits(values, image_format.value_range))
    if image.mode == "La":  # gray multiplied by transparency, which has no way to RGB
        image = image.convert("LA")
    return image.convert("RGB")


def _turn_upright(image: Image.Image) -> None:
    """Undo the camera's orientation; a good image is no worse for bad metadata."""
    with contextlib.suppress(SyntaxError, struct.error):
        ImageOps.exif_transpose(image, in_place=True)


def _reason(error: Exception) -> str:
    """Return in a clause why a file could not be read."""
    match error:
        case FileNotFoundError():
            hint = missing_hint(Path(error.filename)) if error.filename else ""
            return f"there is no such file{hint}"
        case IsADirectoryError():
            return "it is a directory"
        case UnidentifiedImageError():
            return "it is not in an image format that Pillow knows"
        case FormatError():
            return str(error)
        case OSError(errno=int()):
            return f"the system refuses it ({error.strerror})"
    detail = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if detail.startswith("decoder error -"):  # a number that tells nothing
        detail = "its data are damaged, or of a kind that Pillow does not know"
    return f"Pillow cannot decode it ({detail})"
