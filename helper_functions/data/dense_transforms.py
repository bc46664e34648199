"""Transforms of images whose targets are masks or points: image and target go through the same.

Images keep their size, or a factor of it. In training windows can be cut out at random scales, and
flipped or turned by quarters.
"""

from __future__ import annotations

import random

from PIL import Image
from torch import Tensor

from helper_functions.data.targets import Target, crop, flip_horizontal, quarter_turns
from helper_functions.data.transforms import Moments, Normalize, Rescale, resize_both, to_pixels
from helper_functions.runtime.errors import UserError


class DenseEvalTransform:
    """Rescale the image; the target stays in pixels of the image as it is stored.

    Raises:
        UserError: As ``Normalize``.
    """

    def __init__(
        self, scale: float = 1.0, mean: Moments | None = None, std: Moments | None = None
    ) -> None:
        self.resize = Rescale(scale)
        self.normalize = Normalize(mean, std)

    def __call__(
        self,
        image: Image.Image,
        target: Target = None,
        rng: random.Random | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Target]:
        """Return uint8 (3, H, W) and the target as it is."""
        return to_pixels(self.resize(image)), target


class DenseTrainTransform:
    """Rescale, [scale jitter], [random crop], [flip], [quarter turns].

    Args:
        scale: Factor of the image's size.
        mean: Of ``Normalize``.
        std: Of ``Normalize``.
        crop_size: Side of a square window at a random place; of an image that is smaller, all of
            that side. 0: the whole image.
        scale_jitter: The image is resized by a factor from 1 / (1 + j) to 1 + j before the crop.
        horizontal_flip: Mirror half of the images.
        quarter_turns: Turn by a random multiple of 90 degrees, for images without an up and down.

    Raises:
        UserError: As ``Normalize``.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mean: Moments | None = None,
        std: Moments | None = None,
        *,
        crop_size: int = 0,
        scale_jitter: float = 0.0,
        horizontal_flip: bool = False,
        quarter_turns: bool = False,
    ) -> None:
        if crop_size < 0 or scale_jitter < 0:
            raise UserError(
                f"The crop size is {crop_size} and the scale jitter {scale_jitter:g}; neither can "
                "be negative."
            )
        self.resize = Rescale(scale)
        self.normalize = Normalize(mean, std)
        self.crop_size = crop_size
        self.scale_jitter = scale_jitter
        self.horizontal_flip = horizontal_flip
        self.quarter_turns = quarter_turns

    def __call__(
        self, image: Image.Image, target: Target, rng: random.Random
    ) -> tuple[Tensor, Target]:
        """Return uint8 (3, H, W) and the target that fits; both inputs stay as they are."""
        image, target = resize_both(self.resize, image, target)
        if self.scale_jitter:
            factor = (1 + self.scale_jitter) ** rng.uniform(-1, 1)
            image, target = resize_both(Rescale(factor), image, target)
        if self.crop_size:
            width, height = (min(self.crop_size, side) for side in image.size)
            left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
            image, target = crop(image, target, left, top, width, height)
        if self.horizontal_flip and rng.random() < 0.5:
            image, target = flip_horizontal(image, target)
        if self.quarter_turns:
            image, target = quarter_turns(image, target, rng.randrange(4))
        return to_pixels(image), target
