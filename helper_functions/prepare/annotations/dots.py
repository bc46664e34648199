"""Dot masks: for every image a PNG that is black except for a dot on every object."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from scipy import ndimage

from helper_functions.prepare.annotations.base import AnnotatedImage, Inputs
from helper_functions.prepare.point_rows import Point
from helper_functions.runtime.errors import UserError

HELP = "dot masks: a PNG an image, not 0 where an object is"
ORIGIN = "center"
EXTENSIONS = (".png",)
FOLDER = True
FLAGS = ("dots", "dots_name")
DOTS = ("components", "pixels")
NAME = "{stem}dots.png"


def read_png(content: bytes, path: Path) -> npt.NDArray[np.integer]:
    """Return the values of a PNG without its transparency, (H, W, C); of a palette the indices.

    Raises:
        UserError: If it is no PNG that can be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                opaque = image.convert(image.mode[:-1]) if image.mode in ("LA", "RGBA") else image
                values = np.asarray(opaque)
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is no PNG; save it as one, so that no pixel changes.") from error
    except Exception as error:  # On a damaged file Pillow raises whatever it runs into.
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise UserError(f"{path} cannot be read as a PNG: {reason}.") from error
    return values.astype(np.int64, copy=False).reshape(*values.shape[:2], -1)


def read(path: Path, inputs: Inputs) -> Iterator[AnnotatedImage]:
    """Yield the image of every dot mask: a point a component of pixels, or a point a pixel."""
    template = inputs.options.dots_name or NAME
    if template.count("{stem}") != 1 or not template.lower().endswith(".png"):
        raise UserError(f"--dots-name {template} should hold {{stem}} and end in .png.")
    before, _, after = template.partition("{stem}")
    pattern = re.compile(f"{re.escape(before)}(.+){re.escape(after)}")
    masks = [(each, pattern.fullmatch(each.name)) for each in inputs.files(path, *EXTENSIONS)]
    inputs.images.leave_out([each for each, match in masks if match])
    if not any(match for _, match in masks):
        raise UserError(f"{path} holds no dot mask {template}; name them by --dots-name.")
    for each, match in masks:
        if match is None:
            continue
        marked = read_png(inputs.content(each, path), each).any(axis=2)
        if 2 * marked.sum() > marked.size:
            raise UserError(f"{each}: most of its pixels are not 0; the background has to be.")
        rows, columns = np.nonzero(marked)
        places = np.stack((columns, rows), axis=1).astype(float)
        if (inputs.options.dots or DOTS[0]) == "components":
            components, count = ndimage.label(marked, np.ones((3, 3), bool))
            sizes = np.bincount(components[rows, columns] - 1, minlength=count)
            sums = (np.bincount(components[rows, columns] - 1, each, count) for each in places.T)
            places = np.stack([each / sizes for each in sums], axis=1)
            inputs.tally["Dots of several pixels, given by their center"] += int((sizes > 1).sum())
        points = [Point(x, y, None, str(each)) for x, y in places.tolist()]
        below = each.parent.relative_to(path) if path.is_dir() else Path()
        size = marked.shape[1], marked.shape[0]
        yield AnnotatedImage((below / match[1]).as_posix(), points, str(each), size, is_stem=True)
