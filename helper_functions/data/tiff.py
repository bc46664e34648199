"""Read TIFF files that Pillow does not know or would read with loss: many bands, deep colors.

Pillow opens some files of four bands as color with transparency or as CMYK, others not at all, and
of deep colors it reads the upper 8 bits. This module reads their raw values.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import tifffile
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, SAMPLESPERPIXEL, TiffImageFile

from helper_functions.data.bands import PAPER, FormatError, ImageFormat, choose_bands, to_eight_bits

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION, _IMAGE_DEPTH = ExifTags.Base.Orientation, 32997

# It reports oddities of a file to the log; what matters is raised as well.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def is_tiff(file: IO[bytes]) -> bool:
    """Whether a file starts like a TIFF."""
    file.seek(0)
    return file.read(4) in _MAGIC


def is_faithful(image: Image.Image, image_format: ImageFormat) -> bool:
    """Whether Pillow reads an opened TIFF without loss, and the bands as they are asked for."""
    if not isinstance(image, TiffImageFile):
        return True
    bands = image.tag_v2.get(SAMPLESPERPIXEL, 1)
    bits = set(image.tag_v2.get(BITSPERSAMPLE, (1,)))
    volume = image.tag_v2.get(_IMAGE_DEPTH, 1) > 1
    if volume or (bands > 3 and image_format.bands != PAPER):
        return False
    return max(bits) <= 8 or (bands == 1 and bits <= {16, 32})


def read_tiff(file: IO[bytes], image_format: ImageFormat) -> Image.Image:
    """Decode the first image of a TIFF from its raw values, in mode RGB, with its EXIF orientation.

    Raises:
        FormatError: If it is damaged, or its bands or values do not make an image.
    """
    with open_page(file) as page:
        if page.axes not in ("YX", "YXS", "SYX"):
            raise FormatError(f"it is a volume, with the axes {page.axes}")
        values = page.asarray()
        if page.axes == "YX":
            values = values[..., None]
        elif page.axes == "SYX":
            values = np.moveaxis(values, 0, -1)
        bands = choose_bands(values, image_format)
        levels = to_eight_bits(bands, image_format.value_range, page.bitspersample)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            levels = 255 - levels
        image = Image.fromarray(levels)
        image.getexif()[_ORIENTATION] = page.tags.valueof(_ORIENTATION, default=1)
    return image


@contextmanager
def open_page(file: IO[bytes]) -> Iterator[Any]:
    """Open the first page of a TIFF, of a size that can be decoded.

    Raises:
        FormatError: If it is damaged.
    """
    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            # Before anything of its size is allocated. A file of hundreds of bands may be as large
            # as an image of the limit with four.
            pixels = page.imagewidth * page.imagelength * page.imagedepth
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and (pixels > limit or pixels * page.samplesperpixel > 4 * limit):
                raise Image.DecompressionBombError
            yield page
    except (FormatError, MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:  # It raises whatever it runs into in a damaged file.
        detail = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise FormatError(f"tifffile cannot decode it ({detail})") from error
