"""Images made of numbers, and a source of scripted draws, for tests of transforms."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def ramp() -> Image.Image:
    """Every value 0..255 once in each channel, in three orders."""
    values = np.arange(256, dtype=np.uint8)
    channels = np.stack([values, values[::-1], np.roll(values, 99)], axis=-1)
    return Image.fromarray(channels.reshape(16, 16, 3))


def array(image: Image.Image) -> np.ndarray:
    """Values of an RGB image, int64 (H, W, 3)."""
    assert image.mode == "RGB"
    return np.asarray(image).astype(np.int64)


class Scripted(random.Random):
    """A source whose integers are given beforehand, for tests of one exact draw."""

    def __init__(self, *integers: int) -> None:
        super().__init__(0)
        self.integers = list(integers)

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        value = self.integers.pop(0)
        assert value in (range(start) if stop is None else range(start, stop, step))
        return value
