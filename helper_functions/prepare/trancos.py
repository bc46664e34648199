"""TRANCOS: traffic images, a dot in a second image for every vehicle, and the road as a mask.

The images are written anew: black outside the road, cropped to its bounding box.
"""

from __future__ import annotations

import argparse
import io
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from helper_functions.data.images import ImageError, read_image
from helper_functions.prepare.annotations.dots import read_png
from helper_functions.prepare.mat_files import read_mat
from helper_functions.prepare.point_rows import Point, PointResult
from helper_functions.prepare.rows import MISSING, Row, file_name
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError

HELP = "TRANCOS, vehicles in traffic images, cropped to the road"
CUTS = False  # training, validation and test are published

LISTS = {"train": "training", "val": "validation", "test": "test"}
CROPS = ("corrected", "released")
_ADVICE = "unpack the download there"

Mask = npt.NDArray[np.bool_]


class _Box(NamedTuple):
    """Rows and columns that an image is cropped to; the ends are exclusive."""

    top: int
    bottom: int
    left: int
    right: int


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the crop and of the images."""
    crop = (
        "of the road's bounding box: all of it, or without its last row and column, as the "
        "released code has it (default: corrected)"
    )
    parser.add_argument("--crop", choices=CROPS, default="corrected", help=crop)
    images = "folder to write the cropped images to (default: images beside --out)"
    parser.add_argument("--images-out", type=Path, metavar="DIR", help=images)


def _read_mask(sources: Sources, path: Path) -> Mask:
    """Read where the road is."""
    value = read_mat(sources.content(path, "images/*mask.mat"), path, "BW")
    if not isinstance(value, np.ndarray) or value.ndim != 2 or not value.any():
        raise UserError(f"{path}: BW is no mask of the road: a matrix that is not 0 there.")
    mask: Mask = value != 0
    return mask


def _bounding_box(mask: Mask, crop: str, path: Path) -> _Box:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)).tolist() for axis in (1, 0))
    end = 1 if crop == "corrected" else 0
    box = _Box(rows[0], rows[-1] + end, columns[0], columns[-1] + end)
    if box.top == box.bottom or box.left == box.right:
        raise UserError(f"{path}: nothing of the road is left by --crop {crop}.")
    return box


def _render(image: Path, mask: Path, crop: str) -> bytes:
    """Return an image as a PNG that is black outside the road and cropped to it."""
    road = read_mat(mask.read_bytes(), mask, "BW") != 0
    box = _bounding_box(road, crop, mask)
    pixels = np.asarray(read_image(image)) * road[:, :, None]
    buffer = io.BytesIO()
    Image.fromarray(pixels[box.top : box.bottom, box.left : box.right]).save(buffer, "PNG")
    return buffer.getvalue()


def read(options: argparse.Namespace, sources: Sources) -> PointResult:
    """Read the lists, and dots and mask of every image.

    Raises:
        UserError: If a file is missing or wrong, or images of one name differ in size.
    """
    lists = {
        split: sources.find(f"image_sets/{name}.txt", advice=_ADVICE)
        for split, name in LISTS.items()
    }
    folder = sources.folder / "images"
    images = options.images_out or options.out.parent / "images"
    if images.exists() and folder.exists() and images.samefile(folder):
        raise UserError(f"{images} holds the raw images; choose another --images-out.")
    result = PointResult(images, "the dots, one a vehicle; there are no classes")
    cut, off_road = 0, 0
    for split, path in lists.items():
        for line, text in tqdm(sources.lines(path), desc=split, disable=None, leave=False):
            stem = file_name(text, f"{path}, line {line}").removesuffix(".jpg")
            original = folder / f"{stem}.jpg"
            dots_path, mask_path = folder / f"{stem}dots.png", folder / f"{stem}mask.mat"
            if not (dots_path.is_file() and mask_path.is_file()):
                result.skipped.append((original.name, "its dots or its mask are not there"))
                continue
            if not original.is_file() and not options.keep_missing:
                result.skipped.append((original.name, MISSING))
                continue

            # Dots, mask and image must be of one size
            mask = _read_mask(sources, mask_path)
            dots = read_png(sources.content(dots_path, "images/*dots.png"), dots_path)[:, :, 0] > 0
            sizes = {mask_path: mask.shape, dots_path: dots.shape}
            if original.is_file():
                try:
                    sizes[original] = read_image(original).size[::-1]
                except ImageError as error:
                    raise UserError(str(error)) from error
            for other, shape in sizes.items():
                if shape != mask.shape:
                    expected = f"{mask.shape[1]} x {mask.shape[0]} of {mask_path.name}"
                    raise UserError(
                        f"{other} has {shape[1]} x {shape[0]} pixels, not the {expected}."
                    )

            # The crop
            box = _bounding_box(mask, options.crop, mask_path)
            window = slice(box.top, box.bottom), slice(box.left, box.right)
            rows, columns = np.nonzero(dots[window])
            cut += int(dots.sum()) - len(rows)
            off_road += int((dots & ~mask)[window].sum())
            name = f"{stem}.png"
            result.rows.append(Row(name, (), split))
            result.points[name] = [
                Point(float(x), float(y), None, str(dots_path))
                for y, x in zip(rows.tolist(), columns.tolist(), strict=True)
            ]
            result.sizes[name] = box.right - box.left, box.bottom - box.top
            if original.is_file():
                result.rendered[name] = partial(_render, original, mask_path, options.crop)
    if not result.rows:
        first = "".join(f" ({name}: {reason})" for name, reason in result.skipped[:1])
        raise UserError(f"{folder} holds no image of the lists{first}; {_ADVICE}.")
    if cut:
        result.notes.append(f"{cut:,} points outside the bounding box of the road are left out.")
    if off_road:
        result.notes.append(f"{off_road:,} points inside the box, but off the road, are kept.")
    result.notes.append("The splits are the published lists.")
    return result
