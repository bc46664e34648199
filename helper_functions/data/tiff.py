"""Read TIFF files that Pillow does not know or would read with loss.

Pillow opens some files of four bands as color with transparency or as CMYK, others not at all; of
deep colors it reads the upper 8 bits, and of some compressions nothing. This module reads their
raw values, and makes colors of them as Pillow does of 8 bits.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import ExifTags, Image, ImageOps, _imaging
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    TiffImageFile,
)
from tifffile import PHOTOMETRIC

from helper_functions.data.bands import (
    PAPER,
    RGB,
    FormatError,
    ImageFormat,
    check_size,
    check_type,
    choose_bands,
    to_eight_bits,
)

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION, _IMAGE_DEPTH = ExifTags.Base.Orientation, 32997
_INK_SET, _YCBCR_COEFFICIENTS, _BLACK_AND_WHITE = 332, 529, 532
# What every libtiff decodes: none, CCITT, LZW, JPEG (old and new), Deflate, 16-bit padding,
# PackBits, ThunderScan. Whether Pillow's knows others depends on how it was built.
_BASELINE = {1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946}
# Their decoders return RGB.
_RGB_CODECS = {6, 7, 33007, 34892, 34933, 34934, 50001, 50002, 52546}
_LAB = {PHOTOMETRIC.CIELAB, PHOTOMETRIC.ICCLAB}
_KNOWN = _LAB | {
    *(PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE),
    *(PHOTOMETRIC.SEPARATED, PHOTOMETRIC.YCBCR),
}

# Both report oddities of a file to the log; what matters is raised as well.
for _name in ("tifffile", "PIL"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)
# So does Pillow's libtiff, on the terminal. Where its functions cannot be found it goes on to.
with contextlib.suppress(AttributeError, OSError, TypeError):
    _libtiff = ctypes.CDLL(_imaging.__file__)
    _libtiff.TIFFSetErrorHandler(None)
    _libtiff.TIFFSetWarningHandler(None)


def is_tiff(file: IO[bytes]) -> bool:
    """Whether a file starts like a TIFF."""
    file.seek(0)
    return file.read(4) in _MAGIC


def is_faithful(image: Image.Image, image_format: ImageFormat) -> bool:
    """Whether Pillow reads an opened TIFF without loss, and the bands as they are asked for."""
    if not isinstance(image, TiffImageFile):
        return True
    tags = image.tag_v2
    volume = tags.get(_IMAGE_DEPTH, 1) > 1
    # Of bands one after the other Pillow knows RGB and CMYK; of the rest it takes the first alone.
    if volume or tags.get(PLANAR_CONFIGURATION, 1) != 1:
        return False
    if tags.get(SAMPLESPERPIXEL, 1) > 3 and image_format.bands != PAPER:
        return False
    unsigned = set(tags.get(SAMPLEFORMAT, (1,))) <= {1, 4}  # 4: undefined
    return (
        unsigned
        and max(tags.get(BITSPERSAMPLE, (1,))) <= 8
        and tags.get(COMPRESSION, 1) in _BASELINE
    )


def read_tiff(
    file: IO[bytes], image_format: ImageFormat, *, header_only: bool = False
) -> Image.Image | None:
    """Decode the first image of a TIFF from its raw values, upright and in mode RGB.

    Returns:
        ``None`` if only the header is to be read.

    Raises:
        FormatError: If it is damaged, or its bands or values do not make an image.
    """
    with _open_page(file) as page:
        _check(page, image_format)
        if header_only:
            return None
        values = page.asarray()
        if page.axes == "YX":
            values = values[..., None]
        elif page.axes == "SYX":
            values = np.moveaxis(values, 0, -1)
        image = Image.fromarray(_colors(page, values, image_format))
        image.getexif()[_ORIENTATION] = page.tags.valueof(_ORIENTATION, default=1)
    return ImageOps.exif_transpose(image)


@contextlib.contextmanager
def _open_page(file: IO[bytes]) -> Iterator[Any]:
    """Open the first page of a TIFF.

    Raises:
        FormatError: If it is damaged.
    """
    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            yield tiff.pages.first
    except (FormatError, MemoryError):
        raise
    except LookupError as error:
        raise FormatError("it lacks a part of its header: it is truncated or damaged") from error
    except Exception as error:  # It raises whatever it runs into in a damaged file.
        detail = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise FormatError(f"tifffile cannot decode it ({detail})") from error


def _check(page: Any, image_format: ImageFormat) -> None:
    """Refuse what the header tells to be no image, or one whose colors are not known.

    Raises:
        FormatError: With the reason.
    """
    bands = page.samplesperpixel
    check_size(page.imagewidth, page.imagelength * page.imagedepth, bands, image_format)
    if page.axes not in ("YX", "YXS", "SYX"):
        raise FormatError(f"it is a volume, with the axes {page.axes}")
    if page.dtype is None:
        raise FormatError(
            f"its values, of {page.bitspersample} bits and the sample format {page.sampleformat}, "
            f"are of no known type"
        )
    if page.dtype.kind == "u" and 16 < _bits(page) < 32:
        raise FormatError(f"its values have {_bits(page)} bits, which is not supported")
    photometric = page.photometric
    if photometric not in _KNOWN:
        name = getattr(photometric, "name", photometric)
        raise FormatError(f"its colors are of the kind {name}, which is not supported")
    if photometric == PHOTOMETRIC.PALETTE:
        if page.colormap is None:
            raise FormatError("its values are indices, but it has no palette")
        return
    check_type(page.dtype, _bits(page), image_format)
    # Bands are raw, so their number is checked; colors that are converted become three.
    if photometric in _LAB or photometric == PHOTOMETRIC.YCBCR:
        if bands < 3:
            raise FormatError(f"its colors are of the kind {photometric.name} in {bands} bands")
        if photometric in _LAB and not (page.dtype.kind in "ui" and _bits(page) in (8, 16)):
            raise FormatError(f"its Lab colors are of the type {page.dtype}, not of 8 or 16 bits")
        bands = 3
    elif photometric == PHOTOMETRIC.SEPARATED and _as_colors(page, image_format):
        if bands < 4 or page.tags.valueof(_INK_SET, default=1) != 1:
            raise FormatError(
                f"its {bands} inks are not cyan, magenta, yellow and black; choose three by --bands"
            )
        bands = 3
    if photometric == PHOTOMETRIC.YCBCR and not _decodes_to_rgb(page):
        if page.is_subsampled:
            raise FormatError("its YCbCr colors are subsampled, which is supported in JPEG only")
        _check_ycbcr(page)
    choose_bands(np.empty((0, 0, bands), np.uint8), image_format)


def _decodes_to_rgb(page: Any) -> bool:
    """Whether a page of YCbCr colors comes as RGB out of its decoder."""
    return page.compression in _RGB_CODECS and page.planarconfig == tifffile.PLANARCONFIG.CONTIG


def _bits(page: Any) -> int:
    """Return the depth of a page's values as tifffile gives them."""
    uniform = isinstance(page.bitspersample, int)  # others are scaled to their type
    return int(page.bitspersample if uniform else 8 * page.dtype.itemsize)


def _check_ycbcr(page: Any) -> None:
    """Refuse luminance and chrominance that are not those of JPEG."""
    coefficients = page.tags.valueof(_YCBCR_COEFFICIENTS, default=(299, 1000, 587, 1000, 114, 1000))
    shares = np.reshape(coefficients, (3, 2))
    white = 2 ** _bits(page) - 1
    gray = (white + 1) // 2
    limits = np.reshape(
        page.tags.valueof(_BLACK_AND_WHITE, default=(0, 1, white, 1, *(gray, 1, white, 1) * 2)),
        (6, 2),
    )
    same = np.allclose(shares[:, 0] / shares[:, 1], (0.299, 0.587, 0.114), atol=1e-3)
    expected = (0, white, gray, white, gray, white)
    if not (same and np.allclose(limits[:, 0] / limits[:, 1], expected, atol=white / 255 / 2)):
        raise FormatError("its YCbCr colors are not those of JPEG, which is not supported")


def _as_colors(page: Any, image_format: ImageFormat) -> bool:
    """Whether inks and transparency count, as in Pillow, and not bands as they are stored."""
    raw = image_format.bands == RGB and page.samplesperpixel == 4
    return image_format.numbers is None and not raw


def _colors(page: Any, values: npt.NDArray[Any], image_format: ImageFormat) -> npt.NDArray[Any]:
    """Return red, green and blue of a page's raw values, (h, w, bands) -> uint8 (h, w, 3)."""
    bits, photometric = _bits(page), page.photometric
    value_range = image_format.value_range
    if photometric == PHOTOMETRIC.PALETTE:
        # Of 16 bits, the upper 8, as Pillow does: both 255 * 256 and 65535 are white.
        levels = (np.asarray(page.colormap).T >> 8).astype(np.uint8)[values[..., 0]]
        return choose_bands(levels, image_format)
    if photometric in _LAB:
        lab = _to_eight_bit_lab(values[..., :3], bits, icc=photometric == PHOTOMETRIC.ICCLAB)
        return choose_bands(_convert(lab, "LAB"), image_format)
    if photometric == PHOTOMETRIC.YCBCR:
        levels = to_eight_bits(values[..., :3], value_range, bits)
        if not _decodes_to_rgb(page):
            levels = _convert(levels, "YCbCr")
        return choose_bands(levels, image_format)
    if _as_colors(page, image_format):
        if photometric == PHOTOMETRIC.SEPARATED:
            return _convert(to_eight_bits(values[..., :4], value_range, bits), "CMYK")
        values = _unpremultiply(page, values)
    levels = to_eight_bits(choose_bands(values, image_format), value_range, bits)
    return 255 - levels if photometric == PHOTOMETRIC.MINISWHITE else levels


def _convert(levels: npt.NDArray[np.uint8], mode: str) -> npt.NDArray[np.uint8]:
    """Convert 8-bit colors of one of Pillow's modes to RGB."""
    height, width = levels.shape[:2]
    image = Image.frombytes(mode, (width, height), np.ascontiguousarray(levels).tobytes())
    return np.asarray(image.convert("RGB"))


def _to_eight_bit_lab(values: npt.NDArray[Any], bits: int, *, icc: bool) -> npt.NDArray[np.uint8]:
    """Return Lab colors as Pillow reads them: L* from 0 to 255, a* and b* as signed bytes.

    In CIELab a* and b* are signed, and L* is white at the end of its type; in ICCLab all are
    unsigned, a* and b* are 0 at the middle, and 16-bit L* is white at 0xFF00.
    """
    if icc:
        middle = 2 ** (bits - 1)
        light, chroma = values[..., :1].astype(np.int32), values[..., 1:].astype(np.int32) - middle
        white = 255 if bits == 8 else 0xFF00
    else:
        unsigned = values.view(f"u{values.dtype.itemsize}")
        light, white = unsigned[..., :1].astype(np.int32), 2**bits - 1
        chroma = unsigned[..., 1:].view(f"i{values.dtype.itemsize}").astype(np.int32)
    light = np.rint(np.minimum(light / white, 1) * 255)
    chroma = np.clip(np.rint(chroma / 2 ** (bits - 8)), -128, 127)
    return np.concatenate([light, chroma], -1).astype(np.int64).astype(np.uint8)


def _unpremultiply(page: Any, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Divide colors by their transparency, where they were multiplied with it; opaque is 1."""
    extra = list(page.extrasamples)
    if tifffile.EXTRASAMPLE.ASSOCALPHA not in extra:
        return values
    colors = values.shape[2] - len(extra)
    alpha = values[..., [colors + extra.index(tifffile.EXTRASAMPLE.ASSOCALPHA)]].astype(np.float64)
    integers = values.dtype.kind != "f"
    white = 2.0 ** (_bits(page) - (values.dtype.kind == "i")) - 1 if integers else 1.0
    share = np.divide(white, alpha, out=np.ones_like(alpha), where=alpha > 0)
    divided = values[..., :colors] * share
    # A color above its transparency is a fault of rounding in integers; floats tell their range.
    divided = np.where(integers | (values[..., :colors] <= alpha), divided.clip(max=white), divided)
    divided = np.rint(divided) if integers else divided
    return np.concatenate([divided.astype(values.dtype), values[..., colors:]], -1)
