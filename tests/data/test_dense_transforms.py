"""Crops, turns and scales of images with masks and points: by construction."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helper_functions.data.dense_transforms import DenseEvalTransform, DenseTrainTransform
from helper_functions.data.targets import crop, quarter_turns
from helper_functions.runtime.errors import UserError


def dotted(width: int = 23, height: int = 17) -> tuple[Image.Image, Tensor, Tensor]:
    """An image with white pixels of odd places, the same as a mask and as points."""
    values, labels = np.zeros((height, width, 3), np.uint8), torch.zeros(height, width).long()
    places = [(0, 0), (22, 3), (5, 16), (11, 8), (12, 8)]
    for x, y in places:
        values[y, x] = 255
        labels[y, x] = 7
    points = torch.tensor([[x, y, 1] for x, y in places], dtype=torch.float32)
    return Image.fromarray(values), labels, points


def lit(pixels: Tensor) -> list[tuple[int, int]]:
    """Return x and y of the white pixels of (3, H, W) or the 7s of (H, W)."""
    rows, columns = torch.nonzero(pixels[0] > 200 if pixels.dim() == 3 else pixels == 7).T
    return sorted(zip(columns.tolist(), rows.tolist(), strict=True))


def listed(points: Tensor) -> list[tuple[int, int]]:
    return sorted((round(x), round(y)) for x, y in points[:, :2].tolist())


@pytest.mark.parametrize("turns", range(-1, 6))
def test_quarter_turns_are_those_of_numpy(turns: int) -> None:
    image, labels, points = dotted()
    turned, mask = quarter_turns(image, labels, turns)
    _, moved = quarter_turns(image, points, turns)
    np.testing.assert_array_equal(np.asarray(turned), np.rot90(np.asarray(image), turns))
    assert mask is not None
    assert moved is not None
    np.testing.assert_array_equal(mask, np.rot90(labels.numpy(), turns))
    assert listed(moved) == lit(mask)
    assert torch.equal(points, dotted()[2])


def test_a_window_keeps_the_points_whose_pixels_it_shows() -> None:
    image, labels, points = dotted()
    fractions = points + torch.tensor([0.4, -0.4, 0.0])
    window, mask = crop(image, labels, 5, 8, 8, 9)
    _, kept = crop(image, fractions, 5, 8, 8, 9)
    assert window.size == (8, 9)
    assert mask is not None
    assert kept is not None
    assert lit(mask) == [(0, 8), (6, 0), (7, 0)]
    torch.testing.assert_close(kept[:, :2] - torch.tensor([0.4, -0.4]), kept[:, :2].round())
    assert listed(kept) == lit(mask)
    assert crop(image, points, 1, 1, 3, 3)[1].shape == (0, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "settings",
    [{}, {"crop_size": 9}, {"horizontal_flip": True, "quarter_turns": True, "crop_size": 13}],
)
def test_image_mask_and_points_stay_together(settings: dict[str, Any]) -> None:
    transform = DenseTrainTransform(**settings)
    image, labels, points = dotted()
    seen = set()
    for seed in range(30):
        pixels, mask = transform(image, labels, random.Random(seed))
        again, moved = transform(image, points, random.Random(seed))
        assert torch.equal(pixels, again)
        assert mask is not None
        assert moved is not None
        assert lit(pixels) == lit(mask) == listed(moved)
        assert set(mask.flatten().tolist()) <= {0, 7}
        seen.add(str(lit(mask)))
    assert (len(seen) > 1) is bool(settings)


def test_a_crop_larger_than_the_image_is_the_image() -> None:
    pixels, _ = DenseTrainTransform(crop_size=20)(dotted()[0], None, random.Random(0))
    assert pixels.shape == (3, 17, 20)


def test_scales_move_points_with_the_image_in_training_and_leave_them_in_evaluation() -> None:
    image, _, points = dotted()
    pixels, moved = DenseTrainTransform(2.0)(image, points, random.Random(0))
    assert pixels.shape == (3, 34, 46)
    assert moved is not None
    torch.testing.assert_close(moved[:, :2], 2 * points[:, :2] + 0.5)
    pixels, same = DenseEvalTransform(2.0)(image, points)
    assert pixels.shape == (3, 34, 46)
    assert same is points


def test_jittered_scales_stay_in_their_range() -> None:
    transform = DenseTrainTransform(scale_jitter=1.0)
    image = Image.new("RGB", (40, 20))
    widths = [transform(image, None, random.Random(seed))[0].shape[2] for seed in range(50)]
    assert 20 <= min(widths) < 30
    assert 60 < max(widths) <= 80


def test_negative_crops_are_refused() -> None:
    with pytest.raises(UserError, match="crop size is -1"):
        DenseTrainTransform(crop_size=-1)
