"""TIFF files that Pillow does not know or would read with loss: many bands, deep colours.

Pillow opens some files of four bands as colour with transparency or as CMYK, others not at all, and
of deep colours it reads the upper 8 bits. Here such files give their raw values.
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

from helper_functions.data.bands import PAPER, Reading, ReadingError, choose_bands, to_eight_bits

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


def is_faithful(image: Image.Image, reading: Reading) -> bool:
    """Whether Pillow reads an opened TIFF without loss, and the bands as they are asked for."""
    if not isinstance(image, TiffImageFile):
        return True
    bands = image.tag_v2.get(SAMPLESPERPIXEL, 1)
    bits = set(image.tag_v2.get(BITSPERSAMPLE, (1,)))
    volume = image.tag_v2.get(_IMAGE_DEPTH, 1) > 1
    if volume or (bands > 3 and reading.bands != PAPER):
        return False
    return max(bits) <= 8 or (bands == 1 and bits <= {16, 32})


def read_tiff(file: IO[bytes], reading: Reading) -> tuple[Image.Image, object]:
    """Decode the first picture of a TIFF from its raw values.

    Args:
        file: The file, at its start.
        reading: Which bands to take, and what is black and white.

    Returns:
        The picture in mode RGB as stored, and its orientation (as in EXIF).

    Raises:
        ReadingError: If it is damaged, or its bands or values do not make a picture.
    """
    with _opened(file) as page:
        values = to_eight_bits(
            choose_bands(_as_bands(page), reading), reading.value_range, page.bitspersample
        )
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            values = 255 - values
        orientation = page.tags.valueof(_ORIENTATION, default=1)
    return Image.fromarray(np.ascontiguousarray(values)), orientation


def check_tiff(file: IO[bytes]) -> None:
    """Read the header only.

    Raises:
        ReadingError: As ``read_tiff``.
    """
    with _opened(file):
        pass


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[Any]:
    """The first page of a TIFF, of a size that can be decoded."""
    try:
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            _check_size(page)
            yield page
    except (ReadingError, MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:  # It raises whatever it runs into in a damaged file.
        detail = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ReadingError(f"tifffile cannot decode it ({detail})") from error


def _check_size(page: Any) -> None:
    """Hold a picture against Pillow's limit before anything of its size is allocated."""
    pixels = page.imagewidth * page.imagelength * page.imagedepth
    limit = Image.MAX_IMAGE_PIXELS
    # A file of hundreds of bands may be as large as a picture of the limit with four.
    if limit is not None and (pixels > limit or pixels * page.samplesperpixel > 4 * limit):
        raise Image.DecompressionBombError


def _as_bands(page: Any) -> npt.NDArray[Any]:
    """The values of a page, (h, w, bands)."""
    values: npt.NDArray[Any] = page.asarray()
    match page.axes:
        case "YX":
            return values[..., None]
        case "YXS":
            return values
        case "SYX":
            return np.moveaxis(values, 0, -1)
    raise ReadingError(f"it is a volume, with the axes {page.axes}")
