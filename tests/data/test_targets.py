"""Masks and points through resizing and flipping: against torchvision, and by construction."""

from __future__ import annotations

import importlib
import random

import numpy as np
import pytest
import torch
from PIL import Image
from synthetic_images import array, noise
from torch import Tensor

from helper_functions.data.targets import (
    IGNORE,
    flip_horizontal,
    is_mask,
    is_points,
    resize_target,
)
from helper_functions.data.transforms import EvalTransform, TrainTransform

# torchvision ships no types, so it is imported by name.
reference = importlib.import_module("torchvision.transforms.functional")

SIZES = [(7, 5), (1, 1), (16, 24), (3, 40), (100, 80)]


def mask(height: int, width: int) -> Tensor:
    values = np.random.default_rng(height + width).choice([0, 1, 7, 200, IGNORE], (height, width))
    return torch.from_numpy(values)


def test_forms_of_a_target() -> None:
    forms = [None, torch.zeros(3), torch.zeros(4, 5, dtype=torch.uint8), torch.zeros(4, 2)]
    assert [is_mask(form) for form in forms] == [False, False, True, False]
    assert [is_points(form) for form in forms] == [False, False, False, True]


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
@pytest.mark.parametrize("old", SIZES)
@pytest.mark.parametrize("new", [(4, 4), (9, 3), (33, 50)])
def test_masks_are_resized_as_torchvision_does(
    old: tuple[int, int], new: tuple[int, int], dtype: torch.dtype
) -> None:
    before = mask(*old).to(dtype)
    resized = resize_target(before, old, new)
    assert resized is not None
    mode = reference.InterpolationMode.NEAREST_EXACT
    expected = reference.resize(before.to(torch.uint8)[None], list(new), mode)[0]
    assert resized.dtype == dtype
    assert torch.equal(resized, expected.to(dtype))
    assert set(resized.flatten().tolist()) <= set(before.flatten().tolist())
    assert torch.equal(before, mask(*old).to(dtype))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_points_stay_on_their_pixels(factor: int) -> None:
    # A pixel becomes a block, and the point at its center the center of the block.
    points = torch.tensor([[0.0, 0.0, 5.0], [6.0, 4.0, 2.0], [3.0, 1.0, 0.0]])
    resized = resize_target(points, (5, 7), (5 * factor, 7 * factor))
    assert resized is not None
    for before, after in zip(points, resized, strict=True):
        pixel = torch.zeros(5, 7, dtype=torch.int64)
        pixel[int(before[1]), int(before[0])] = 1
        block = resize_target(pixel, (5, 7), (5 * factor, 7 * factor))
        assert block is not None
        rows, columns = torch.nonzero(block, as_tuple=True)
        center = [columns.float().mean().item(), rows.float().mean().item(), before[2].item()]
        assert after.tolist() == pytest.approx(center)
    back = resize_target(resized, (5 * factor, 7 * factor), (5, 7))
    assert back is not None
    torch.testing.assert_close(back, points)


def test_points_are_scaled_by_each_side() -> None:
    points = torch.tensor([[-0.5, -0.5], [19.5, 9.5], [9.5, 4.5]])  # two corners and the middle
    resized = resize_target(points, (10, 20), (30, 8))
    assert resized is not None
    assert resized.tolist() == [[-0.5, -0.5], [7.5, 29.5], [3.5, 14.5]]


@pytest.mark.parametrize("target", [None, torch.tensor([1.0, 0.0])])
def test_targets_without_positions_stay(target: Tensor | None) -> None:
    assert resize_target(target, (4, 5), (8, 8)) is target
    assert flip_horizontal(noise(5, 4), target)[1] is target


def test_a_target_of_the_right_size_stays() -> None:
    for target in (mask(4, 5), torch.tensor([[1.0, 2.0]])):
        assert resize_target(target, (4, 5), (4, 5)) is target


def test_a_mask_is_flipped_with_its_image() -> None:
    image, before = noise(7, 5), mask(5, 7)
    flipped, target = flip_horizontal(image, before)
    assert target is not None
    np.testing.assert_array_equal(array(flipped), array(reference.hflip(image)))
    assert torch.equal(target, reference.hflip(before))
    _, back = flip_horizontal(flipped, target)
    assert torch.equal(mask(5, 7), back if back is not None else torch.zeros(0))


@pytest.mark.parametrize("width", [1, 6, 7])
def test_points_are_flipped_with_the_pixels_they_mark(width: int) -> None:
    before = torch.tensor([[float(x), 2.0, 3.0] for x in range(width)])
    kept = before.clone()
    for position in range(width):
        image = Image.new("RGB", (width, 4))
        image.putpixel((position, 2), (255, 255, 255))
        flipped, target = flip_horizontal(image, before)
        assert target is not None
        x, y, label = target[position].tolist()
        assert flipped.getpixel((int(x), int(y))) == (255, 255, 255)
        assert label == 3
    assert torch.equal(before, kept)


# --- through the transforms


def bright(pixels: Tensor) -> list[tuple[int, int]]:
    """Positions (x, y) of all bright pixels."""
    rows, columns = torch.nonzero(pixels.amin(0) > 100, as_tuple=True)
    return sorted(zip(columns.tolist(), rows.tolist(), strict=True))


def marked() -> tuple[Image.Image, Tensor, Tensor]:
    """An image of 16 x 8 with white marks of 4 x 2, the same marks as a mask and as points."""
    values, labels, points = np.zeros((8, 16, 3), np.uint8), torch.zeros(8, 16).long(), []
    for column, row in ((0, 2), (8, 6), (12, 0)):
        values[row : row + 2, column : column + 4] = 255
        labels[row : row + 2, column : column + 4] = 9
        points.append([column + 1.5, row + 0.5])
    return Image.fromarray(values), labels, torch.tensor(points)


@pytest.mark.parametrize("flip", [False, True])
def test_image_mask_and_points_stay_together(flip: bool) -> None:
    image, labels, points = marked()
    transform = TrainTransform(4, cutout_factor=0, rand_augment=False, horizontal_flip=flip)
    results = set()
    for seed in range(20):
        pixels, mask_after = transform(image, labels, random.Random(seed))
        _, points_after = transform(image, points, random.Random(seed))
        assert mask_after is not None
        assert points_after is not None
        marks = bright(pixels)  # every mark has shrunk to one bright pixel
        rows, columns = torch.nonzero(mask_after == 9, as_tuple=True)
        assert sorted(zip(columns.tolist(), rows.tolist(), strict=True)) == marks
        assert sorted((x, y) for x, y in points_after.tolist()) == marks
        results.add(tuple(marks))
    assert len(results) == 1 + flip
    assert torch.equal(labels, marked()[1])
    assert torch.equal(points, marked()[2])


def test_cutout_and_rand_augment_leave_the_target() -> None:
    image, labels, points = marked()
    plain = EvalTransform(4)
    for seed in range(20):
        for target in (labels, points):
            _, after = TrainTransform(4)(image, target, random.Random(seed))
            _, expected = plain(image, target)
            assert after is not None
            assert expected is not None
            assert torch.equal(after, expected)
