"""RandAugment: two random operations of fifteen, each applied with probability one half.

Source: Cubuk et al., arXiv 1909.13719, with the policy of the `randaugment` 1.0.2 package that the
released recipe of VoLUNet uses. The operations are Pillow's own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image, ImageChops, ImageEnhance, ImageOps

GRAY = (128, 128, 128)
# Fill of the policy's cutout box: the mean color of ImageNet.
CUTOUT_FILL = (125, 122, 113)


class Operation(NamedTuple):
    """An operation of the policy.

    Attributes:
        apply: Makes a new image of an RGB image, a magnitude and a source of draws.
        magnitudes: By index 0..9; index 0, mostly "no change", is never drawn.
        signed: Whether the magnitude gets a random sign.
    """

    apply: Callable[[Image.Image, float, random.Random], Image.Image]
    magnitudes: tuple[float, ...]
    signed: bool = False

    def __call__(self, image: Image.Image, magnitude: float, rng: random.Random) -> Image.Image:
        """Apply the operation at a magnitude, with a random sign where it has one."""
        sign = rng.choice((-1, 1)) if self.signed else 1
        return self.apply(image, sign * magnitude, rng)


def rand_augment(image: Image.Image, rng: random.Random, operations: int = 2) -> Image.Image:
    """Apply random operations of ``POLICY``, each with probability 0.5.

    Args:
        image: An RGB image; left as it is.
        rng: Source of all draws; operation and magnitude index (1..9) are both uniform.
        operations: How many operations are drawn, independently.

    Returns:
        The augmented image; ``image`` itself if no operation was applied.
    """
    for _ in range(operations):
        operation = POLICY[rng.choice(NAMES)]
        magnitude = operation.magnitudes[rng.randrange(1, len(operation.magnitudes))]
        if rng.random() < 0.5:
            image = operation(image, magnitude, rng)
    return image


def paint(
    image: Image.Image, box: tuple[int, int, int, int], color: tuple[int, int, int]
) -> Image.Image:
    """Copy an image with a box (left, top, right, bottom; the last two excluded) filled."""
    painted = image.copy()
    painted.paste(color, box)  # Pillow clips the box at the border.
    return painted


def _affine(
    image: Image.Image,
    matrix: tuple[float, ...],
    resample: Image.Resampling = Image.Resampling.NEAREST,
) -> Image.Image:
    """Fetch pixel (x, y) from (ax + by + c, dx + ey + f); gray where that is outside."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=GRAY)


def _shear_x(image: Image.Image, slope: float, _rng: random.Random) -> Image.Image:
    return _affine(image, (1, slope, 0, 0, 1, 0), Image.Resampling.BICUBIC)


def _shear_y(image: Image.Image, slope: float, _rng: random.Random) -> Image.Image:
    return _affine(image, (1, 0, 0, slope, 1, 0), Image.Resampling.BICUBIC)


def _translate_x(image: Image.Image, share: float, _rng: random.Random) -> Image.Image:
    return _affine(image, (1, 0, share * image.width, 0, 1, 0))


def _translate_y(image: Image.Image, share: float, _rng: random.Random) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, share * image.height))


def _rotate(image: Image.Image, degrees: float, _rng: random.Random) -> Image.Image:
    return image.rotate(degrees, fillcolor=GRAY)


def _color(image: Image.Image, amount: float, _rng: random.Random) -> Image.Image:
    return ImageEnhance.Color(image).enhance(1 + amount)


def _contrast(image: Image.Image, amount: float, _rng: random.Random) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(1 + amount)


def _sharpness(image: Image.Image, amount: float, _rng: random.Random) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(1 + amount)


def _brightness(image: Image.Image, amount: float, _rng: random.Random) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1 + amount)


def _posterize(image: Image.Image, bits: float, _rng: random.Random) -> Image.Image:
    return ImageOps.posterize(image, round(bits))


def _solarize(image: Image.Image, threshold: float, _rng: random.Random) -> Image.Image:
    return ImageOps.solarize(image, math.ceil(threshold))


def _autocontrast(image: Image.Image, _magnitude: float, _rng: random.Random) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, _magnitude: float, _rng: random.Random) -> Image.Image:
    return ImageOps.equalize(image)


def _invert(image: Image.Image, _magnitude: float, _rng: random.Random) -> Image.Image:
    return ImageChops.invert(image)


def _cutout(image: Image.Image, side: float, rng: random.Random) -> Image.Image:
    side = round(side)
    left, top = rng.randrange(image.width) - side // 2, rng.randrange(image.height) - side // 2
    return paint(image, (left, top, left + side, top + side), CUTOUT_FILL)


def _magnitudes(first: float, last: float) -> tuple[float, ...]:
    """Return ten evenly spaced magnitudes, both ends included."""
    return tuple(first + (last - first) * index / 9 for index in range(10))


# Units: shears as slopes, translations as shares of the side, angles in degrees (counter-clockwise
# only), enhancements as distances from 1, posterize in bits, solarize as a threshold of 0..256,
# cutout as a side in pixels.
POLICY: dict[str, Operation] = {
    "shear_x": Operation(_shear_x, _magnitudes(0, 0.3), signed=True),
    "shear_y": Operation(_shear_y, _magnitudes(0, 0.3), signed=True),
    "translate_x": Operation(_translate_x, _magnitudes(0, 150 / 331), signed=True),
    "translate_y": Operation(_translate_y, _magnitudes(0, 150 / 331), signed=True),
    "rotate": Operation(_rotate, _magnitudes(0, 30)),
    "color": Operation(_color, _magnitudes(0, 0.9), signed=True),
    "posterize": Operation(_posterize, _magnitudes(8, 4)),
    "solarize": Operation(_solarize, _magnitudes(256, 0)),
    "contrast": Operation(_contrast, _magnitudes(0, 0.9), signed=True),
    "sharpness": Operation(_sharpness, _magnitudes(0, 0.9), signed=True),
    "brightness": Operation(_brightness, _magnitudes(0, 0.9), signed=True),
    "autocontrast": Operation(_autocontrast, _magnitudes(0, 0)),
    "equalize": Operation(_equalize, _magnitudes(0, 0)),
    "invert": Operation(_invert, _magnitudes(0, 0)),
    "cutout": Operation(_cutout, _magnitudes(0, 20)),
}
NAMES = tuple(POLICY)
