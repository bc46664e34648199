"""The released recipe from a file to a batch, image by image, as a baseline.

Pillow opens, converts and resizes; Cutout draws a box; RandAugment follows `randaugment` 1.0.2 in
what it computes for every image, its table of magnitudes included; torchvision makes the tensor.
"""

from __future__ import annotations

import importlib
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from torch import Tensor
from torch.utils.data import Dataset, default_collate

# torchvision ships no types, so it is imported by name.
functional = importlib.import_module("torchvision.transforms.functional")

GRAY = (128, 128, 128)
NAMES = (
    *("shear_x", "shear_y", "translate_x", "translate_y", "rotate", "color", "posterize"),
    *("solarize", "contrast", "sharpness", "brightness", "autocontrast", "equalize", "invert"),
    "cutout",
)


def plain_cutout(image: Image.Image) -> Image.Image:
    """A box of half the side and a random color around a random pixel."""
    painted = image.copy()
    width, height = painted.size
    x, y = random.randrange(width), random.randrange(height)
    reach_x, reach_y = int(0.5 * width + 0.5) // 2, int(0.5 * height + 0.5) // 2
    color = (random.randint(0, 255), random.randint(0, 255), random.randint(0, 255))
    box = (
        max(x - reach_x, 0),
        max(y - reach_y, 0),
        min(x + reach_x, width - 1),
        min(y + reach_y, height - 1),
    )
    ImageDraw.Draw(painted).rectangle(box, fill=color)
    return painted


def _magnitudes() -> dict[str, list[float]]:
    """The ten magnitudes of every operation."""
    ranges = {
        "shear_x": np.linspace(0, 0.3, 10),
        "shear_y": np.linspace(0, 0.3, 10),
        "translate_x": np.linspace(0, 150 / 331, 10),
        "translate_y": np.linspace(0, 150 / 331, 10),
        "rotate": np.linspace(0, 30, 10),
        "color": np.linspace(0, 0.9, 10),
        "posterize": np.round(np.linspace(8, 4, 10)),
        "solarize": np.linspace(256, 0, 10),
        "contrast": np.linspace(0, 0.9, 10),
        "sharpness": np.linspace(0, 0.9, 10),
        "brightness": np.linspace(0, 0.9, 10),
        "cutout": np.round(np.linspace(0, 20, 10)),
    }
    nothing = dict.fromkeys(("autocontrast", "equalize", "invert"), [0.0] * 10)
    return {name: list(values) for name, values in ranges.items()} | nothing


def _rotate(image: Image.Image, degrees: float) -> Image.Image:
    """Rotate; the corners are found by an alpha channel and filled with gray."""
    rotated = image.convert("RGBA").rotate(degrees)
    gray = Image.new("RGBA", rotated.size, (128, 128, 128, 128))
    return Image.composite(rotated, gray, rotated).convert(image.mode)


def _small_cutout(image: Image.Image, side: int) -> Image.Image:
    """Paint a box of `side` pixels, pixel by pixel."""
    painted = image.copy()
    width, height = painted.size
    x, y = random.randrange(width), random.randrange(height)
    pixels = painted.load()
    assert pixels is not None
    for column in range(max(0, x - side // 2), min(width, x + side // 2)):
        for row in range(max(0, y - side // 2), min(height, y + side // 2)):
            pixels[column, row] = (125, 122, 113)
    return painted


def _signed(magnitude: float) -> float:
    return magnitude * random.choice((-1, 1))


def _affine(image: Image.Image, matrix: Sequence[float], resample: int = 0) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling(resample), fillcolor=GRAY
    )


OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "shear_x": lambda image, m: _affine(image, (1, _signed(m), 0, 0, 1, 0), 3),
    "shear_y": lambda image, m: _affine(image, (1, 0, 0, _signed(m), 1, 0), 3),
    "translate_x": lambda image, m: _affine(image, (1, 0, _signed(m) * image.width, 0, 1, 0)),
    "translate_y": lambda image, m: _affine(image, (1, 0, 0, 0, 1, _signed(m) * image.height)),
    "rotate": _rotate,
    "color": lambda image, m: ImageEnhance.Color(image).enhance(1 + _signed(m)),
    "posterize": lambda image, m: ImageOps.posterize(image, int(m)),
    "solarize": lambda image, m: ImageOps.solarize(image, math.ceil(m)),
    "contrast": lambda image, m: ImageEnhance.Contrast(image).enhance(1 + _signed(m)),
    "sharpness": lambda image, m: ImageEnhance.Sharpness(image).enhance(1 + _signed(m)),
    "brightness": lambda image, m: ImageEnhance.Brightness(image).enhance(1 + _signed(m)),
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "invert": lambda image, _: ImageOps.invert(image),
    "cutout": lambda image, m: _small_cutout(image, int(m)),
}


def plain_rand_augment(image: Image.Image) -> Image.Image:
    """Two operations, each with probability one half."""
    magnitudes = _magnitudes()
    for _ in range(2):
        name, index = random.choice(NAMES), random.randint(1, 9)
        if random.random() < 0.5:
            image = OPERATIONS[name](image, magnitudes[name][index])
    return image


class PlainDataset(Dataset[Tensor]):
    """Images as float32 (3, size, size), one by one.

    Args:
        paths: Image files.
        size: Side of the output in pixels.
        augment: Whether Cutout and RandAugment are applied.
    """

    def __init__(self, paths: Sequence[Path], size: int, *, augment: bool) -> None:
        self.paths = list(paths)
        self.size = size
        self.augment = augment

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image = Image.open(self.paths[index]).convert("RGB")
        image = functional.resize(image, [self.size, self.size])
        if self.augment:
            image = plain_rand_augment(plain_cutout(image))
        tensor: Tensor = functional.to_tensor(image)
        return tensor


def plain_batches(dataset: PlainDataset, batch_size: int) -> None:
    """Make every batch of a data set, as a loader without workers does."""
    for start in range(0, len(dataset), batch_size):
        stop = min(start + batch_size, len(dataset))
        default_collate([dataset[index] for index in range(start, stop)])
