"""From a PIL picture to the model's input tensor: resize, Cutout, RandAugment, normalise.

Every draw comes from the `random.Random` that the caller passes, so the augmentation of a picture
is a pure function of a seed and a resumed run sees what an uninterrupted one would have seen.
Pictures stay uint8 until a whole batch is on the device that uses it: a quarter of the memory to
copy, hand from process to process and send.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import PIL
import torch
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageChops, ImageEnhance, ImageOps
from torch import Tensor
from torch.nn import functional

from helper_functions.runtime.errors import UserError

GREY = (128, 128, 128)
# Fill of the policy's cutout box: the mean colour of ImageNet.
CUTOUT_FILL = (125, 122, 113)


def resize(image: Image.Image, size: int) -> Image.Image:
    """Resize to `size` x `size` pixels, bilinear with antialiasing; the aspect is not kept."""
    return image.resize((size, size), Image.Resampling.BILINEAR)


def fast_resize(image: Image.Image, size: int) -> Image.Image:
    """Resize an RGB picture as `resize` does, to within one of the 255 levels, in a third the time.

    PyTorch's vectorised uint8 kernel rounds its weights to 16 bits, Pillow to 22: of a photograph
    that shrinks, about one value in 200 comes out a level higher or lower.
    """
    # The kernel is fastest on interleaved colours, as Pillow keeps them.
    pixels = torch.from_numpy(np.array(image))[None].permute(0, 3, 1, 2)
    resized = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return Image.fromarray(resized[0].permute(1, 2, 0).numpy())


@dataclass(frozen=True)
class Resize:
    """`resize` or `fast_resize` to a fixed side; a picture that has it already stays as it is.

    Attributes:
        side: width and height of the output in pixels.
        fast: whether `fast_resize` is used.

    Raises:
        UserError: a side that no picture can have.
    """

    side: int
    fast: bool = False

    def __post_init__(self) -> None:
        if self.side < 1:
            raise UserError(f"The image size is {self.side}: choose at least 1 pixel.")

    def __str__(self) -> str:
        """Everything that decides the resized pixels."""
        library = f"PyTorch {torch.__version__}" if self.fast else f"Pillow {PIL.__version__}"
        return f"{self.side} px by {library}"

    def __call__(self, image: Image.Image) -> Image.Image:
        """Resize an RGB picture of any size; it is left as it is."""
        if image.size == (self.side, self.side):
            return image
        return fast_resize(image, self.side) if self.fast else resize(image, self.side)


def to_pixels(image: Image.Image) -> Tensor:
    """Turn an RGB picture into uint8 (3, H, W)."""
    # Pillow brings the values of a band together in half the time that NumPy or PyTorch take.
    bands = bytearray().join(image.tobytes("raw", band) for band in "RGB")
    return torch.frombuffer(bands, dtype=torch.uint8).view(3, image.height, image.width)


class Normalise:
    """Levels 0..255 to floats in [0, 1], then (v - mean) / std by channel if these are given.

    Args:
        mean: mean of each channel to subtract, in [0, 1]; given together with `std`. The released
            recipe has neither.
        std: standard deviation of each channel to divide by.

    Raises:
        UserError: a value that makes no sense.
    """

    def __init__(
        self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        self.moments: tuple[tuple[float, ...], tuple[float, ...]] | None = None
        if mean is None and std is None:
            return
        if mean is None or std is None:
            raise UserError("Give the mean and the standard deviation of the channels, or neither.")
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise UserError(
                f"Cannot normalise by mean {list(mean)} and standard deviation {list(std)}: give "
                "three values each, the deviations above 0."
            )
        self.moments = (tuple(mean), tuple(std))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Turn uint8 (..., 3, H, W) into float32 on the same device, the same on every device."""
        device = pixels.device
        values = pixels.to(torch.float32).div_(_constant((255.0,), device))
        if self.moments is not None:
            mean, std = self.moments
            values.sub_(_constant(mean, device)).div_(_constant(std, device))
        return values


@functools.cache
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """One value a channel, (C, 1, 1); copied to a device once, as copying would wait for it.

    A tensor also for a single divisor: CUDA multiplies by the reciprocal of a Python number, which
    rounds differently.
    """
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)


def cutout(image: Image.Image, rng: random.Random, factor: float = 0.5) -> Image.Image:
    """Paint one box of a uniformly random colour around a uniformly random pixel.

    Cutout is DeVries and Taylor, arXiv 1708.04552; the sizes are the released recipe's: the box
    reaches `int(factor * side + 0.5) // 2` pixels to each side of its centre, both end pixels
    painted, and is clipped at the border. At factor 0.5 it is up to 113 x 113 pixels of 224 x 224.

    Args:
        image: an RGB picture; left as it is.
        rng: source of the centre and the colour.
        factor: share of each side that the box covers.

    Returns:
        The painted copy.
    """
    reach_x, reach_y = (int(factor * side + 0.5) // 2 for side in image.size)
    x, y = _random_pixel(image, rng)
    colour = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
    return _paint(image, (x - reach_x, y - reach_y, x + reach_x + 1, y + reach_y + 1), colour)


def rand_augment(image: Image.Image, rng: random.Random, operations: int = 2) -> Image.Image:
    """Apply random operations of `POLICY`, each with probability 0.5.

    RandAugment is Cubuk et al., arXiv 1909.13719; this is the policy of the `randaugment` 1.0.2
    package that the released recipe uses: operation and magnitude index (1..9) are both uniform.

    Args:
        image: an RGB picture; left as it is.
        rng: source of all draws.
        operations: how many operations are drawn, independently.

    Returns:
        The augmented picture; `image` itself if no operation was applied.
    """
    for _ in range(operations):
        operation, magnitudes = POLICY[rng.choice(OPERATIONS)]
        magnitude = magnitudes[rng.randrange(1, len(magnitudes))]
        if rng.random() < 0.5:
            image = operation(image, magnitude, rng)
    return image


class TrainTransform:
    """The training transform: resize, [flip], Cutout, RandAugment; batches are normalised later.

    Args:
        image_size: side of the output in pixels.
        mean: mean of each channel to subtract, in [0, 1]; given together with `std`. The released
            recipe has neither.
        std: standard deviation of each channel to divide by.
        cutout_factor: share of each side that Cutout's box covers; 0 turns Cutout off.
        rand_augment: whether RandAugment is applied.
        horizontal_flip: whether half of the pictures are mirrored; not in the released recipe.

    Attributes:
        resize: the first step.
        normalise: what makes floats of a batch of outputs.

    Raises:
        UserError: a value that makes no sense.
    """

    def __init__(
        self,
        image_size: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        cutout_factor: float = 0.5,
        rand_augment: bool = True,
        horizontal_flip: bool = False,
    ) -> None:
        if not 0 <= cutout_factor <= 1:
            raise UserError(f"The Cutout factor is {cutout_factor}: choose one from 0 to 1.")
        self.resize = Resize(image_size, fast=True)
        self.normalise = Normalise(mean, std)
        self.cutout_factor = cutout_factor
        self.rand_augment = rand_augment
        self.horizontal_flip = horizontal_flip

    def __call__(self, image: Image.Image, rng: random.Random) -> Tensor:
        """Augment an RGB picture of any size.

        Args:
            image: the picture; left as it is.
            rng: source of all draws; equal states give equal tensors.

        Returns:
            uint8 (3, image_size, image_size).
        """
        image = self.resize(image)
        if self.horizontal_flip and rng.random() < 0.5:
            image = ImageOps.mirror(image)
        if self.cutout_factor > 0:
            image = cutout(image, rng, self.cutout_factor)
        if self.rand_augment:
            image = rand_augment(image, rng)
        return to_pixels(image)


class EvalTransform:
    """The validation transform: resize; no randomness; batches are normalised later.

    Args:
        image_size: side of the output in pixels.
        mean: mean of each channel to subtract, in [0, 1]; given together with `std`.
        std: standard deviation of each channel to divide by.

    Attributes:
        resize: the only step.
        normalise: what makes floats of a batch of outputs.

    Raises:
        UserError: a value that makes no sense.
    """

    def __init__(
        self,
        image_size: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        self.resize = Resize(image_size)
        self.normalise = Normalise(mean, std)

    def __call__(self, image: Image.Image, rng: random.Random | None = None) -> Tensor:  # noqa: ARG002
        """Turn an RGB picture of any size into uint8 (3, image_size, image_size).

        Args:
            image: the picture; left as it is.
            rng: not used; there so that both transforms are called alike.
        """
        return to_pixels(self.resize(image))


def _random_pixel(image: Image.Image, rng: random.Random) -> tuple[int, int]:
    """Column and row of a uniformly random pixel."""
    return rng.randrange(image.width), rng.randrange(image.height)


def _paint(
    image: Image.Image, box: tuple[int, int, int, int], colour: tuple[int, int, int]
) -> Image.Image:
    """Copy `image` with `box` (left, top, right, bottom; right and bottom excluded) filled."""
    painted = image.copy()
    painted.paste(colour, box)  # Pillow clips the box at the border.
    return painted


def _values(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The values of an RGB picture as Pillow keeps them, (H, W, 4): the fourth means nothing."""
    values = np.frombuffer(image.tobytes("raw", "RGBX"), np.uint8)
    return values.reshape(image.height, image.width, 4)


def _picture(values: npt.NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """Make a picture of width and height `size` of what `_values` returned."""
    return Image.frombytes("RGB", size, values, "raw", "RGBX")


# The operations of RandAugment. Each takes the picture, its magnitude and the source of its signs.
# Where Pillow looks every value up in a table or computes with floats, NumPy is faster; but for the
# shears, the results are Pillow's to the last bit.


def _signed(magnitude: float, rng: random.Random) -> float:
    """Give `magnitude` a random sign."""
    return magnitude * rng.choice((-1, 1))


def _shear_x(image: Image.Image, slope: float, rng: random.Random) -> Image.Image:
    """Shift each row by +-slope times its distance from the top."""
    return _shear(image, _signed(slope, rng))


def _shear_y(image: Image.Image, slope: float, rng: random.Random) -> Image.Image:
    """Shift each column by +-slope times its distance from the left."""
    swap = Image.Transpose.TRANSPOSE
    return _shear(image.transpose(swap), _signed(slope, rng)).transpose(swap)


def _shear(image: Image.Image, slope: float) -> Image.Image:
    """Fetch row y from slope * (y + 0.5) pixels further right: bicubic, grey where that is outside.

    Pillow's affine transform does the same in two dimensions, several times slower. The results
    differ by one level in a few values where rounding decides.
    """
    neighbours, weights, outside = _shear_plan(*image.size, slope)
    nearby = _values(image).view(np.uint32).take(neighbours).view(np.uint8).astype(np.float32)
    taps = sliding_window_view(nearby, 4 * image.width, axis=1)[:, ::4]
    values = np.einsum("yt,ytx->yx", weights, taps)
    # Pillow cuts the fraction off; a whole number must not be lost to rounding.
    values += np.float32(1e-4)
    result = values.clip(0, 255, out=values).astype(np.uint8)
    result.view(np.uint32)[outside] = np.array((*GREY, 0), np.uint8).view(np.uint32)
    return _picture(result, image.size)


@functools.lru_cache(maxsize=18)  # the policy's slopes with both signs; 8 MB at 224 px
def _shear_plan(
    width: int, height: int, slope: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """What a shear needs to know, whatever the picture.

    Returns:
        (H, W + 3), the pixels that each row is made of, counted row by row: for every pixel of the
        result four that lie side by side. (H, 4), the weights of the four. (H, W), whether a pixel
        comes from outside.
    """
    shift = slope * (np.arange(height)[:, None] + 0.5)
    whole = np.floor(shift)
    # Beyond the border its pixels repeat.
    columns = (whole + np.arange(-1, width + 2)).clip(0, width - 1).astype(np.intp)
    # Keys' cubic convolution (IEEE TASSP 29, 1981) with a = -1, as in Pillow.
    d = (shift - whole).astype(np.float32)
    weights = (2 * d**2 - d - d**3, 1 - 2 * d**2 + d**3, d + d**2 - d**3, d**3 - d**2)
    source = np.arange(width) + 0.5 + shift
    outside = (source < 0) | (source >= width)
    return width * np.arange(height)[:, None] + columns, np.hstack(weights), outside


def _translate_x(image: Image.Image, share: float, rng: random.Random) -> Image.Image:
    """Shift to the left or right by a share of the width."""
    return _shift(image, _signed(share, rng) * image.width, 0)


def _translate_y(image: Image.Image, share: float, rng: random.Random) -> Image.Image:
    """Shift up or down by a share of the height."""
    return _shift(image, 0, _signed(share, rng) * image.height)


def _shift(image: Image.Image, right: float, down: float) -> Image.Image:
    """Fetch the pixel at (x, y) from (x + right, y + down), nearest; grey where that is outside."""
    matrix = (1, 0, right, 0, 1, down)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=GREY)


def _rotate(image: Image.Image, degrees: float, _rng: random.Random) -> Image.Image:
    """Rotate counter-clockwise, the corners grey."""
    return image.rotate(degrees, fillcolor=GREY)


def _colour(image: Image.Image, amount: float, rng: random.Random) -> Image.Image:
    """Saturation times 1 +- amount."""
    return ImageEnhance.Color(image).enhance(1 + _signed(amount, rng))


def _contrast(image: Image.Image, amount: float, rng: random.Random) -> Image.Image:
    """Contrast times 1 +- amount."""
    return ImageEnhance.Contrast(image).enhance(1 + _signed(amount, rng))


def _sharpness(image: Image.Image, amount: float, rng: random.Random) -> Image.Image:
    """Sharpness times 1 +- amount."""
    return Image.blend(_smooth(image), image, 1 + _signed(amount, rng))


def _smooth(image: Image.Image) -> Image.Image:
    """Pillow's `ImageFilter.SMOOTH` in integers, four times as fast: the border stays as it is."""
    smooth = _values(image).copy()
    pixels = smooth.astype(np.uint16)
    rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * pixels[1:-1, 1:-1]
    smooth[1:-1, 1:-1] = (sums + 6) // 13  # rounds: the weights of the kernel are 1 and 5
    return _picture(smooth, image.size)


def _brightness(image: Image.Image, amount: float, rng: random.Random) -> Image.Image:
    """Brightness times 1 +- amount."""
    return ImageEnhance.Brightness(image).enhance(1 + _signed(amount, rng))


def _posterize(image: Image.Image, bits: float, _rng: random.Random) -> Image.Image:
    """Keep the highest bits of each channel, their number rounded."""
    return _picture(_values(image) & np.uint8(256 - 2 ** (8 - round(bits))), image.size)


def _solarize(image: Image.Image, threshold: float, _rng: random.Random) -> Image.Image:
    """Invert all values from the threshold on."""
    values = _values(image)
    return _picture(values ^ np.uint8(255) * (values >= math.ceil(threshold)), image.size)


def _autocontrast(image: Image.Image, _magnitude: float, _rng: random.Random) -> Image.Image:
    """Stretch each channel to the full range."""
    values = _values(image)
    # One axis after the other: NumPy is slow at two.
    low = values.min(axis=0).min(axis=0)[:3, None].astype(np.float64)
    high = values.max(axis=0).max(axis=0)[:3, None].astype(np.float64)
    if not low.any() and (high == 255).all():
        return image
    levels = np.arange(256)
    scale = 255 / np.maximum(high - low, 1)
    stretched = (levels * scale - low * scale).clip(0, 255)
    # A channel of a single value stays as it is.
    return image.point(np.where(high > low, stretched, levels).astype(int).ravel().tolist())


def _equalize(image: Image.Image, _magnitude: float, _rng: random.Random) -> Image.Image:
    """Flatten the histogram of each channel."""
    return ImageOps.equalize(image)


def _invert(image: Image.Image, _magnitude: float, _rng: random.Random) -> Image.Image:
    """Turn every value v into 255 - v."""
    return ImageChops.invert(image)


def _cutout_box(image: Image.Image, side: float, rng: random.Random) -> Image.Image:
    """Fill a square of `side` pixels (rounded) around a random pixel, clipped at the border."""
    x, y = _random_pixel(image, rng)
    left, top = x - round(side) // 2, y - round(side) // 2
    return _paint(image, (left, top, left + round(side), top + round(side)), CUTOUT_FILL)


def _linspace(first: float, last: float) -> tuple[float, ...]:
    """Ten evenly spaced magnitudes, index 0..9, both ends included."""
    return tuple(first + (last - first) * index / 9 for index in range(10))


Operation = Callable[[Image.Image, float, random.Random], Image.Image]

# Name -> operation and its magnitudes by index 0..9 (index 0, mostly "no change", is never drawn).
# Units: shears as slopes, translations as shares of the side, angles in degrees, enhancements as
# distances from 1, posterize in bits, solarize as a threshold of 0..256, cutout in pixels.
POLICY: dict[str, tuple[Operation, tuple[float, ...]]] = {
    "shear_x": (_shear_x, _linspace(0, 0.3)),
    "shear_y": (_shear_y, _linspace(0, 0.3)),
    "translate_x": (_translate_x, _linspace(0, 150 / 331)),
    "translate_y": (_translate_y, _linspace(0, 150 / 331)),
    "rotate": (_rotate, _linspace(0, 30)),
    "colour": (_colour, _linspace(0, 0.9)),
    "posterize": (_posterize, _linspace(8, 4)),
    "solarize": (_solarize, _linspace(256, 0)),
    "contrast": (_contrast, _linspace(0, 0.9)),
    "sharpness": (_sharpness, _linspace(0, 0.9)),
    "brightness": (_brightness, _linspace(0, 0.9)),
    "autocontrast": (_autocontrast, _linspace(0, 0)),
    "equalize": (_equalize, _linspace(0, 0)),
    "invert": (_invert, _linspace(0, 0)),
    "cutout": (_cutout_box, _linspace(0, 20)),
}
OPERATIONS = tuple(POLICY)
