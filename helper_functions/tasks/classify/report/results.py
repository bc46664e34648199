"""A validation, as the report needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from helper_functions.data.images import read_image
from helper_functions.metrics.calibration import Reliability, reliability
from helper_functions.metrics.thresholds import Rule, tune_thresholds
from helper_functions.tasks.classify.region_maps import RegionMap


@dataclass(frozen=True)
class Results:
    """A validation of N images and K classes."""

    metrics: dict[str, Any]  # as written to metrics.json
    table: dict[str, npt.NDArray[Any]]  # as written to per_class.csv
    paths: Sequence[Path]  # the N images
    targets: npt.NDArray[np.uint8]  # (N, K) 0 or 1
    scores: npt.NDArray[np.float32]  # (N, K) probabilities
    # Gives the region maps of images by index; None: the report goes without.
    find_maps: Callable[[Sequence[int]], Iterable[RegionMap]] | None = None
    read: Callable[[Path], Image.Image] = read_image  # decodes an image

    @property
    def classes(self) -> list[str]:
        """The K names."""
        classes: list[str] = self.metrics["classes"]
        return classes

    @cached_property
    def limits(self) -> npt.NDArray[np.float32]:
        """The threshold of every class, (K,)."""
        threshold = np.asarray(self.metrics["threshold"], np.float32)
        return np.broadcast_to(threshold, len(self.classes))

    @cached_property
    def best_first(self) -> list[int]:
        """Classes by descending AP."""
        order: list[int] = np.argsort(-self.table["AP"], kind="stable").tolist()
        return order

    @cached_property
    def present(self) -> list[int]:
        """The classes that some image shows, by descending AP."""
        return [k for k in self.best_first if self.table["support"][k]]

    @cached_property
    def reliability(self) -> Reliability:
        """Of all labels."""
        return reliability(self.targets, self.scores)

    @cached_property
    def best_thresholds(self) -> list[float]:
        """The threshold with the best F1 of every class; NaN for classes without an image."""
        return tune_thresholds(self.targets, self.scores, Rule("f1"), np.nan)

    def score_counts(self, bins: int) -> npt.NDArray[np.int64]:
        """Count the labels in bins of equal width by their score: (2, bins), the true ones last."""
        counts = np.zeros(2 * bins, np.int64)
        for target, score in zip(self.targets, self.scores, strict=True):
            members = np.minimum((score * bins).astype(np.int64), bins - 1)
            counts += np.bincount(members + np.where(target, bins, 0), minlength=2 * bins)
        return counts.reshape(2, bins)
