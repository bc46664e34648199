"""Read image files: any format, mode and depth to 8-bit RGB, or a sentence that tells why not."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import imagecodecs
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from tqdm import tqdm

from helper_functions.data.bands import FormatError, ImageFormat, to_eight_bits
from helper_functions.data.tiff import check_tiff, is_faithful, is_tiff, read_tiff
from helper_functions.runtime.errors import UserError

IMAGE_EXTENSIONS = frozenset(
    (
        *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
        *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    )
)

# EXIF orientation (CIPA DC-008, tag 0x0112) -> what brings the image upright; 1 is upright.
_TRANSPOSITIONS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# What Pillow may tell of a PNG whose pixels are shown as they are; not among it: transparency,
# animation, and EXIF or text, where an orientation may be.
_PLAIN_PNG_INFO = frozenset(("gamma", "chromaticity", "srgb", "icc_profile", "dpi", "aspect"))


class ImageError(Exception):
    """An image file that cannot be read.

    Attributes:
        path: The file.
        reason: Why it cannot be read, a clause without a full stop.
        index: Position among the samples of a data set, which sets it.
    """

    index: int = -1

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
    stored under transparent pixels is kept, as the released code's `convert("RGB")` does. Values of
    more than 8 bits are scaled, see `bands.to_eight_bits`; but of color PNGs with 16 bits the
    upper 8 are taken.

    Args:
        path: The file.
        image_format: Which bands to take, and which values are black and white.

    Returns:
        The image in mode RGB, width and height as displayed.

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
                file.seek(0)
                if not is_tiff(file):
                    raise
                check_tiff(file)
                return None
    except Exception as error:
        return ImageError(path, _reason(error))


def decode_problems(
    paths: Sequence[Path], image_format: ImageFormat = DEFAULT
) -> list[ImageError | None]:
    """Decode every file and return what keeps each from being read."""
    problems: list[ImageError | None] = []
    for path in tqdm(paths, desc="decoding", disable=None, leave=False):
        try:
            read_image(path, image_format)
            problems.append(None)
        except ImageError as error:
            problems.append(error)
    return problems


def find_images(folder: Path) -> list[Path]:
    """List the image files under a folder by extension, recursively.

    Args:
        folder: Where to search; hidden files and folders below it are skipped.

    Returns:
        The paths, sorted, each starting with `folder`.

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
                plain = _decode_plain_png(image, file)
                if plain is not None:
                    return _order_bands(plain, image_format)
                if is_faithful(image, image_format):
                    rgb = _decode_by_pillow(image, image_format)
                    return _turn_upright(_order_bands(rgb, image_format), _orientation(image))
        except UnidentifiedImageError:
            file.seek(0)
            if not is_tiff(file):
                raise
        file.seek(0)
        return _turn_upright(*read_tiff(file, image_format))


def _decode_plain_png(image: Image.Image, file: IO[bytes]) -> Image.Image | None:
    """Decode a PNG of three bands of 8 bits in about half the time that Pillow takes.

    Args:
        image: What Pillow has opened; nothing is decoded yet.
        file: Its file; the position is restored.

    Returns:
        ``None`` if it is something else, may be turned by metadata, or is damaged: Pillow reads it
        then, or tells what is wrong.
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
    """Decode an opened image and convert it to RGB."""
    image.load()
    # Else Pillow carries the transparent color along to RGB, with a warning for palettes.
    image.info.pop("transparency", None)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        # More than 8 bits, which Pillow's own convert would clip at 255.
        values = to_eight_bits(np.asarray(image), image_format.value_range)
        image = Image.fromarray(values)
    return image.convert("RGB")


def _order_bands(rgb: Image.Image, image_format: ImageFormat) -> Image.Image:
    """Put the bands into the order that is asked for."""
    if image_format.numbers is None:
        return rgb
    if max(image_format.numbers) > 3:
        raise FormatError(f"it has 3 bands, so there is no {max(image_format.numbers)}")
    bands = rgb.split()
    return Image.merge("RGB", [bands[number - 1] for number in image_format.numbers])


def _orientation(image: Image.Image) -> object:
    """EXIF orientation: an integer 1..8 unless the camera erred; 1 if the EXIF block is damaged."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, struct.error):  # A good image is no worse for bad metadata.
        return 1


def _turn_upright(image: Image.Image, orientation: object) -> Image.Image:
    """Undo the camera's orientation; one that EXIF does not define counts as upright."""
    method = _TRANSPOSITIONS.get(orientation)
    return image if method is None else image.transpose(method)


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
