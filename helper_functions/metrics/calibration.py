"""Do scores mean what they say? Reliability of probabilities, and temperature scaling.

`N` images, `K` classes. Scores are probabilities in float32, as the model gives them. A temperature
T turns a probability p = sigmoid(z) into sigmoid(z / T): above 1 the scores move towards 0.5, below
1 away from it. The order of a class's scores stays as it is, and so do its average precision and
its best F1. Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks"
(ICML 2017), section 4.2, here with the binary cross-entropy of all labels.

Logits are won back from the probabilities. Where float32 has rounded those to 0 or 1, a logit
counts as -104 or 17.3, the last ones that float32 tells apart from there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
ScoreArray = npt.NDArray[np.float32]
TargetArray = npt.NDArray[np.uint8]

LOWEST, HIGHEST = 0.05, 20.0  # temperatures that are fitted
_SMALLEST = 1e-45  # the least positive float32
_LARGEST = 1 - 2.0**-25  # half-way between 1 and the float32 below
_BLOCK = 1 << 20  # labels in float64 at a time
_PASSES = 100  # bisection alone needs 50


def logits_of(scores: npt.NDArray[np.floating]) -> FloatArray:
    """The logits behind probabilities, float64 of the same shape."""
    p = np.clip(scores.astype(np.float64), _SMALLEST, _LARGEST)
    return np.log(p) - np.log1p(-p)


def _sigmoid(logits: FloatArray) -> FloatArray:
    smaller = np.exp(-np.abs(logits))  # keeps the digits of small probabilities
    probabilities: FloatArray = np.where(logits < 0, smaller, 1.0) / (1 + smaller)
    return probabilities


def scale_scores(scores: ScoreArray, temperature: float) -> ScoreArray:
    """Probabilities at a temperature, of the same shape; at 1 the very same array."""
    if temperature == 1:
        return scores
    scaled = np.empty_like(scores)
    rows = max(1, _BLOCK // max(1, scores[0].size)) if len(scores) else 1
    for start in range(0, len(scores), rows):
        block = slice(start, start + rows)
        scaled[block] = _sigmoid(logits_of(scores[block]) / temperature)
    return scaled


def _slopes(targets: TargetArray, scores: ScoreArray, inverse: float) -> tuple[float, float]:
    """First and second derivative of the summed cross-entropy by 1 / T."""
    first = second = 0.0
    rows = max(1, _BLOCK // scores.shape[1])
    for start in range(0, len(scores), rows):
        block = slice(start, start + rows)
        z, y = logits_of(scores[block]), targets[block].astype(np.float64)
        p = _sigmoid(inverse * z)
        first += float(((p - y) * z).sum())
        second += float((p * (1 - p) * z * z).sum())
    return first, second


def fit_temperature(targets: TargetArray, scores: ScoreArray) -> float:
    """The temperature with the least binary cross-entropy of all labels.

    The cross-entropy is convex in 1 / T, so Newton's steps, kept inside a bracket, end at its
    minimum.

    Args:
        targets: (N, K) 0 or 1.
        scores: (N, K) probabilities.

    Returns:
        A number from ``LOWEST`` to ``HIGHEST``; one of these where the minimum lies beyond, as it
        does for scores without a single mistake, or no better than a coin; 1 if every score is 0.5.
    """
    low, high = 1 / HIGHEST, 1 / LOWEST
    inverse = 1.0
    for _ in range(_PASSES):
        first, second = _slopes(targets, scores, inverse)
        if second == 0:  # nothing changes: all scores are 0.5
            break
        low, high = (low, inverse) if first > 0 else (inverse, high)
        step = inverse - first / second
        following = step if low < step < high else (low + high) / 2
        if abs(following - inverse) <= 1e-9 * inverse:
            break
        inverse = following
    return float(np.clip(1 / inverse, LOWEST, HIGHEST))


class Reliability(NamedTuple):
    """Labels in bins of equal width by their score.

    Attributes:
        counts: (bins,) labels in each bin.
        scores: (bins,) their mean score; 0 in an empty bin.
        frequencies: (bins,) the share of them that is true; 0 in an empty bin.
    """

    counts: npt.NDArray[np.int64]
    scores: FloatArray
    frequencies: FloatArray

    @property
    def error(self) -> float:
        """Expected calibration error, from 0 to 1: mean of |score - frequency| over the labels."""
        gaps = np.abs(self.scores - self.frequencies)
        return float((self.counts * gaps).sum() / max(self.counts.sum(), 1))


def reliability(targets: TargetArray, scores: ScoreArray, bins: int = 15) -> Reliability:
    """How often labels of about the same score are true, over all pictures and classes.

    Args:
        targets: (N, K) 0 or 1.
        scores: (N, K) probabilities.
        bins: Bins between 0 and 1. A bin holds its lower border; the last one also holds 1.
    """
    counts = np.zeros(bins, np.int64)
    score_sums, true = np.zeros((2, bins))
    rows = max(1, _BLOCK // scores.shape[1])
    for start in range(0, len(scores), rows):
        values = scores[start : start + rows].ravel().astype(np.float64)
        labels = targets[start : start + rows].ravel()
        place = np.minimum((values * bins).astype(np.int64), bins - 1)
        counts += np.bincount(place, minlength=bins)
        score_sums += np.bincount(place, values, minlength=bins)
        true += np.bincount(place, labels, minlength=bins)
    filled = np.maximum(counts, 1)
    return Reliability(counts, score_sums / filled, true / filled)
