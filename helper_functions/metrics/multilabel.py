"""Multi-label metrics: average precision, precision, recall and F1, as the paper reports them.

`N` images, `K` classes. Targets are 0 or 1; scores are probabilities, compared in float32 whatever
their type. Arrays, CPU tensors of PyTorch and lists are accepted. Percentages run from 0 to 100.

Where a metric has no value, this module defines one, so that no result is not-a-number:

* A class without positives ("absent") has average precision 0 and counts in `mAP`. `mAP_present`
  and `mAP_sklearn` leave it out; both are 0 when every class is absent.
* Precision is 0 when nothing is predicted, recall 0 when there is no positive, F1 0 when both hold.
* Images with equal scores keep their input order, so `mAP` depends on that order. `mAP_sklearn`
  does not: there, images with equal scores enter the ranking together.

Memory beside the input is bounded: classes and images are taken a few at a time.

Wrong input (disagreeing shapes, targets other than 0 and 1, scores that are not finite, no image or
no class) raises `ValueError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from helper_functions.metrics.per_image import picture_metrics
from helper_functions.metrics.ranks import ranked

BoolArray = npt.NDArray[np.bool_]
CountArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
ScoreArray = npt.NDArray[np.float32]

_POSITIVES_EPS = 1e-8  # added to the number of positives by the paper's code
_COLUMNS_PER_BLOCK = 32  # classes copied at a time: 11 MB for 88,987 images
_ROWS_PER_BLOCK = 1024  # images checked at a time


class Report(NamedTuple):
    """What a validation reports.

    Attributes:
        metrics: As `evaluate` returns them.
        per_class: As `per_class_table` returns it.
    """

    metrics: dict[str, Any]
    per_class: dict[str, npt.NDArray[Any]]


class _ClassBlock(NamedTuple):
    """A few classes (C of them), each contiguous.

    Attributes:
        members: which classes of the whole.
        positives: (C, N).
        scores: (C, N).
    """

    members: slice
    positives: BoolArray
    scores: ScoreArray


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
    checked_targets, class_scores = _checked(targets, scores, ndim=1)
    (ranked_positives,) = ranked(class_scores, checked_targets == 1)
    return _average_precision_at(_ranks(ranked_positives))


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
    checked_targets, checked_scores = _checked(targets, scores, ndim=2)
    result = np.empty(checked_targets.shape[1])
    for block in _class_blocks(checked_targets, checked_scores):
        columns = zip(block.positives, block.scores, strict=True)
        for k, (positives, class_scores) in enumerate(columns, start=block.members.start):
            (ranked_positives,) = ranked(class_scores, positives)
            result[k] = _average_precision_at(_ranks(ranked_positives))
    return result


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
    checked_targets, checked_scores = _checked(targets, scores, ndim=2)
    thresholds = _checked_threshold(threshold, num_classes=checked_targets.shape[1])
    counts = _Counts(*np.zeros((3, checked_targets.shape[1]), np.int64))
    for block in _class_blocks(checked_targets, checked_scores):
        _count_decisions(counts, block, thresholds)
    return _summary(counts)


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
    return _class_results(targets, scores, threshold).table()


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
        the seven entries of `precision_recall_f1`, `weighted_F1` (mean of the per-class F1, each
        class weighted by its number of positives), the entries of
        `picture_metrics.picture_metrics`, and `per_class_AP` (list of K). Besides:
        `absent_classes` (their number), `threshold` (a float or a list of K), `num_images`, and
        `nothing_predicted`: true if no score exceeds its threshold, in which case the zeros of
        precision and F1 mean "no decision", not "wrong decisions".

    Raises:
        ValueError: if the input is wrong (see the module's description).
    """
    return report(targets, scores, threshold).metrics


def report(targets: npt.ArrayLike, scores: npt.ArrayLike, threshold: npt.ArrayLike = 0.5) -> Report:
    """`evaluate` and `per_class_table` at once: every class is ranked a single time.

    Args:
        targets: (N, K) 0 or 1.
        scores: (N, K).
        threshold: one number, or (K,) one number per class.

    Raises:
        ValueError: if the input is wrong (see the module's description).
    """
    results = _class_results(targets, scores, threshold)
    present = results.counts.support > 0
    metrics = {
        "mAP": _mean_percent(results.ap),
        "mAP_present": _mean_percent(results.ap[present]),
        "mAP_sklearn": _mean_percent(results.tie_aware_ap[present]),
        **_summary(results.counts),
        "weighted_F1": _weighted_f1(results.counts),
        **picture_metrics(results.targets, results.scores, results.thresholds),
        "threshold": np.asarray(threshold, dtype=np.float64).tolist(),
        "num_images": len(results.targets),
        "absent_classes": int((~present).sum()),
        "nothing_predicted": not results.counts.predicted.any(),
        "per_class_AP": (100 * results.ap).tolist(),
    }
    return Report(metrics, results.table())


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
    checked_targets = _checked_targets(np.asarray(targets), ndim=2)
    num_images = len(checked_targets)
    support = np.count_nonzero(checked_targets, axis=0)
    return {
        "chance_mAP": _chance_map(support, num_images, draws, np.random.default_rng(seed)),
        "frequency_mAP": _mean_percent(support / num_images),
    }


class _ClassResults(NamedTuple):
    """The checked input and what follows from it for every class, (K,) each.

    Attributes:
        targets: (N, K).
        scores: (N, K).
        thresholds: () or (K,).
        counts: decisions.
        ap: average precision, 0 to 1.
        tie_aware_ap: scikit-learn's average precision, 0 to 1.
    """

    targets: npt.NDArray[Any]
    scores: ScoreArray
    thresholds: ScoreArray
    counts: _Counts
    ap: FloatArray
    tie_aware_ap: FloatArray

    def table(self) -> dict[str, npt.NDArray[Any]]:
        """The columns of `per_class_table`."""
        rates = _rates(self.counts)
        return {
            "support": self.counts.support,
            "AP": 100 * self.ap,
            "precision": rates.precision,
            "recall": rates.recall,
            "F1": rates.f1,
            "predicted": self.counts.predicted,
        }


def _class_results(
    targets: npt.ArrayLike, scores: npt.ArrayLike, threshold: npt.ArrayLike
) -> _ClassResults:
    """Checks the input, ranks every class once and counts the decisions on it."""
    checked_targets, checked_scores = _checked(targets, scores, ndim=2)
    num_classes = checked_targets.shape[1]
    thresholds = _checked_threshold(threshold, num_classes)
    counts = _Counts(*np.zeros((3, num_classes), np.int64))
    ap, tie_aware_ap = np.empty((2, num_classes))
    for block in _class_blocks(checked_targets, checked_scores):
        _count_decisions(counts, block, thresholds)
        columns = zip(block.positives, block.scores, strict=True)
        for k, (positives, class_scores) in enumerate(columns, start=block.members.start):
            ranked_positives, ranked_scores = ranked(class_scores, positives, class_scores)
            ranks = _ranks(ranked_positives)
            ap[k] = _average_precision_at(ranks)
            tie_aware_ap[k] = _tie_aware_average_precision(ranked_scores, ranks)
    return _ClassResults(checked_targets, checked_scores, thresholds, counts, ap, tie_aware_ap)


def _checked(
    targets: npt.ArrayLike, scores: npt.ArrayLike, ndim: int
) -> tuple[npt.NDArray[Any], ScoreArray]:
    """Returns the targets as an array and the scores in float32, or raises `ValueError`."""
    target_array, score_array = np.asarray(targets), np.asarray(scores)
    if target_array.shape != score_array.shape:
        raise ValueError(
            f"Targets and scores must have the same shape, but the targets have "
            f"{target_array.shape} and the scores have {score_array.shape}."
        )
    target_array = _checked_targets(target_array, ndim)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, rejected below
        float_scores = score_array.astype(np.float32, copy=False)
    for rows in _row_blocks(len(float_scores)):
        finite = np.isfinite(float_scores[rows])
        rule = "Every score must be a finite float32 number"
        _reject(~finite, score_array[rows], rows.start, rule)
    return target_array, float_scores


def _checked_targets(targets: npt.NDArray[Any], ndim: int) -> npt.NDArray[Any]:
    """Returns the targets, or raises `ValueError`."""
    if targets.ndim != ndim:
        expected = "(images,)" if ndim == 1 else "(images, classes)"
        raise ValueError(
            f"Targets and scores must have shape {expected}, but they have {targets.shape}."
        )
    if targets.size == 0:
        raise ValueError(
            f"At least one image and one class are needed, but the targets have shape "
            f"{targets.shape}."
        )
    for rows in _row_blocks(len(targets)):
        block = targets[rows]
        _reject((block != 0) & (block != 1), block, rows.start, "Every target must be 0 or 1")
    return targets


def _reject(wrong: BoolArray, values: npt.NDArray[Any], start: int, rule: str) -> None:
    """Raises `ValueError` with the first wrong value and its index, if there is any.

    Args:
        wrong: of some rows of an array.
        values: the same rows.
        start: index of the first of them.
        rule: what is violated.
    """
    if wrong.any():
        row, *rest = np.argwhere(wrong)[0].tolist()
        index = (start + row, *rest)
        raise ValueError(f"{rule}, but the value at index {index} is {values[(row, *rest)]}.")


def _row_blocks(num_images: int) -> Iterator[slice]:
    """A few images at a time."""
    for start in range(0, num_images, _ROWS_PER_BLOCK):
        yield slice(start, start + _ROWS_PER_BLOCK)


def _class_blocks(targets: npt.NDArray[Any], scores: ScoreArray) -> Iterator[_ClassBlock]:
    """A few classes of checked input (N, K) at a time."""
    for start in range(0, targets.shape[1], _COLUMNS_PER_BLOCK):
        members = slice(start, start + _COLUMNS_PER_BLOCK)
        # A copy before the comparison: both read and write along memory.
        positives = np.ascontiguousarray(targets[:, members].T) == 1
        yield _ClassBlock(members, positives, np.ascontiguousarray(scores[:, members].T))


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


def _ranks(ranked_positives: BoolArray) -> CountArray:
    """Ranks (P,), ascending from 1, of the P positives among a class's ranked images (N,)."""
    return np.flatnonzero(ranked_positives) + 1


def _average_precision_at(ranks: CountArray) -> float:
    """Average precision of a class whose P positives have the ascending ranks (P,)."""
    precisions = np.arange(1, len(ranks) + 1) / ranks
    return float(precisions.sum() / (len(ranks) + _POSITIVES_EPS))


def _tie_aware_average_precision(ranked_scores: ScoreArray, ranks: CountArray) -> float:
    """scikit-learn's average precision of a class; 0 without positives.

    Mean over the positives of the precision of "score at least as high as this one's".

    Args:
        ranked_scores: (N,), descending.
        ranks: (P,), of the positives among them, ascending from 1.
    """
    if not len(ranks):
        return 0.0
    own = ranked_scores[ranks - 1]
    retrieved = len(ranked_scores) - np.searchsorted(ranked_scores[::-1], own)
    right = len(own) - np.searchsorted(own[::-1], own)
    return float((right / retrieved).mean())


def _mean_percent(values: FloatArray) -> float:
    """Mean of numbers from 0 to 1, in percent; 0 if there are none."""
    return float(100 * values.mean()) if values.size else 0.0


def _count_decisions(counts: _Counts, block: _ClassBlock, thresholds: ScoreArray) -> None:
    """Enters the counts of a few classes' decisions `score > threshold`."""
    own = thresholds[block.members, None] if thresholds.ndim else thresholds
    decisions = block.scores > own
    counts.true_positives[block.members] = np.count_nonzero(decisions & block.positives, axis=1)
    counts.predicted[block.members] = np.count_nonzero(decisions, axis=1)
    counts.support[block.members] = np.count_nonzero(block.positives, axis=1)


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


def _weighted_f1(counts: _Counts) -> float:
    """Mean of the per-class F1 (0 to 100), each class weighted by its number of positives."""
    positives = counts.support.sum()
    return float(counts.support @ _rates(counts).f1 / positives) if positives else 0.0


def _chance_map(
    support: CountArray, num_images: int, draws: int, generator: np.random.Generator
) -> float:
    """Mean average precision (0 to 100) of uniform random scores, mean over draws."""
    ap = np.empty((draws, len(support)))
    for class_index, positives in enumerate(support):
        for draw in range(draws):
            ranks = generator.choice(num_images, size=positives, replace=False, shuffle=False) + 1
            ap[draw, class_index] = _average_precision_at(np.sort(ranks))
    return _mean_percent(ap)
