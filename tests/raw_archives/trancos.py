"""TRANCOS as it is unpacked: lists, JPEG images, dots as PNG, the road as MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.io
from PIL import Image

from raw_archives.images import noise

LISTS = {
    "training": ("image-1-000001", "image-1-000002", "image-2-000001"),
    "validation": ("image-1-000003", "image-2-000002"),
    "test": ("image-3-000001",),
}
SPLITS = {"training": "train", "validation": "val", "test": "test"}
HEIGHT, WIDTH = 24, 32
BOX = (3, 20, 5, 29)  # first and last row, first and last column of the road

# Row and column of the dots: in the box, on its last row and column, outside; (4, 28) is off road.
DOTS = ((3, 5), (10, 10), (20, 12), (15, 29), (1, 1), (4, 28))


def road() -> npt.NDArray[np.uint8]:
    """The mask: a box without its top-right corner."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    top, bottom, left, right = BOX
    mask[top : bottom + 1, left : right + 1] = 1
    mask[top:8, 25 : right + 1] = 0
    return mask


def write(raw: Path) -> None:
    """The last line of a list has no line end, as published."""
    (raw / "image_sets").mkdir(parents=True)
    (raw / "images").mkdir()
    for name, stems in LISTS.items():
        (raw / "image_sets" / f"{name}.txt").write_text("\n".join(f"{stem}.jpg" for stem in stems))
        for number, stem in enumerate(stems):
            pixels = noise(number, side=32)[:HEIGHT]
            Image.fromarray(pixels).save(raw / "images" / f"{stem}.jpg", quality=95)
            dots = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            for row, column in DOTS[number:]:
                dots[row, column] = 255, 0, 0
            Image.fromarray(dots).save(raw / "images" / f"{stem}dots.png")
            path = raw / "images" / f"{stem}mask.mat"
            scipy.io.savemat(path, {"BW": road()}, do_compression=number % 2 == 0)
