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
import numpy.typing as npt
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, SAMPLESPERPIXEL, TiffImageFile

from helper_functions.data.bands import PAPER, FormatError, ImageFormat, choose_bands, to_eight_bits

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION = 274
_IMAGE_DEPTH = 32997

# It reports oddities of a file to the log; what matters is raised as well.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def is_tiff(file: IO[bytes]) -> bool:
    """Whether a file starts like a TIFF; it is rewound."""
    start = file.read(4)
    file.seek(0)
    return start in _MAGIC


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


def read_tiff(file: IO[bytes], image_format: ImageFormat) -> tuple[Image.Image, object]:
    """Decode the first image of a TIFF from its raw values.

    Args:
        file: The file, at its start.
        image_format: Which bands to take, and what is black and white.

    Returns:
        The image in mode RGB as stored, and its orientation (as in EXIF).

    Raises:
        FormatError: If it is damaged, or its bands or values do not make an image.
    """
    with _open_page(file) as page:
        values = to_eight_bits(
            choose_bands(_read_bands(page), image_format),
            image_format.value_range,
            page.bitspersample,
        )
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            values = 255 - values
        orientation = page.tags.valueof(_ORIENTATION, default=1)
    return Image.fromarray(np.ascontiguousarray(values)), orientation


def check_tiff(file: IO[bytes]) -> None:
    """Read the header only.

    Raises:
        FormatError: As ``read_tiff``.
    """
    with _open_page(file):
        pass


@contextmanager
def _open_page(file: IO[bytes]) -> Iterator[Any]:
    """Open the first page of a TIFF, of a size that can be decoded."""
    try:
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            _check_size(page)
            yield page
    except (FormatError, MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:  # It raises whatever it runs into in a damaged file.
        detail = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise FormatError(f"tifffile cannot decode it ({detail})") from error


def _check_size(page: Any) -> None:
    """Compare an image with Pillow's limit before anything of its size is allocated."""
    pixels = page.imagewidth * page.imagelength * page.imagedepth
    limit = Image.MAX_IMAGE_PIXELS
    # A file of hundreds of bands may be as large as an image of the limit with four.
    if limit is not None and (pixels > limit or pixels * page.samplesperpixel > 4 * limit):
        raise Image.DecompressionBombError


def _read_bands(page: Any) -> npt.NDArray[Any]:
    """Read the values of a page, (h, w, bands)."""
    values: npt.NDArray[Any] = page.asarray()
    match page.axes:
        case "YX":
            return values[..., None]
        case "YXS":
            return values
        case "SYX":
            return np.moveaxis(values, 0, -1)
    raise FormatError(f"it is a volume, with the axes {page.axes}")
