"""Images of noise: small, and no two alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Truth = dict[str, tuple[list[str], str | None]]


def noise(number: int, channels: int = 3, side: int = 32) -> npt.NDArray[np.uint8]:
    """Bytes (side, side, channels) that no other number gives."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (side, side, channels), np.uint8)


def save(path: Path, number: int, mode: str = "RGB") -> None:
    """Write an image in the format of its extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(number)).convert(mode).save(path)
