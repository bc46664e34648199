"""Counts by scikit-image's blob and peak detectors, whose settings training images choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage import feature, filters
from skimage.color import rgb2gray

from helper_functions.data.images import read_image

Array = npt.NDArray[Any]
Settings = dict[str, float]

# Brightness in 0-1 of an RGB image (H, W, 3) in 0-1. Objects are brighter than what is around them.
CHANNELS: dict[str, Callable[[Array], Array]] = {
    "gray": rgb2gray,
    "inverted gray": lambda image: 1 - rgb2gray(image),
    "red": lambda image: image[..., 0],
    "green": lambda image: image[..., 1],
    "blue": lambda image: image[..., 2],
}


@dataclass(frozen=True)
class Detector:
    """A function of scikit-image and the settings to choose from.

    Attributes:
        count: Takes a channel (H, W), one of the settings and ascending thresholds; returns the
            number of objects at each threshold.
        settings: All but the threshold.
        thresholds: Ascending.
    """

    count: Callable[[Array, Settings, Sequence[float]], list[int]]
    settings: tuple[Settings, ...]
    thresholds: tuple[float, ...]

    def table(self, channel: Array) -> Array:
        """Count with all settings (S) and thresholds (T); (S, T)."""
        return np.array([self.count(channel, each, self.thresholds) for each in self.settings])


def _blob_log(channel: Array, settings: Settings, thresholds: Sequence[float]) -> list[int]:
    return [
        len(feature.blob_log(channel, num_sigma=4, threshold=threshold, **settings))
        for threshold in thresholds
    ]


def _blob_dog(channel: Array, settings: Settings, thresholds: Sequence[float]) -> list[int]:
    return [
        len(feature.blob_dog(channel, threshold=threshold, **settings)) for threshold in thresholds
    ]


def _peaks(channel: Array, settings: Settings, thresholds: Sequence[float]) -> list[int]:
    smooth = filters.gaussian(channel, settings["sigma"])
    # Of two peaks that are too close the higher one stays, so the threshold can come afterwards.
    peaks = feature.peak_local_max(
        smooth,
        min_distance=int(settings["min_distance"]),
        threshold_abs=thresholds[0],
        exclude_border=False,
    )
    heights = smooth[tuple(peaks.T)]
    return [int((heights > threshold).sum()) for threshold in thresholds]


_SIGMAS: tuple[Settings, ...] = tuple(
    {"min_sigma": low, "max_sigma": 3 * low} for low in (1, 2, 4, 8)
)
DETECTORS = {
    "blob_log": Detector(_blob_log, _SIGMAS, (0.02, 0.05, 0.1, 0.2, 0.3)),
    "blob_dog": Detector(_blob_dog, _SIGMAS, (0.02, 0.05, 0.1, 0.2, 0.3)),
    "peak_local_max": Detector(
        _peaks,
        tuple(
            {"sigma": sigma, "min_distance": distance}
            for sigma, distance in product((1, 2, 4, 8), (2, 4, 8, 16, 32))
        ),
        tuple(round(0.05 * step, 2) for step in range(20)),
    ),
}


def tune(counts: Array, true: Array) -> tuple[int, int]:
    """Return the indices of setting and threshold with the lowest MAE.

    Args:
        counts: Of N images with every setting and threshold, (N, S, T).
        true: (N,).
    """
    errors = np.abs(counts - true[:, None, None]).mean(axis=0)
    setting, threshold = np.unravel_index(errors.argmin(), errors.shape)
    return int(setting), int(threshold)


def read_channel(path: Path, name: str) -> Array:
    """Read an image and return one of ``CHANNELS``, (H, W)."""
    return CHANNELS[name](np.asarray(read_image(path), np.float64) / 255)


def count_with_all(path: Path, detector: str, channel: str) -> Array:
    """Count an image's objects with every setting and threshold, (S, T)."""
    return DETECTORS[detector].table(read_channel(path, channel))


def count_with(path: Path, detector: str, channel: str, setting: int, threshold: int) -> int:
    """Count an image's objects with one setting and threshold, by their indices."""
    chosen = DETECTORS[detector]
    limits = chosen.thresholds[threshold : threshold + 1]
    return chosen.count(read_channel(path, channel), chosen.settings[setting], limits)[0]
