"""RandAugment: two random operations of fifteen, each applied with probability one half.

Source: Cubuk et al., arXiv 1909.13719, with the policy of the `randaugment` 1.0.2 package that the
released recipe of VoLUNet uses. The operations are Pillow's own, but for three in which Pillow
spends most of the time; these are written in NumPy.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageChops, ImageEnhance, ImageOps

GRAY = (128, 128, 128)
# Fill of the policy's cutout box: the mean color of ImageNet.
CUTOUT_FILL = (125, 122, 113)

Operation = Callable[[Image.Image, float, random.Random], Image.Image]


def rand_augment(image: Image.Image, rng: random.Random, operations: int = 2) -> Image.Image:
    """Apply random operations of the policy, each with probability 0.5.

    Args:
        image: An RGB image; left as it is, and returned itself if no operation is applied.
        rng: Source of all draws; operation and magnitude index (1..9) are both uniform.
        operations: How many operations are drawn, independently.
    """
    for _ in range(operations):
        name, index = rng.choice(NAMES), rng.randrange(1, 10)
        if rng.random() < 0.5:
            image = augment(image, name, index, rng)
    return image


def augment(image: Image.Image, name: str, index: int, rng: random.Random) -> Image.Image:
    """Apply one operation at a magnitude index 0..9, with a random sign where it has one."""
    first, last = MAGNITUDES[name]
    magnitude = first + (last - first) * index / 9
    if name in SIGNED:
        magnitude *= rng.choice((-1, 1))
    return OPERATIONS[name](image, magnitude, rng)


def paint(
    image: Image.Image, box: tuple[int, int, int, int], color: tuple[int, int, int]
) -> Image.Image:
    """Copy an image with a box (left, top, right, bottom; the last two excluded) filled."""
    painted = image.copy()
    painted.paste(color, box)  # Pillow clips the box at the border.
    return painted


def _shear_x(image: Image.Image, slope: float, _rng: random.Random) -> Image.Image:
    """Fetch row y from slope * (y + 0.5) pixels further right: bicubic, gray where that is outside.

    Pillow's affine transform does the same ten times slower, which would halve the speed of
    training from a cache. Of a thousand values one differs by a level, where rounding decides.
    """
    neighbors, weights, outside = _shear_plan(*image.size, slope)
    pixels = np.frombuffer(image.tobytes("raw", "RGBX"), np.uint32)
    nearby = pixels.take(neighbors).view(np.uint8).astype(np.float32)
    taps = sliding_window_view(nearby, 4 * image.width, axis=1)[:, ::4]
    # Pillow cuts the fraction off; an integer must not be lost to rounding.
    values = np.einsum("yt,ytx->yx", weights, taps) + np.float32(1e-4)
    sheared = values.clip(0, 255, out=values).astype(np.uint8).view(np.uint32)
    sheared[outside] = np.array((*GRAY, 0), np.uint8).view(np.uint32)
    return Image.frombytes("RGB", image.size, sheared, "raw", "RGBX")


@functools.lru_cache(maxsize=18)  # the policy's slopes with both signs; 8 MB at 224 px
def _shear_plan(
    width: int, height: int, slope: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Compute what is the same for every image of a size.

    Returns:
        (H, W + 3), flat indices of the pixels that each row is made of: of four neighbors every
        pixel; (H, 4), the weights of the four; (H, W), whether a pixel comes from outside.
    """
    shift = slope * (np.arange(height)[:, None] + 0.5)
    start = np.floor(shift)
    # Beyond the border its pixels repeat.
    columns = (start + np.arange(-1, width + 2)).clip(0, width - 1).astype(np.intp)
    # Keys' cubic convolution (IEEE TASSP 29, 1981) with a = -1, as in Pillow.
    d = (shift - start).astype(np.float32)
    weights = (2 * d**2 - d - d**3, 1 - 2 * d**2 + d**3, d + d**2 - d**3, d**3 - d**2)
    source = np.arange(width) + 0.5 + shift
    outside = (source < 0) | (source >= width)
    return width * np.arange(height)[:, None] + columns, np.hstack(weights), outside


def _shear_y(image: Image.Image, slope: float, rng: random.Random) -> Image.Image:
    swap = Image.Transpose.TRANSPOSE
    return _shear_x(image.transpose(swap), slope, rng).transpose(swap)


def _smooth(image: Image.Image) -> Image.Image:
    """Apply Pillow's `ImageFilter.SMOOTH` in integers, three times as fast; the border stays."""
    smooth = np.array(image)
    pixels = smooth.astype(np.uint16)
    rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * pixels[1:-1, 1:-1]
    smooth[1:-1, 1:-1] = (sums + 6) // 13  # rounds: the weights of the kernel are 1 and 5
    return Image.fromarray(smooth)


def _shift(image: Image.Image, right: float, down: float) -> Image.Image:
    """Fetch pixel (x, y) from (x + right, y + down), nearest; gray where that is outside."""
    matrix = (1, 0, right, 0, 1, down)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=GRAY)


def _cutout(image: Image.Image, side: float, rng: random.Random) -> Image.Image:
    side = round(side)
    left, top = rng.randrange(image.width) - side // 2, rng.randrange(image.height) - side // 2
    return paint(image, (left, top, left + side, top + side), CUTOUT_FILL)


OPERATIONS: dict[str, Operation] = {
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": lambda image, share, _: _shift(image, share * image.width, 0),
    "translate_y": lambda image, share, _: _shift(image, 0, share * image.height),
    "rotate": lambda image, degrees, _: image.rotate(degrees, fillcolor=GRAY),
    "color": lambda image, amount, _: ImageEnhance.Color(image).enhance(1 + amount),
    "posterize": lambda image, bits, _: ImageOps.posterize(image, round(bits)),
    "solarize": lambda image, threshold, _: ImageOps.solarize(image, math.ceil(threshold)),
    "contrast": lambda image, amount, _: ImageEnhance.Contrast(image).enhance(1 + amount),
    "sharpness": lambda image, amount, _: Image.blend(_smooth(image), image, 1 + amount),
    "brightness": lambda image, amount, _: ImageEnhance.Brightness(image).enhance(1 + amount),
    "autocontrast": lambda image, *_: ImageOps.autocontrast(image),
    "equalize": lambda image, *_: ImageOps.equalize(image),
    "invert": lambda image, *_: ImageChops.invert(image),
    "cutout": _cutout,
}
NAMES = tuple(OPERATIONS)
# Magnitude at index 0 (mostly "no change", never drawn) and at index 9. Shears are slopes,
# translations shares of the side, rotations degrees counter-clockwise, enhancements distances from
# 1, solarize has a threshold of 0..256, cutout a side in pixels.
MAGNITUDES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("shear_x", "shear_y"), (0, 0.3)),
    **dict.fromkeys(("translate_x", "translate_y"), (0, 150 / 331)),
    **dict.fromkeys(("color", "contrast", "sharpness", "brightness"), (0, 0.9)),
    **dict.fromkeys(("autocontrast", "equalize", "invert"), (0, 0)),
    "rotate": (0, 30),
    "posterize": (8, 4),
    "solarize": (256, 0),
    "cutout": (0, 20),
}
SIGNED = frozenset(NAMES[:4] + ("color", "contrast", "sharpness", "brightness"))
