"""Reliability of probabilities, and temperature scaling.

Targets (0 or 1) and scores (probabilities in float32, as the model gives them) are (N, K) of N
images and K classes. A temperature T turns a probability p = sigmoid(z) into sigmoid(z / T): above
1 the scores move towards 0.5, below 1 away from it. The order of a class's scores stays as it is,
and so do its average precision and its best F1. Source: Guo et al., "On Calibration of Modern
Neural Networks" (ICML 2017), section 4.2, here with the binary cross-entropy of all labels.

Logits are computed from the probabilities. Where float32 has rounded those to 0 or 1, the logit is
-104 or 17.3, the last ones that float32 can distinguish.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit

FloatArray = npt.NDArray[np.float64]
ScoreArray = npt.NDArray[np.float32]
TargetArray = npt.NDArray[np.uint8]

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0  # bounds of fitted temperatures
_SMALLEST = 1e-45  # the least positive float32
_LARGEST = 1 - 2.0**-25  # half-way between 1 and the float32 below
_BLOCK = 1 << 20  # labels in float64 at a time


def logits_of(scores: npt.NDArray[np.floating]) -> FloatArray:
    """Compute the logits of probabilities, float64 of the same shape: ``log(p / (1 - p))``."""
    p = np.clip(scores.astype(np.float64), _SMALLEST, _LARGEST)
    return np.log(p) - np.log1p(-p)


def scale_scores(scores: ScoreArray, temperature: float) -> ScoreArray:
    """Return probabilities at a temperature, of the same shape; at 1 the same array.

    >>> scale_scores(np.array([[0.2, 0.9]], np.float32), 2.0).round(3)
    array([[0.333, 0.75 ]], dtype=float32)
    """
    if temperature == 1:
        return scores
    scaled = np.empty_like(scores)
    for rows in _row_blocks(scores):
        scaled[rows] = expit(logits_of(scores[rows]) / temperature)
    return scaled


def fit_temperature(targets: TargetArray, scores: ScoreArray) -> float:
    """Find the temperature with the least binary cross-entropy of all labels.

    The cross-entropy is convex in 1 / T, so its derivative has one zero at most.

    Returns:
        A number from ``MIN_TEMPERATURE`` to ``MAX_TEMPERATURE``; one of these where the minimum
        lies beyond, as it does for scores without a single mistake, or no better than chance; 1 if
        every score is 0.5.

    >>> scores = np.array([[0.9, 0.9, 0.9]], np.float32)
    >>> round(fit_temperature(np.array([[1, 1, 0]], np.uint8), scores), 2)  # ln 9 / ln 2
    3.17
    """

    def derivative(inverse: float) -> float:
        """Derivative of the summed cross-entropy with respect to 1 / T."""
        total = 0.0
        for rows in _row_blocks(scores):
            z = logits_of(scores[rows])
            total += float(((expit(inverse * z) - targets[rows]) * z).sum())
        return total

    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    at_low = derivative(low)
    if at_low >= 0:
        return MAX_TEMPERATURE if at_low > 0 else 1.0
    if derivative(high) <= 0:
        return MIN_TEMPERATURE
    return 1 / float(brentq(derivative, low, high, xtol=1e-9, rtol=1e-9))


class Reliability(NamedTuple):
    """Labels in bins of equal width by their score; arrays (bins,), 0 in an empty bin."""

    counts: npt.NDArray[np.int64]  # labels in each bin
    scores: FloatArray  # their mean score
    frequencies: FloatArray  # the share of them that is true

    @property
    def error(self) -> float:
        """Expected calibration error, from 0 to 1: mean of |score - frequency| over the labels."""
        gaps = np.abs(self.scores - self.frequencies)
        return float((self.counts * gaps).sum() / max(self.counts.sum(), 1))


def reliability(targets: TargetArray, scores: ScoreArray, bins: int = 15) -> Reliability:
    """Compute how often labels of about the same score are true, over all images and classes.

    A bin holds its lower border; the last one also holds 1.

    >>> scores = np.array([[0.25, 0.25, 0.75, 0.75]], np.float32)
    >>> reliability(np.array([[0, 1, 1, 1]], np.uint8), scores, bins=2).error
    0.25
    """
    counts = np.zeros(bins, np.int64)
    score_sums, true = np.zeros((2, bins))
    for rows in _row_blocks(scores):
        values = scores[rows].ravel().astype(np.float64)
        indices = np.minimum((values * bins).astype(np.int64), bins - 1)
        counts += np.bincount(indices, minlength=bins)
        score_sums += np.bincount(indices, values, minlength=bins)
        true += np.bincount(indices, targets[rows].ravel(), minlength=bins)
    filled = np.maximum(counts, 1)
    return Reliability(counts, score_sums / filled, true / filled)


def _row_blocks(scores: ScoreArray) -> Iterator[slice]:
    """Blocks of images, of about ``_BLOCK`` labels each."""
    rows = max(1, _BLOCK // max(1, scores[:1].size))
    for start in range(0, len(scores), rows):
        yield slice(start, start + rows)
