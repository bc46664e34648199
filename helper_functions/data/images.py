"""Read image files: any format, mode and depth to 8-bit RGB, or a sentence that tells why not."""

from __future__ import annotations

import contextlib
import os
import struct
import warnings
from pathlib import Path
from typing import IO

import imagecodecs
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from helper_functions.data.bands import FormatError, ImageFormat, choose_bands, to_eight_bits
from helper_functions.data.tiff import is_faithful, is_tiff, open_page, read_tiff
from helper_functions.runtime.errors import UserError

IMAGE_EXTENSIONS = frozenset(
    (".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg")
    + (".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)

_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height

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


def read_image(path: Path, image_format: ImageFormat = DEFAULT) -> Image.Image:
    """Decode an image file of any mode to 8-bit RGB, upright by its EXIF orientation.

    Of an animation the first frame is read. Transparency is dropped without blending: the color
    under transparent pixels is kept, as by the released code. Values of more than 8 bits are scaled
    by `bands.to_eight_bits`; of color PNGs with 16 bits the upper 8 are taken.

    Raises:
        ImageError: The file is missing, a directory, empty, truncated, not an image or so large
            that Pillow suspects a decompression bomb; or it lacks a band that is asked for, or its
            values do not tell what is black and white.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _decode(path, image_format)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # On a damaged file Pillow's decoders raise whatever they run into.
        raise ImageError(path, _reason(error)) from error


def image_problem(path: Path) -> ImageError | None:
    """Return what keeps a file from being read, as far as its header tells; decode nothing."""
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            try:
                with Image.open(file):
                    return None
            except UnidentifiedImageError:
                if not is_tiff(file):
                    raise
                with open_page(file):
                    return None
    except Exception as error:
        return ImageError(path, _reason(error))


def image_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image after EXIF rotation; decode as little as possible.

    Raises:
        ImageError: If the file is no image that can be read.
    """
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            try:
                with Image.open(file) as image:
                    width, height = image.size
                    with contextlib.suppress(SyntaxError, struct.error):
                        turned = image.getexif().get(ExifTags.Base.Orientation) in _TURNED
                        if turned and image.format != "TIFF":  # Pillow turns TIFFs itself.
                            return height, width
                    return width, height
            except UnidentifiedImageError:
                if not is_tiff(file):
                    raise
        width, height = read_image(path).size
        return width, height
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(path, _reason(error)) from error


def find_images(folder: Path) -> list[Path]:
    """List the image files under a folder by extension, sorted; skip hidden files and folders.

    Raises:
        UserError: If `folder` is not a folder or holds no image.
    """
    if not folder.is_dir():
        raise UserError(f"The image folder {folder} is not an existing folder: check the path.")
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not paths:
        raise UserError(
            f"The folder {folder} holds no image: put in files that end in "
            f"{', '.join(sorted(IMAGE_EXTENSIONS))}."
        )
    return paths


def _decode(path: Path, image_format: ImageFormat) -> Image.Image:
    """Open, decode, turn upright and convert; errors are those of the decoders and the system."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise ImageError(path, "it is empty (0 bytes)")
        try:
            with Image.open(file) as image:
                rgb = _decode_plain_png(image, file)
                if rgb is None and is_faithful(image, image_format):
                    rgb = _decode_by_pillow(image, image_format)
                if rgb is not None and image_format.numbers is not None:
                    return Image.fromarray(choose_bands(np.asarray(rgb), image_format))
                if rgb is not None:
                    return rgb
        except UnidentifiedImageError:
            if not is_tiff(file):
                raise
        raw = read_tiff(file, image_format)
        _turn_upright(raw)
        return raw


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
        image = Image.fromarray(to_eight_bits(np.asarray(image), image_format.value_range))
    return image.convert("RGB")


def _turn_upright(image: Image.Image) -> None:
    """Undo the camera's orientation; a good image is no worse for bad metadata."""
    with contextlib.suppress(SyntaxError, struct.error):
        ImageOps.exif_transpose(image, in_place=True)


def _reason(error: Exception) -> str:
    """Return in a clause why a file could not be read."""
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "it is a directory"
        case UnidentifiedImageError():
            return "it is not in an image format that Pillow knows"
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return (
                "it has more pixels than Pillow holds safe against decompression bombs "
                f"({Image.MAX_IMAGE_PIXELS})"
            )
        case FormatError():
            return str(error)
        case OSError(errno=int()):
            return f"the system refuses it ({error.strerror})"
    detail = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return f"Pillow cannot decode it ({detail})"
