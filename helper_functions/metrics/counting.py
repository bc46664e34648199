"""Metrics of counts and of located points, and intervals around predicted counts.

Counts are (N,), one an image. Points are (P, 2) rows and columns in pixels. Where a mean would be
of nothing (no image at all, or none with an object), the metric is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]
Counts = Sequence[float] | npt.NDArray[Any]


def mean_absolute_error(predicted: Counts, true: Counts) -> float:
    """Compute MAE, the mean of ``|predicted - true|``.

    >>> mean_absolute_error([3, 5], [4, 8])
    2.0
    """
    return _mean(np.abs(_errors(predicted, true)))


def root_mean_squared_error(predicted: Counts, true: Counts) -> float:
    """Compute RMSE, the square root of the mean of ``(predicted - true)^2``.

    >>> round(root_mean_squared_error([3, 5], [4, 8]), 3)
    2.236
    """
    return math.sqrt(_mean(_errors(predicted, true) ** 2))


def normalized_absolute_error(predicted: Counts, true: Counts) -> float:
    """Compute NAE, the mean of ``|predicted - true| / true`` over images with an object.

    Images without one are left out, as in the NWPU-Crowd benchmark (Wang et al., TPAMI 2020).

    >>> normalized_absolute_error([3, 5, 7], [4, 4, 0])
    0.25
    """
    errors, counts = _errors(predicted, true), np.asarray(true, np.float64)
    return _mean(np.abs(errors[counts > 0]) / counts[counts > 0])


def bias(predicted: Counts, true: Counts) -> float:
    """Compute the mean of ``predicted - true``: above 0 if too many are counted.

    >>> bias([3, 5], [4, 8])
    -2.0
    """
    return _mean(_errors(predicted, true))


def game(
    predicted: npt.NDArray[Any],
    true: npt.NDArray[Any],
    level: int,
    variant: Literal["corrected", "released"] = "corrected",
) -> float:
    """Compute the grid average mean absolute error of one image, GAME(level).

    The image is cut into 2^level x 2^level cells; the result is the sum over the cells of
    ``|predicted points - true points|``. Source: Guerrero-Gomez-Olmedo et al., "Extremely
    Overlapping Vehicle Counting" (IbPRIA 2015).

    Args:
        predicted: (H, W), 1 at predicted points and 0 elsewhere.
        true: (H, W), likewise.
        level: From 0, where the result is the absolute error of the count.
        variant: ``"corrected"``: cells begin at floor(i * H / 2^level), columns likewise, and the
            result never falls with the level. ``"released"``: cells of floor(H / 2^level) rows, and
            points in rows and columns that remain are left out.

    >>> predicted, true = np.eye(2, dtype=int), np.eye(2, dtype=int)[::-1]
    >>> game(predicted, true, 0), game(predicted, true, 1)
    (0.0, 4.0)
    """
    if predicted.shape != true.shape or predicted.ndim != 2:
        raise ValueError(f"Point maps must be (H, W) both, not {predicted.shape}, {true.shape}.")
    if level < 0:
        raise ValueError(f"The level of GAME is 0 or more, not {level}.")
    if variant not in ("corrected", "released"):
        raise ValueError(f"The variant of GAME is 'corrected' or 'released', not {variant!r}.")
    rows, columns = np.nonzero((predicted != 0) | (true != 0))
    differences = (predicted != 0)[rows, columns].astype(np.int64) - (true != 0)[rows, columns]
    cells = 2**level
    height, width = predicted.shape
    if variant == "released":
        cell_height, cell_width = height // cells, width // cells
        inside = (rows < cell_height * cells) & (columns < cell_width * cells)
        rows, columns, differences = rows[inside], columns[inside], differences[inside]
        rows, columns = rows // max(cell_height, 1), columns // max(cell_width, 1)
    else:
        # The last cell that begins at or before a row: the greatest i with floor(i * H / 2^L) <= r.
        rows = ((rows + 1) * cells - 1) // height
        columns = ((columns + 1) * cells - 1) // width
    _, cell_of = np.unique(rows * cells + columns, return_inverse=True)
    return float(np.abs(np.bincount(cell_of, differences)).sum())


def match_points(predicted: npt.NDArray[Any], true: npt.NDArray[Any], radius: float) -> IndexArray:
    """Pair predicted with true points, one to one, as many pairs as possible within a radius.

    Among several matchings of that size, which is returned is not defined.

    Args:
        predicted: (P, 2).
        true: (T, 2).
        radius: The greatest Euclidean distance of a pair, in the unit of the points.

    Returns:
        (M, 2), indices of predicted and true points, ascending by the former. Predicted points that
        are missing are false alarms; true ones are misses.

    >>> match_points(np.array([[0, 0], [9, 9]]), np.array([[50, 9], [1, 0]]), radius=2)
    array([[0, 1]])
    """
    if not radius >= 0:
        raise ValueError(f"The radius of a match is 0 or more, not {radius}.")
    predicted, true = (np.asarray(points, float).reshape(-1, 2) for points in (predicted, true))
    if not len(predicted) or not len(true):
        return np.empty((0, 2), np.int64)
    near = cKDTree(true).query_ball_point(predicted, radius)
    lengths = [len(candidates) for candidates in near]
    candidates = np.concatenate([np.asarray(one, np.int64) for one in near])
    edges = csr_array(
        (np.ones(candidates.size, np.int8), candidates, np.cumsum([0, *lengths])),
        shape=(len(predicted), len(true)),
    )
    partners = maximum_bipartite_matching(edges, perm_type="column")
    matched = np.flatnonzero(partners >= 0)
    return np.stack([matched, partners[matched]], axis=1).astype(np.int64)


def localisation(
    predicted: npt.NDArray[Any], true: npt.NDArray[Any], radius: float
) -> dict[str, float]:
    """Compute how many objects are found, by a maximum one-to-one matching within a radius.

    Args:
        predicted: (P, 2).
        true: (T, 2).
        radius: As in ``match_points``.

    Returns:
        ``matched``, the number of pairs; ``precision``, matched / P, 0 if P is 0; ``recall``,
        matched / T, 1 if T is 0; ``f1``, 2 matched / (P + T). All but ``matched`` are 1 if there
        are no points at all.

    >>> localisation(np.array([[0, 0], [9, 9]]), np.array([[1, 0]]), radius=2)["precision"]
    0.5
    """
    num_predicted, num_true = len(predicted), len(true)
    matched = len(match_points(predicted, true, radius))
    nothing = num_predicted + num_true == 0
    return {
        "matched": matched,
        "precision": matched / num_predicted if num_predicted else float(nothing),
        "recall": matched / num_true if num_true else 1.0,
        "f1": 1.0 if nothing else 2 * matched / (num_predicted + num_true),
    }


def conformal_quantile(true: Counts, predicted: Counts, coverage: float) -> float:
    """Compute the scaled residual that intervals of a coverage need (split conformal prediction).

    A residual is ``|true - predicted| / sqrt(predicted + 1)``: errors of a count of n independent
    decisions grow with sqrt(n). Of n residuals the ceil((n + 1) * coverage)-th smallest is taken.
    If a further image comes from the same population, its interval holds its true count with at
    least this probability, whatever the model. That is so on average over images; for images of
    one kind, such as crowded ones, it need not be. Source: Lei et al., "Distribution-Free
    Predictive Inference for Regression" (JASA 2018), sections 2.2 and 5.2.

    Args:
        true: (N,), of images that the model was neither trained nor selected on. Images of the
            validation split by which the best epoch was selected give intervals a little narrow.
        predicted: (N,), 0 or more.
        coverage: Above 0 and below 1.

    Returns:
        Infinity where ``(n + 1) * coverage > n``: so few images allow no such claim. 90 % need 9
        images, 95 % need 19. A report should then say so instead of printing a number.

    >>> conformal_quantile([0, 2, 3], [0, 3, 3], coverage=0.75)
    0.5
    """
    if not 0 < coverage < 1:
        raise ValueError(f"The coverage of an interval is above 0 and below 1, not {coverage}.")
    residuals = np.sort(np.abs(_errors(predicted, true)) / _scale(predicted))
    # Without the rounding errors of products such as 10 * 0.9, or one image more would be needed.
    rank = math.ceil(round((residuals.size + 1) * coverage, 9))
    return float(residuals[rank - 1]) if rank <= residuals.size else math.inf


def interval(predicted: Counts, quantile: float) -> FloatArray:
    """Compute the intervals of predicted counts, (N, 2) lower and upper ends, both included.

    They are ``predicted -+ quantile * sqrt(predicted + 1)``, and never below 0.

    Args:
        predicted: (N,), 0 or more.
        quantile: From ``conformal_quantile``; infinity gives 0 to infinity.

    >>> interval([0, 3, 99], quantile=0.5)
    array([[  0. ,   0.5],
           [  2. ,   4. ],
           [ 94. , 104. ]])
    """
    counts, half = np.asarray(predicted, np.float64), quantile * _scale(predicted)
    return np.stack([np.maximum(counts - half, 0), counts + half], axis=-1)


def _scale(predicted: Counts) -> FloatArray:
    """Return the size of error that is expected of counts."""
    return np.sqrt(np.asarray(predicted, np.float64) + 1)


def _errors(predicted: Counts, true: Counts) -> FloatArray:
    """Return ``predicted - true`` in float64."""
    first, second = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"Counts must be (N,) both, not {first.shape} and {second.shape}.")
    return first - second


def _mean(values: FloatArray) -> float:
    """Return the mean, 0 of nothing."""
    return float(values.mean()) if values.size else 0.0
