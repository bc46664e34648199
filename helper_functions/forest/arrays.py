"""Array types, and the random arrays behind textures and colors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, uniform_filter

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
ByteArray = npt.NDArray[np.uint8]


def smooth_noise(rng: np.random.Generator, size: int, sigma: float) -> FloatArray:
    """Noise (size, size) of mean 0 and variance 1, smooth over about `sigma` pixels."""
    coarsening = max(1, int(sigma // 2))
    coarse_size = -(-size // coarsening) + 4
    noise = rng.random((coarse_size, coarse_size), dtype=np.float32)
    noise = gaussian_filter(noise, sigma / coarsening, truncate=2.5, mode="wrap")
    if coarsening > 1:
        noise = noise.repeat(coarsening, axis=0).repeat(coarsening, axis=1)
        noise = uniform_filter(noise, coarsening)
    noise = noise[:size, :size]
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float32)


def tints(rng: np.random.Generator, count: int, brightness: float, hue: float) -> FloatArray:
    """Color factors (count, 3) round 1, with log-spread `brightness` and `hue` per channel."""
    logs = rng.normal(0.0, brightness, (count, 1)) + rng.normal(0.0, hue, (count, 3))
    return np.exp(logs).astype(np.float32)
