"""From a PIL picture to the model's input tensor: resize, Cutout, RandAugment.

Every draw comes from the `random.Random` that the caller passes, so the augmentation of a picture
is a pure function of a seed and a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from helper_functions.errors import UserError

GREY = (128, 128, 128)
# Fill of the policy's cutout box: the mean colour of ImageNet.
CUTOUT_FILL = (125, 122, 113)


def resize(image: Image.Image, size: int) -> Image.Image:
    """Resize to `size` x `size` pixels, bilinear with antialiasing; the aspect is not kept."""
    return image.resize((size, size), Image.Resampling.BILINEAR)


def to_tensor(image: Image.Image) -> Tensor:
    """Turn an RGB picture into float32 (3, H, W) in [0, 1]."""
    # In NumPy: so small a job is slower on PyTorch's threads when the cores are busy.
    channels = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
    return torch.from_numpy(channels / np.float32(255))


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
    """The training transform: resize, [flip], Cutout, RandAugment, to tensor, [normalise].

    Args:
        image_size: side of the output in pixels.
        mean: mean of each channel to subtract, in [0, 1]; given together with `std`. The released
            recipe has neither.
        std: standard deviation of each channel to divide by.
        cutout_factor: share of each side that Cutout's box covers; 0 turns Cutout off.
        rand_augment: whether RandAugment is applied.
        horizontal_flip: whether half of the pictures are mirrored; not in the released recipe.

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
        self.image_size = _checked_size(image_size)
        self.cutout_factor = cutout_factor
        self.rand_augment = rand_augment
        self.horizontal_flip = horizontal_flip
        self._normalise = _Normalise(mean, std)

    def __call__(self, image: Image.Image, rng: random.Random) -> Tensor:
        """Augment an RGB picture of any size.

        Args:
            image: the picture; left as it is.
            rng: source of all draws; equal states give equal tensors.

        Returns:
            float32 (3, image_size, image_size), in [0, 1] before normalisation.
        """
        image = resize(image, self.image_size)
        if self.horizontal_flip and rng.random() < 0.5:
            image = ImageOps.mirror(image)
        if self.cutout_factor > 0:
            image = cutout(image, rng, self.cutout_factor)
        if self.rand_augment:
            image = rand_augment(image, rng)
        return self._normalise(to_tensor(image))


class EvalTransform:
    """The validation transform: resize, to tensor, [normalise]; no randomness.

    Args:
        image_size: side of the output in pixels.
        mean: mean of each channel to subtract, in [0, 1]; given together with `std`.
        std: standard deviation of each channel to divide by.

    Raises:
        UserError: a value that makes no sense.
    """

    def __init__(
        self,
        image_size: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        self.image_size = _checked_size(image_size)
        self._normalise = _Normalise(mean, std)

    def __call__(self, image: Image.Image, rng: random.Random | None = None) -> Tensor:  # noqa: ARG002
        """Turn an RGB picture of any size into float32 (3, image_size, image_size).

        Args:
            image: the picture; left as it is.
            rng: not used; there so that both transforms are called alike.
        """
        return self._normalise(to_tensor(resize(image, self.image_size)))


class _Normalise:
    """Channel-wise (v - mean) / std, or nothing if neither is given."""

    def __init__(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        self._moments: tuple[Tensor, Tensor] | None = None
        if mean is None and std is None:
            return
        if mean is None or std is None:
            raise UserError("Give the mean and the standard deviation of the channels, or neither.")
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise UserError(
                f"Cannot normalise by mean {list(mean)} and standard deviation {list(std)}: give "
                "three values each, the deviations above 0."
            )
        self._moments = (torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalise `pixels`, float32 (3, H, W), in place."""
        if self._moments is None:
            return pixels
        mean, std = self._moments
        return pixels.sub_(mean).div_(std)


def _checked_size(image_size: int) -> int:
    """Refuse an image size that no picture can have."""
    if image_size < 1:
        raise UserError(f"The image size is {image_size}: choose at least 1 pixel.")
    return image_size


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


# The operations of RandAugment. Each takes the picture, its magnitude and the source of its signs.


def _signed(magnitude: float, rng: random.Random) -> float:
    """Give `magnitude` a random sign."""
    return magnitude * rng.choice((-1, 1))


def _shear_x(image: Image.Image, slope: float, rng: random.Random) -> Image.Image:
    """Shift each row by +-slope times its distance from the top."""
    return _affine(image, (1, _signed(slope, rng), 0, 0, 1, 0), Image.Resampling.BICUBIC)


def _shear_y(image: Image.Image, slope: float, rng: random.Random) -> Image.Image:
    """Shift each column by +-slope times its distance from the left."""
    return _affine(image, (1, 0, 0, _signed(slope, rng), 1, 0), Image.Resampling.BICUBIC)


def _translate_x(image: Image.Image, share: float, rng: random.Random) -> Image.Image:
    """Shift to the left or right by a share of the width."""
    shift = _signed(share, rng) * image.width
    return _affine(image, (1, 0, shift, 0, 1, 0), Image.Resampling.NEAREST)


def _translate_y(image: Image.Image, share: float, rng: random.Random) -> Image.Image:
    """Shift up or down by a share of the height."""
    shift = _signed(share, rng) * image.height
    return _affine(image, (1, 0, 0, 0, 1, shift), Image.Resampling.NEAREST)


def _affine(
    image: Image.Image,
    matrix: tuple[float, float, float, float, float, float],
    resample: Image.Resampling,
) -> Image.Image:
    """Fetch the pixel at (x, y) from (ax + by + c, dx + ey + f), grey where that is outside."""
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=resample, fillcolor=GREY
    )


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
    return ImageEnhance.Sharpness(image).enhance(1 + _signed(amount, rng))


def _brightness(image: Image.Image, amount: float, rng: random.Random) -> Image.Image:
    """Brightness times 1 +- amount."""
    return ImageEnhance.Brightness(image).enhance(1 + _signed(amount, rng))


def _posterize(image: Image.Image, bits: float, _rng: random.Random) -> Image.Image:
    """Keep the highest bits of each channel, their number rounded."""
    return ImageOps.posterize(image, round(bits))


def _solarize(image: Image.Image, threshold: float, _rng: random.Random) -> Image.Image:
    """Invert all values from the threshold on."""
    return ImageOps.solarize(image, math.ceil(threshold))


def _autocontrast(image: Image.Image, _magnitude: float, _rng: random.Random) -> Image.Image:
    """Stretch each channel to the full range."""
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, _magnitude: float, _rng: random.Random) -> Image.Image:
    """Flatten the histogram of each channel."""
    return ImageOps.equalize(image)


def _invert(image: Image.Image, _magnitude: float, _rng: random.Random) -> Image.Image:
    """Turn every value v into 255 - v."""
    return ImageOps.invert(image)


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
