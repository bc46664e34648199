"""Multi-label metrics: average precision, precision, recall and F1, as the paper reports them.

Shapes: targets and scores (N, K) of N images and K classes. Targets are 0 or 1. Scores are
probabilities and are compared in float32, whatever their type. Arrays, CPU tensors of PyTorch and
lists are accepted. Percentages run from 0 to 100.

No result is not-a-number. Where a metric is undefined, it has this value:

* A class without positives ("absent") has average precision 0 and counts in ``mAP``.
  ``mAP_present`` and ``mAP_sklearn`` leave it out; both are 0 when every class is absent.
* Precision is 0 when nothing is predicted, recall 0 when there is no positive, F1 0 when both hold.
* Images with equal scores keep their input order, so ``mAP`` depends on that order.
  ``mAP_sklearn`` does not: there, images with equal scores enter the ranking together.

Memory beside the input is bounded: classes and images are processed in blocks.

Wrong input (disagreeing shapes, targets other than 0 and 1, scores that are not finite, no image or
no class) raises ``ValueError``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from helper_functions.metrics.per_image import image_metrics
from helper_functions.metrics.ranks import descending_order

BoolArray = npt.NDArray[np.bool_]
CountArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
ScoreArray = npt.NDArray[np.float32]
Table = dict[str, npt.NDArray[Any]]

_POSITIVES_EPS = 1e-8  # added to the number of positives by the paper's code
_COLUMNS_PER_BLOCK = 32  # classes copied at a time: 11 MB for 88,987 images
_ROWS_PER_BLOCK = 1024  # images checked and counted at a time


def average_precision(scores: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Compute the average precision of one class by the paper's definition.

    ``AP = sum(precision at rank r, over the ranks r of the positives) / (positives + 1e-8)``, with
    the images ranked by descending score, equal scores in input order. Source: the released code of
    VoLUNet.

    Args:
        scores: (N,) scores of the class.
        targets: (N,) 0 or 1.

    Returns:
        A number from 0 to 1; 0 without positives.

    Raises:
        ValueError: If the input is wrong.

    >>> round(average_precision([0.9, 0.8, 0.7], [1, 0, 1]), 4)
    0.8333
    """
    target_array, score_array = _check(targets, scores, ndim=1)
    return _average_precision(_ranks(target_array == 1, descending_order(score_array)))


def average_precision_per_class(targets: npt.ArrayLike, scores: npt.ArrayLike) -> FloatArray:
    """Compute `average_precision` of every class.

    Returns:
        (K,) numbers from 0 to 1; 0 for a class without positives.

    Raises:
        ValueError: If the input is wrong.

    >>> average_precision_per_class([[1, 0], [0, 0], [1, 0]], [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    array([0.83333333, 0.        ])
    """
    columns = _class_columns(*_check(targets, scores, ndim=2))
    return np.array([_average_precision(_ranks(own, descending_order(s))) for own, s in columns])


def mean_average_precision(targets: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Compute the mean of `average_precision` over all classes in percent; absent ones count as 0.

    Raises:
        ValueError: If the input is wrong.

    >>> round(mean_average_precision([[1, 0], [0, 1]], [[0.9, 0.4], [0.1, 0.3]]), 4)
    75.0
    """
    return _mean_percent(average_precision_per_class(targets, scores))


def precision_recall_f1(
    targets: npt.ArrayLike, scores: npt.ArrayLike, threshold: npt.ArrayLike = 0.5
) -> dict[str, float]:
    """Compute precision, recall and F1 of the decisions ``score > threshold``, a number or (K,).

    Per class: ``precision = tp / predicted``, ``recall = tp / support`` and
    ``F1 = 2 tp / (predicted + support)``, their harmonic mean; 0 where a denominator is 0.

    Returns:
        Percentages. ``P_C, R_C, F_C``: means of the per-class values (macro; ``F_C`` is the F1 of
        the paper). ``P_O, R_O, F_O``: of all decisions together (micro).
        ``CF1 = 2 P_C R_C / (P_C + R_C)``: the per-class F1 of most multi-label literature.

    Raises:
        ValueError: If the input is wrong.

    >>> precision_recall_f1([[1, 0], [1, 1]], [[0.9, 0.8], [0.2, 0.7]])["P_C"]
    75.0
    """
    checked = _check(targets, scores, ndim=2)
    return _summarize(_count_decisions(*checked, _check_threshold(threshold, checked[1].shape[1])))


def multilabel_metrics(
    targets: npt.ArrayLike, scores: npt.ArrayLike, threshold: npt.ArrayLike = 0.5
) -> tuple[dict[str, Any], Table]:
    """Compute every metric of a labelled set; the threshold is one number, or (K,) one a class.

    Returns:
        The metrics of the set, in types that JSON can hold, and a table of the classes.

        Metrics, in percent: ``mAP`` (absent classes count as 0), ``mAP_present`` (mean over the
        classes with positives), ``mAP_sklearn`` (the same mean of scikit-learn's average
        precision), the seven entries of `precision_recall_f1`, ``weighted_F1`` (mean of the
        per-class F1, weighted by the number of positives), the entries of
        `per_image.image_metrics`, and ``per_class_AP`` (list of K). Besides: ``absent_classes``
        (their number), ``threshold`` (a float or a list of K), ``num_images``, and
        ``nothing_predicted``: true if no score exceeds its threshold, so that zeros of precision
        and F1 mean "no decision", not "wrong decisions".

        Table, arrays (K,): ``support`` and ``predicted`` (numbers of images, int64), ``AP``,
        ``precision``, ``recall`` and ``F1`` (percent, float64).

    Raises:
        ValueError: If the input is wrong.

    >>> metrics, table = multilabel_metrics([[1, 0], [1, 1]], [[0.9, 0.8], [0.2, 0.7]])
    >>> round(metrics["F_O"], 2), table["recall"].tolist()
    (66.67, [50.0, 100.0])
    """
    # Check the input
    target_array, score_array = _check(targets, scores, ndim=2)
    thresholds = _check_threshold(threshold, score_array.shape[1])

    # Rank every class
    ap, tie_aware_ap = np.empty((2, score_array.shape[1]))
    for k, (positives, own_scores) in enumerate(_class_columns(target_array, score_array)):
        order = descending_order(own_scores)
        ranks = _ranks(positives, order)
        ap[k] = _average_precision(ranks)
        tie_aware_ap[k] = _tie_aware_average_precision(ranks, own_scores[order])

    # Count decisions
    counts = _count_decisions(target_array, score_array, thresholds)
    _, predicted, support = counts
    rates = dict(zip(("precision", "recall", "F1"), _rates(counts), strict=True))
    present = support > 0
    metrics = {
        "mAP": _mean_percent(ap),
        "mAP_present": _mean_percent(ap[present]),
        "mAP_sklearn": _mean_percent(tie_aware_ap[present]),
        **_summarize(counts),
        "weighted_F1": float(support @ rates["F1"] / max(support.sum(), 1)),
        **image_metrics(target_array, score_array, thresholds),
        "threshold": np.asarray(threshold, dtype=np.float64).tolist(),
        "num_images": len(target_array),
        "absent_classes": int((~present).sum()),
        "nothing_predicted": not predicted.any(),
        "per_class_AP": (100 * ap).tolist(),
    }
    return metrics, {"support": support, "AP": 100 * ap, **rates, "predicted": predicted}


def baselines(targets: npt.ArrayLike, draws: int = 20, seed: int = 0) -> dict[str, float]:
    """Compute what a model reaches on these targets without seeing an image.

    ``chance_mAP``: `mean_average_precision` of independent uniform scores, mean over ``draws``.
    Such scores put the positives of a class on random distinct ranks; these are drawn, without
    sorting.

    ``frequency_mAP``: every image gets the frequency of the class in the training data as its
    score. Within a class all scores are then equal, whatever the frequency, so by scikit-learn's
    definition, which handles ties, the value is the mean share of positives. Absent classes count
    as 0.

    Returns:
        ``chance_mAP`` and ``frequency_mAP``, in percent.

    Raises:
        ValueError: If the targets are wrong or ``draws`` is below 1.

    >>> baselines([[1, 0], [1, 0], [1, 1], [1, 0]])["frequency_mAP"]
    62.5
    """
    if draws < 1:
        raise ValueError(f"The number of draws must be at least 1, but it is {draws}.")
    target_array = np.asarray(targets)
    _check_targets(target_array, ndim=2)
    num_images = len(target_array)
    support = np.count_nonzero(target_array, axis=0)
    generator = np.random.default_rng(seed)
    ap = np.empty((draws, len(support)))
    for k, positives in enumerate(support):
        for draw in range(draws):
            ranks = generator.choice(num_images, size=positives, replace=False, shuffle=False) + 1
            ap[draw, k] = _average_precision(np.sort(ranks))
    frequencies = support / num_images
    return {"chance_mAP": _mean_percent(ap), "frequency_mAP": _mean_percent(frequencies)}


def _check(
    targets: npt.ArrayLike, scores: npt.ArrayLike, ndim: int
) -> tuple[npt.NDArray[Any], ScoreArray]:
    """Return the targets as an array and the scores in float32, or raise `ValueError`."""
    target_array, score_array = np.asarray(targets), np.asarray(scores)
    if target_array.shape != score_array.shape:
        raise ValueError(
            f"Targets and scores must have the same shape, but the targets have "
            f"{target_array.shape} and the scores have {score_array.shape}."
        )
    _check_targets(target_array, ndim)
    rule = "Every score must be a finite float32 number"
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite
        _check_values(score_array, lambda block: np.isfinite(np.float32(block)), rule)
    return target_array, score_array.astype(np.float32, copy=False)


def _check_targets(targets: npt.NDArray[Any], ndim: int) -> None:
    """Raise `ValueError` unless the targets are 0 or 1 and at least one."""
    shape = targets.shape
    if targets.ndim != ndim:
        expected = "(images,)" if ndim == 1 else "(images, classes)"
        raise ValueError(f"Targets and scores must have shape {expected}, but they have {shape}.")
    if targets.size == 0:
        raise ValueError(
            f"At least one image and one class are needed, but the targets have shape {shape}."
        )
    _check_values(targets, lambda block: (block == 0) | (block == 1), "Every target must be 0 or 1")


def _check_values(
    values: npt.NDArray[Any], valid: Callable[[npt.NDArray[Any]], BoolArray], rule: str
) -> None:
    """Raise `ValueError` with the first value that is not valid and its index."""
    for rows in _row_blocks(len(values)):
        wrong = ~valid(values[rows])
        if wrong.any():
            row, *rest = np.argwhere(wrong)[0].tolist()
            index = (rows.start + row, *rest)
            raise ValueError(f"{rule}, but the value at index {index} is {values[index]}.")


def _check_threshold(threshold: npt.ArrayLike, num_classes: int) -> ScoreArray:
    """Return the threshold in float32, () or (K,), or raise `ValueError`."""
    thresholds = np.asarray(threshold, dtype=np.float32)
    if thresholds.shape not in {(), (num_classes,)}:
        raise ValueError(
            f"The threshold must be one number or one per class ({num_classes}), but it has "
            f"shape {thresholds.shape}."
        )
    if np.isnan(thresholds).any():
        raise ValueError("The threshold must be a number, but it is not-a-number (NaN).")
    return thresholds


def _row_blocks(num_images: int) -> Iterator[slice]:
    """Blocks of images."""
    for start in range(0, num_images, _ROWS_PER_BLOCK):
        yield slice(start, start + _ROWS_PER_BLOCK)


def _class_columns(
    targets: npt.NDArray[Any], scores: ScoreArray
) -> Iterator[tuple[BoolArray, ScoreArray]]:
    """Positives (N,) and scores (N,) of every class, contiguous in memory."""
    for start in range(0, targets.shape[1], _COLUMNS_PER_BLOCK):
        members = slice(start, start + _COLUMNS_PER_BLOCK)
        # Copied before the comparison, so that both read and write along memory.
        positives = np.ascontiguousarray(targets[:, members].T) == 1
        yield from zip(positives, np.ascontiguousarray(scores[:, members].T), strict=True)


def _ranks(positives: BoolArray, order: CountArray) -> CountArray:
    """Ranks (P,), ascending from 1, of the P positives among the N images in an order."""
    return np.flatnonzero(positives[order]) + 1


def _average_precision(ranks: CountArray) -> float:
    """Average precision of a class whose P positives have the ascending ranks (P,)."""
    precisions = np.arange(1, len(ranks) + 1) / ranks
    return float(precisions.sum() / (len(ranks) + _POSITIVES_EPS))


def _tie_aware_average_precision(ranks: CountArray, ranked_scores: ScoreArray) -> float:
    """scikit-learn's average precision of a class; 0 without positives.

    Mean over the positives of the precision of "score at least as high as this one's"; from the
    ascending ranks (P,) of the positives and the descending scores (N,) of all images.
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


def _count_decisions(
    targets: npt.NDArray[Any], scores: ScoreArray, thresholds: ScoreArray
) -> CountArray:
    """Count true positives, predicted positives and positives of every class, (3, K)."""
    counts = np.zeros((3, targets.shape[1]), np.int64)
    for rows in _row_blocks(len(targets)):
        positives, decisions = targets[rows] == 1, scores[rows] > thresholds
        for row, block in enumerate((positives & decisions, decisions, positives)):
            counts[row] += np.count_nonzero(block, axis=0)
    return counts


def _rates(counts: CountArray) -> FloatArray:
    """Precision, recall and F1 in percent, of the shape of the counts."""
    true_positives, predicted, support = counts
    # A denominator of 0 comes with a numerator of 0.
    precision = true_positives / np.maximum(predicted, 1)
    recall = true_positives / np.maximum(support, 1)
    f1 = 2 * true_positives / np.maximum(predicted + support, 1)
    return 100 * np.stack([precision, recall, f1])


def _summarize(counts: CountArray) -> dict[str, float]:
    """The entries of `precision_recall_f1`."""
    p_c, r_c, f_c = (float(rate.mean()) for rate in _rates(counts))
    p_o, r_o, f_o = _rates(counts.sum(axis=1)).tolist()
    cf1 = 2 * p_c * r_c / (p_c + r_c) if p_c + r_c else 0.0
    return {"P_C": p_c, "R_C": r_c, "F_C": f_c, "P_O": p_o, "R_O": r_o, "F_O": f_o, "CF1": cf1}
