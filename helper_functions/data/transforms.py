"""From an image and its target to the model's input: resize, flip, Cutout, RandAugment, normalize.

Every draw comes from the `random.Random` that the caller passes, so the augmentation of an image is
a pure function of a seed and a resumed run sees what an uninterrupted one would have seen. Images
stay uint8 until a batch is on the device that uses it: a quarter of the memory to copy.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from helper_functions.data.rand_augment import paint, rand_augment
from helper_functions.data.targets import Target, flip_horizontal, resize_target
from helper_functions.runtime.errors import UserError

Moments = Sequence[float]  # mean or standard deviation of each channel, in [0, 1]


def fast_resize(image: Image.Image, size: int) -> Image.Image:
    """Resize an RGB image as Pillow does, to within one of the 255 levels, in a third the time.

    PyTorch's vectorized uint8 kernel rounds its weights to 16 bits, Pillow to 22: of a photograph
    that shrinks, about one value in 200 comes out a level higher or lower.
    """
    # The kernel is fastest on interleaved colors, as Pillow keeps them.
    pixels = torch.from_numpy(np.array(image))[None].permute(0, 3, 1, 2)
    resized = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return Image.fromarray(resized[0].permute(1, 2, 0).numpy())


@dataclass(frozen=True)
class Resize:
    """Bilinear resize with antialiasing to a square; an image of that size stays as it is.

    Raises:
        UserError: If the side is below 1 pixel.
    """

    side: int  # width and height of the output in pixels
    fast: bool = False  # by `fast_resize` instead of Pillow

    def __post_init__(self) -> None:
        if self.side < 1:
            raise UserError(f"The image size is {self.side}: choose at least 1 pixel.")

    def __str__(self) -> str:
        """Everything that decides the resized pixels."""
        library = f"PyTorch {torch.__version__}" if self.fast else f"Pillow {PIL.__version__}"
        return f"{self.side} px by {library}"

    def __call__(self, image: Image.Image) -> Image.Image:
        """Resize an RGB image of any size; it is left as it is."""
        if image.size == (self.side, self.side):
            return image
        if self.fast:
            return fast_resize(image, self.side)
        return image.resize((self.side, self.side), Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class Rescale:
    """Resize by a factor, bilinearly with antialiasing; 1 leaves images as they are."""

    factor: float = 1.0

    def __str__(self) -> str:
        """Everything that decides the resized pixels."""
        return f"x {self.factor:g} by Pillow {PIL.__version__}"

    def __call__(self, image: Image.Image) -> Image.Image:
        """Resize an RGB image of any size; it is left as it is."""
        size = (max(1, round(image.width * self.factor)), max(1, round(image.height * self.factor)))
        return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)


def resize_both(
    resize: Resize | Rescale, image: Image.Image, target: Target
) -> tuple[Image.Image, Target]:
    """Resize an image and its target alike; both are left as they are."""
    old_size = image.height, image.width
    image = resize(image)
    return image, resize_target(target, old_size, (image.height, image.width))


def to_pixels(image: Image.Image) -> Tensor:
    """Turn an RGB image into uint8 (3, H, W)."""
    # Pillow brings the values of a band together in half the time that NumPy or PyTorch take.
    bands = bytearray().join(image.tobytes("raw", band) for band in "RGB")
    return torch.frombuffer(bands, dtype=torch.uint8).view(3, image.height, image.width)


class Normalize:
    """Levels 0..255 to floats in [0, 1], then (v - mean) / std by channel if these are given.

    The released recipe has neither.

    Raises:
        UserError: If only one is given, or they are not three values, the deviations above 0.
    """

    def __init__(self, mean: Moments | None = None, std: Moments | None = None) -> None:
        self.moments: tuple[tuple[float, ...], tuple[float, ...]] | None = None
        if mean is None and std is None:
            return
        if mean is None or std is None:
            raise UserError("Give the mean and the standard deviation of the channels, or neither.")
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise UserError(
                f"Cannot normalize by mean {list(mean)} and standard deviation {list(std)}: give "
                "three values each, the deviations above 0."
            )
        self.moments = (tuple(mean), tuple(std))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Turn uint8 (..., 3, H, W) into float32 on the same device, the same on every device."""
        values = pixels.to(torch.float32).div_(_constant((255.0,), pixels.device))
        if self.moments is not None:
            mean, std = (_constant(moment, pixels.device) for moment in self.moments)
            values.sub_(mean).div_(std)
        return values


@functools.cache
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return one value a channel, (C, 1, 1), copied to a device once: copying would wait for it.

    A tensor also for a single divisor: CUDA multiplies by the reciprocal of a Python number, which
    rounds differently.
    """
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)


def cutout(image: Image.Image, rng: random.Random, factor: float = 0.5) -> Image.Image:
    """Paint one box of a uniformly random color around a uniformly random pixel.

    Cutout is DeVries and Taylor, arXiv 1708.04552; the sizes are the released recipe's: the box
    reaches `int(factor * side + 0.5) // 2` pixels to each side of its center, both end pixels
    painted, and is clipped at the border. At factor 0.5 it is up to 113 x 113 pixels of 224 x 224.

    Args:
        image: An RGB image; left as it is.
        rng: Source of the center and the color.
        factor: Share of each side that the box covers.
    """
    reach_x, reach_y = (int(factor * side + 0.5) // 2 for side in image.size)
    x, y = rng.randrange(image.width), rng.randrange(image.height)
    color = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
    return paint(image, (x - reach_x, y - reach_y, x + reach_x + 1, y + reach_y + 1), color)


class Transform(Protocol):
    """What an image and its target go through."""

    normalize: Normalize  # makes floats of a batch of images

    @property
    def resize(self) -> Resize | Rescale:
        """The first step, which leaves an image of the right size as it is."""
        ...

    def __call__(
        self, image: Image.Image, target: Target, rng: random.Random
    ) -> tuple[Tensor, Target]:
        """Return uint8 (3, H, W) and the target that fits, with random numbers from `rng` alone."""
        ...


class EvalTransform:
    """The validation transform: resize; no randomness; batches are normalized later.

    Raises:
        UserError: As `Resize` and `Normalize`.
    """

    def __init__(
        self, image_size: int, mean: Moments | None = None, std: Moments | None = None
    ) -> None:
        self.resize = Resize(image_size)
        self.normalize = Normalize(mean, std)

    def __call__(
        self,
        image: Image.Image,
        target: Target = None,
        rng: random.Random | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Target]:
        """Return uint8 (3, image_size, image_size) and the target that fits."""
        image, target = resize_both(self.resize, image, target)
        return to_pixels(image), target


class TrainTransform:
    """The training transform: resize, [flip], Cutout, RandAugment; batches are normalized later.

    Cutout (with the share of each side that its box covers; 0 is off) and RandAugment change the
    image only. The flip mirrors half of the images; it is not in the released recipe.

    Raises:
        UserError: As `Resize` and `Normalize`, or if the Cutout factor is outside 0..1.
    """

    def __init__(
        self,
        image_size: int,
        mean: Moments | None = None,
        std: Moments | None = None,
        cutout_factor: float = 0.5,
        rand_augment: bool = True,
        horizontal_flip: bool = False,
    ) -> None:
        if not 0 <= cutout_factor <= 1:
            raise UserError(f"The Cutout factor is {cutout_factor}: choose one from 0 to 1.")
        self.resize = Resize(image_size, fast=True)
        self.normalize = Normalize(mean, std)
        self.cutout_factor = cutout_factor
        self.rand_augment = rand_augment
        self.horizontal_flip = horizontal_flip

    def __call__(
        self, image: Image.Image, target: Target, rng: random.Random
    ) -> tuple[Tensor, Target]:
        """Return uint8 (3, image_size, image_size) and the target that fits; leave both inputs."""
        image, target = resize_both(self.resize, image, target)
        if self.horizontal_flip and rng.random() < 0.5:
            image, target = flip_horizontal(image, target)
        if self.cutout_factor > 0:
            image = cutout(image, rng, self.cutout_factor)
        if self.rand_augment:
            image = rand_augment(image, rng)
        return to_pixels(image), target
