"""Multi-label metrics: average precision, precision, recall and F1, as the paper reports them.

`N` images, `K` classes. Targets are 0 or 1; scores are probabilities, compared in float32 whatever
their type. Arrays, CPU tensors of PyTorch and lists are accepted. Percentages run from 0 to 100.

Where a metric has no value, this module defines one, so that no result is not-a-number:

* A class without positives ("absent") has average precision 0 and counts in `mAP`. `mAP_present`
  and `mAP_sklearn` leave it out; both are 0 when every class is absent.
* Precision is 0 when nothing is predicted, recall 0 when there is no positive, F1 0 when both hold.
* Images with equal scores keep their input order, so `mAP` depends on that order. `mAP_sklearn`
  does not: there, images with equal scores enter the ranking together.

Wrong input (disagreeing shapes, targets other than 0 and 1, scores that are not finite, no image or
no class) raises `ValueError`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

BoolArray = npt.NDArray[np.bool_]
CountArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
ScoreArray = npt.NDArray[np.float32]

_POSITIVES_EPS = 1e-8  # added to the number of positives by the paper's code
_COLUMNS_PER_BLOCK = 32  # classes copied at a time: 11 MB for 88,987 images


class _Counts(NamedTuple):
    """Decisions counted, one entry per class (or one entry for all decisions together).

    Attributes:
        true_positives: decisions that are positive and right.
        predicted: decisions that are positive.
        support: targets that are positive.
    """

    true_positives: CountArray
    predicted: CountArray
    support: CountArray


class _Rates(NamedTuple):
    """Precision, recall and F1 (0 to 100), one entry per entry of the counts."""

    precision: FloatArray
    recall: FloatArray
    f1: FloatArray


def average_precision(scores: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Average precision of one class by the paper's definition.

    `AP = sum(precision at rank r, over the ranks r of the positives) / (positives + 1e-8)`, images
    ranked by descending score, equal scores in input order. Source: the released code of VoLUNet.

    Args:
        scores: (N,) scores of the class.
        targets: (N,) 0 or 1.

    Returns:
        A number from 0 to 1; 0 without positives.

    Raises:
        ValueError: if the input is wrong (see the module's description).

    >>> round(average_precision([0.9, 0.8, 0.7], [1, 0, 1]), 4)
    0.8333
    """
    positives, class_scores = _checked(targets, scores, ndim=1)
    return _average_precision_at(_ranks_of_positives(class_scores, positives))


def average_precision_per_class(targets: npt.ArrayLike, scores: npt.ArrayLike) -> FloatArray:
    """`average_precision` of every class.

    Args:
        targets: (N, K) 0 or 1.
        scores: (N, K).

    Returns:
        (K,) numbers from 0 to 1; 0 for a class without positives.

    Raises:
        ValueError: if the input is wrong (see the module's description).
    """
    return _average_precisions(*_checked(targets, scores, ndim=2))


def mean_average_precision(targets: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Mean of `average_precision` over all classes, in percent; absent classes count as 0.

    Args:
        targets: (N, K) 0 or 1.
        scores: (N, K).

    Returns:
        A number from 0 to 100.

    Raises:
        ValueError: if the input is wrong (see the module's description).
    """
    return _mean_percent(average_precision_per_class(targets, scores))


def precision_recall_f1(
    targets: npt.ArrayLike, scores: npt.ArrayLike, threshold: npt.ArrayLike = 0.5
) -> dict[str, float]:
    """Precision, recall and F1 of the decisions `score > threshold`.

    Per class: `precision = tp / predicted`, `recall = tp / support`, and
    `F1 = 2 tp / (predicted + support)`, which is their harmonic mean; 0 where a denominator is 0.

    Args:
        targets: (N, K) 0 or 1.
        scores: (N, K).
        threshold: one number, or (K,) one number per class. A score equal to it is not predicted.

    Returns:
        Percentages from 0 to 100. `P_C, R_C, F_C`: means of the per-class values (macro; `F_C` is
        the F1 of the paper). `P_O, R_O, F_O`: of all decisions together (micro).
        `CF1 = 2 P_C R_C / (P_C + R_C)`: the per-class F1 of most multi-label literature.

    Raises:
        ValueError: if the input is wrong (see the module's description).
    """
    positives, checked_scores = _checked(targets, scores, ndim=2)
    thresholds = _checked_threshold(threshold, num_classes=positives.shape[1])
    return _summary(_count_decisions(positives, checked_scores, thresholds))


def per_class_table(
    targets: npt.ArrayLike, scores: npt.ArrayLike, threshold: npt.ArrayLike = 0.5
) -> dict[str, npt.NDArray[Any]]:
    """One row of results per class, as columns.

    Args:
        targets: (N, K) 0 or 1.
        scores: (N, K).
        threshold: one number, or (K,) one number per class.

    Returns:
        Arrays (K,): `support` and `predicted` (numbers of images, int64); `AP`, `precision`,
        `recall` and `F1` (0 to 100, float64), defined as in `average_precision` and
        `precision_recall_f1`.

    Raises:
        ValueError: if the input is wrong (see the module's description).
    """
    positives, checked_scores = _checked(targets, scores, ndim=2)
    thresholds = _checked_threshold(threshold, num_classes=positives.shape[1])
    counts = _count_decisions(positives, checked_scores, thresholds)
    rates = _rates(counts)
    return {
        "support": counts.support,
        "AP": 100 * _average_precisions(positives, checked_scores),
        "precision": rates.precision,
        "recall": rates.recall,
        "F1": rates.f1,
        "predicted": counts.predicted,
    }


def evaluate(
    targets: npt.ArrayLike, scores: npt.ArrayLike, threshold: npt.ArrayLike = 0.5
) -> dict[str, Any]:
    """Everything that a report needs, in types that JSON can write.

    Args:
        targets: (N, K) 0 or 1.
        scores: (N, K).
        threshold: one number, or (K,) one number per class.

    Returns:
        Percentages from 0 to 100: `mAP` (absent classes count as 0), `mAP_present` (mean over the
        classes with positives), `mAP_sklearn` (the same mean of scikit-learn's average precision),
        the seven entries of `precision_recall_f1`, and `per_class_AP` (list of K). Besides:
        `absent_classes` (their number), `threshold` (a float or a list of K), `num_images`, and
        `nothing_predicted`: true if no score exceeds its threshold, in which case the zeros of
        precision and F1 mean "no decision", not "wrong decisions".

    Raises:
        ValueError: if the input is wrong (see the module's description).
    """
    positives, checked_scores = _checked(targets, scores, ndim=2)
    thresholds = _checked_threshold(threshold, num_classes=positives.shape[1])
    counts = _count_decisions(positives, checked_scores, thresholds)
    ap = _average_precisions(positives, checked_scores)
    tie_aware_ap = _tie_aware_average_precisions(positives, checked_scores)
    present = counts.support > 0
    return {
        "mAP": _mean_percent(ap),
        "mAP_present": _mean_percent(ap[present]),
        "mAP_sklearn": _mean_percent(tie_aware_ap[present]),
        **_summary(counts),
        "threshold": np.asarray(threshold, dtype=np.float64).tolist(),
        "num_images": len(positives),
        "absent_classes": int((~present).sum()),
        "nothing_predicted": not counts.predicted.any(),
        "per_class_AP": (100 * ap).tolist(),
    }


def baselines(targets: npt.ArrayLike, draws: int = 20, seed: int = 0) -> dict[str, float]:
    """What a model reaches on these targets without looking at a picture.

    `chance_mAP`: `mean_average_precision` of independent uniform scores, mean over `draws`. Such
    scores put the positives of a class on random distinct ranks; these are drawn, without sorting.

    `frequency_mAP`: every image gets the frequency of the class in the training data as its score.
    Within a class all scores are then equal, whatever the frequency, so by scikit-learn's
    definition, which knows ties, the value is the mean share of positives. Absent classes count
    as 0.

    Args:
        targets: (N, K) 0 or 1.
        draws: how many random rankings to average.
        seed: of the random numbers; equal seeds give equal results.

    Returns:
        `chance_mAP` and `frequency_mAP`, from 0 to 100.

    Raises:
        ValueError: if the input is wrong (see the module's description) or `draws` is below 1.
    """
    if draws < 1:
        raise ValueError(f"The number of draws must be at least 1, but it is {draws}.")
    positives, constant_scores = _checked(targets, np.zeros(np.shape(targets)), ndim=2)
    return {
        "chance_mAP": _chance_map(positives, draws, np.random.default_rng(seed)),
        "frequency_mAP": _mean_percent(_tie_aware_average_precisions(positives, constant_scores)),
    }


def _checked(
    targets: npt.ArrayLike, scores: npt.ArrayLike, ndim: int
) -> tuple[BoolArray, ScoreArray]:
    """Returns the targets as booleans and the scores in float32, or raises `ValueError`."""
    target_array, score_array = np.asarray(targets), np.asarray(scores)
    if target_array.shape != score_array.shape:
        raise ValueError(
            f"Targets and scores must have the same shape, but the targets have "
            f"{target_array.shape} and the scores have {score_array.shape}."
        )
    if target_array.ndim != ndim:
        expected = "(images,)" if ndim == 1 else "(images, classes)"
        raise ValueError(
            f"Targets and scores must have shape {expected}, but they have {target_array.shape}."
        )
    if target_array.size == 0:
        raise ValueError(
            f"At least one image and one class are needed, but the targets have shape "
            f"{target_array.shape}."
        )
    positives = target_array == 1
    _reject(~positives & (target_array != 0), target_array, "Every target must be 0 or 1")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, rejected below
        float_scores = score_array.astype(np.float32, copy=False)
    _reject(~np.isfinite(float_scores), score_array, "Every score must be a finite float32 number")
    return positives, float_scores


def _reject(wrong: BoolArray, values: npt.NDArray[Any], rule: str) -> None:
    """Raises `ValueError` with the first wrong value and its index, if there is any."""
    if wrong.any():
        index = tuple(np.argwhere(wrong)[0].tolist())
        raise ValueError(f"{rule}, but the value at index {index} is {values[index]}.")


def _checked_threshold(threshold: npt.ArrayLike, num_classes: int) -> ScoreArray:
    """Returns the threshold in float32, () or (K,), or raises `ValueError`."""
    thresholds = np.asarray(threshold, dtype=np.float32)
    if thresholds.shape not in {(), (num_classes,)}:
        raise ValueError(
            f"The threshold must be one number or one per class ({num_classes}), but it has "
            f"shape {thresholds.shape}."
        )
    if np.isnan(thresholds).any():
        raise ValueError("The threshold must be a number, but it is not-a-number (NaN).")
    return thresholds


def _ranks_of_positives(class_scores: ScoreArray, positives: BoolArray) -> CountArray:
    """Ranks (P,), ascending from 1, of the P positives of a class; equal scores in input order."""
    order = np.argsort(-class_scores, kind="stable")
    return np.flatnonzero(positives[order]) + 1


def _average_precision_at(ranks: CountArray) -> float:
    """Average precision of a class whose P positives have the ascending ranks (P,)."""
    precisions = np.arange(1, len(ranks) + 1) / ranks
    return float(precisions.sum() / (len(ranks) + _POSITIVES_EPS))


def _average_precisions(positives: BoolArray, scores: ScoreArray) -> FloatArray:
    """Average precision (K,) of checked input (N, K), a few contiguous columns at a time."""
    num_classes = positives.shape[1]
    result = np.empty(num_classes)
    for start in range(0, num_classes, _COLUMNS_PER_BLOCK):
        block = slice(start, start + _COLUMNS_PER_BLOCK)
        columns = zip(scores[:, block].T.copy(), positives[:, block].T.copy(), strict=True)
        result[block] = [
            _average_precision_at(_ranks_of_positives(class_scores, class_positives))
            for class_scores, class_positives in columns
        ]
    return result


def _tie_aware_average_precisions(positives: BoolArray, scores: ScoreArray) -> FloatArray:
    """scikit-learn's average precision (K,) of checked input (N, K); 0 for absent classes."""
    result = np.zeros(positives.shape[1])
    for class_index in np.flatnonzero(positives.any(axis=0)):
        result[class_index] = average_precision_score(
            positives[:, class_index], scores[:, class_index]
        )
    return result


def _mean_percent(values: FloatArray) -> float:
    """Mean of numbers from 0 to 1, in percent; 0 if there are none."""
    return float(100 * values.mean()) if values.size else 0.0


def _count_decisions(positives: BoolArray, scores: ScoreArray, thresholds: ScoreArray) -> _Counts:
    """Counts per class (K,) of the decisions `score > threshold` on checked input (N, K)."""
    decisions = scores > thresholds
    return _Counts(
        true_positives=(decisions & positives).sum(axis=0),
        predicted=decisions.sum(axis=0),
        support=positives.sum(axis=0),
    )


def _rates(counts: _Counts) -> _Rates:
    """Precision, recall and F1 of every entry of the counts."""
    true_positives, predicted, support = counts
    return _Rates(
        precision=100 * _ratio(true_positives, predicted),
        recall=100 * _ratio(true_positives, support),
        f1=100 * _ratio(2 * true_positives, predicted + support),
    )


def _ratio(numerator: CountArray, denominator: CountArray) -> FloatArray:
    """Quotient, 0 where the denominator is 0."""
    return np.divide(
        numerator, denominator, out=np.zeros(denominator.shape), where=denominator != 0
    )


def _summary(counts: _Counts) -> dict[str, float]:
    """The entries of `precision_recall_f1` from the counts per class."""
    per_class = _rates(counts)
    overall = _rates(_Counts(*(count.sum(keepdims=True) for count in counts)))
    macro_precision, macro_recall = (
        float(per_class.precision.mean()),
        float(per_class.recall.mean()),
    )
    macro_sum = macro_precision + macro_recall
    return {
        "P_C": macro_precision,
        "R_C": macro_recall,
        "F_C": float(per_class.f1.mean()),
        "P_O": overall.precision.item(),
        "R_O": overall.recall.item(),
        "F_O": overall.f1.item(),
        "CF1": 2 * macro_precision * macro_recall / macro_sum if macro_sum else 0.0,
    }


def _chance_map(positives: BoolArray, draws: int, generator: np.random.Generator) -> float:
    """Mean average precision (0 to 100) of uniform random scores, mean over draws."""
    num_images = len(positives)
    ap = np.empty((draws, positives.shape[1]))
    for class_index, support in enumerate(positives.sum(axis=0)):
        for draw in range(draws):
            ranks = generator.choice(num_images, size=support, replace=False, shuffle=False) + 1
            ap[draw, class_index] = _average_precision_at(np.sort(ranks))
    return _mean_percent(ap)
