"""Targets of images, and the geometry that an image and its target share.

A target is one of
* a 1-D float tensor (K,): it belongs to the image as a whole;
* a 2-D integer tensor (H, W): a mask, the class index of every pixel, ``IGNORE`` = not labelled;
* a 2-D float tensor (P, 2 or 3): points (x, y[, class]) in pixels, x to the right and y down; the
  center of the top-left pixel is (0, 0);
* ``None``.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from PIL import Image, ImageOps
from torch import Tensor

Target = Tensor | None
IGNORE = 255


def is_mask(target: Target) -> TypeGuard[Tensor]:
    """Whether a target gives the class of every pixel."""
    return target is not None and target.dim() == 2 and not target.is_floating_point()


def is_points(target: Target) -> TypeGuard[Tensor]:
    """Whether a target is a list of points."""
    return target is not None and target.dim() == 2 and target.is_floating_point()


def flip_horizontal(image: Image.Image, target: Target) -> tuple[Image.Image, Target]:
    """Mirror an image and its target left to right; both are left as they are."""
    if is_mask(target):
        target = target.flip(1)
    elif is_points(target):
        target = target.clone()
        target[:, 0] = image.width - 1 - target[:, 0]
    return ImageOps.mirror(image), target


def quarter_turns(image: Image.Image, target: Target, turns: int) -> tuple[Image.Image, Target]:
    """Turn an image and its target counterclockwise by quarters; both are left as they are."""
    turns %= 4
    if turns == 0:
        return image, target
    method = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
    if is_mask(target):
        target = torch.rot90(target, turns)
    elif is_points(target):
        target, width, height = target.clone(), image.width, image.height
        for _ in range(turns):
            x, y = target[:, 0].clone(), target[:, 1].clone()
            target[:, 0], target[:, 1] = y, width - 1 - x
            width, height = height, width
    return image.transpose(method[turns - 1]), target


def crop(
    image: Image.Image, target: Target, left: int, top: int, width: int, height: int
) -> tuple[Image.Image, Target]:
    """Cut a window out of an image and its target; both are left as they are.

    Points stay whose pixel is inside.
    """
    if is_mask(target):
        target = target[top : top + height, left : left + width]
    elif is_points(target):
        target = target.clone()
        target[:, :2] -= target.new_tensor([left, top])
        pixels = (target[:, :2] + 0.5).floor()
        inside = (pixels >= 0).all(1) & (pixels < target.new_tensor([width, height])).all(1)
        target = target[inside]
    return image.crop((left, top, left + width, top + height)), target


def resize_target(target: Target, old_size: tuple[int, int], new_size: tuple[int, int]) -> Target:
    """Resize a target as its image was resized.

    A pixel of a resized mask has the class of the pixel at its center, so no class appears that was
    not there. Points are scaled about the corner of the image, half a pixel from the origin. Sizes
    are height and width; the target is left as it is.
    """
    if target is None or old_size == new_size:
        return target
    if is_mask(target):
        # The old pixel at the center of each new one, in integers
        rows, columns = (
            (2 * torch.arange(new) + 1) * old // (2 * new)
            for old, new in zip(old_size, new_size, strict=True)
        )
        return target[rows[:, None], columns]
    if is_points(target):
        resized = target.clone()
        scale = target.new_tensor([new_size[1] / old_size[1], new_size[0] / old_size[0]])
        resized[:, :2] = (target[:, :2] + 0.5) * scale - 0.5
        return resized
    return target
