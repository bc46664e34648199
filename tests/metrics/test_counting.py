"""Metrics of counting against numbers of the released code and second implementations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import binom
from sklearn.metrics import mean_absolute_error as sklearn_mae
from sklearn.metrics import root_mean_squared_error as sklearn_rmse

from helper_functions.metrics.counting import (
    bias,
    conformal_quantile,
    game,
    interval,
    localisation,
    match_points,
    mean_absolute_error,
    normalized_absolute_error,
    root_mean_squared_error,
)

Array = npt.NDArray[Any]


def game_by_loops(predicted: Array, true: Array, level: int) -> float:
    """Cell by cell, with the boundaries written out."""
    cells, (height, width) = 2**level, predicted.shape
    total = 0
    for i in range(cells):
        for j in range(cells):
            cell = np.s_[
                i * height // cells : (i + 1) * height // cells,
                j * width // cells : (j + 1) * width // cells,
            ]
            total += abs(int(predicted[cell].sum()) - int(true[cell].sum()))
    return total


@pytest.mark.parametrize("number", range(6))
def test_game_equals_the_golden_one(golden: Callable[[str], Any], number: int) -> None:
    arrays = golden("count/metrics.npz")
    predicted, true = arrays[f"game{number}/predicted"], arrays[f"game{number}/true"]
    for level in range(5):
        for variant in ("released", "corrected"):
            expected = arrays[f"game{number}/{variant}"][level]
            assert game(predicted, true, level, variant) == expected


def test_game_of_blobs_equals_the_golden_one(golden: Callable[[str], Any]) -> None:
    arrays = golden("count/lcfcn.npz")
    cases = [name.split("/")[0] for name in arrays if name.endswith("/game")]
    assert len(cases) > 10
    for case in cases:
        predicted, true = arrays[f"{case}/predicted_points"], arrays[f"{case}/points"]
        for level in range(4):
            assert game(predicted, true, level, "released") == arrays[f"{case}/game"][level]
            assert game(predicted, true, level) == arrays[f"{case}/game_exact"][level]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 5), (8, 8), (37, 53)])
def test_game_equals_loops_and_never_falls(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size[0])
    for _ in range(10):
        predicted, true = (rng.random((2, *size)) < 0.3).astype(np.uint8)
        values = [game(predicted, true, level) for level in range(6)]
        assert values == [game_by_loops(predicted, true, level) for level in range(6)]
        assert values == sorted(values)
        assert values[0] == abs(int(predicted.sum()) - int(true.sum()))


def test_errors_of_counts() -> None:
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 9, 50), rng.integers(0, 9, 50)
    assert mean_absolute_error(predicted, true) == pytest.approx(sklearn_mae(true, predicted))
    assert root_mean_squared_error(predicted, true) == pytest.approx(sklearn_rmse(true, predicted))
    relative = [abs(p - t) / t for p, t in zip(predicted, true, strict=True) if t > 0]
    assert len(relative) < 50
    assert normalized_absolute_error(predicted, true) == pytest.approx(
        sum(relative) / len(relative)
    )
    assert bias([5, 1, 4], [2, 1, 4]) == 1
    # uint8 must not wrap around.
    assert bias(np.array([1], np.uint8), np.array([3], np.uint8)) == -2


def test_means_of_nothing_are_zero() -> None:
    for metric in (mean_absolute_error, root_mean_squared_error, normalized_absolute_error, bias):
        assert metric([], []) == 0
    assert normalized_absolute_error([3, 1], [0, 0]) == 0


@pytest.mark.parametrize("number", range(6))
def test_localisation_equals_the_golden_one(golden: Callable[[str], Any], number: int) -> None:
    arrays = golden("count/metrics.npz")
    scores = localisation(
        arrays[f"local{number}/predicted"],
        arrays[f"local{number}/true"],
        float(arrays[f"local{number}/radius"]),
    )
    assert list(scores) == ["matched", "precision", "recall", "f1"]
    np.testing.assert_allclose(list(scores.values()), arrays[f"local{number}/result"])


def test_matching_is_one_to_one_and_as_large_as_an_assignment() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        predicted = rng.integers(0, 12, (rng.integers(0, 25), 2))
        true = rng.integers(0, 12, (rng.integers(0, 25), 2))
        radius = float(rng.choice([0, 1, 1.5, 3]))
        pairs = match_points(predicted, true, radius)
        near = cdist(predicted, true) <= radius
        best = near[linear_sum_assignment(near, maximize=True)].sum()
        assert len(pairs) == best
        assert near[pairs[:, 0], pairs[:, 1]].all()
        assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)


def test_nearest_pairs_first_would_find_fewer() -> None:
    """The middle point is nearest to one that has no other partner."""
    predicted, true = np.array([[0.0, 0], [0, 3]]), np.array([[0, 1], [0, -2]])
    np.testing.assert_array_equal(match_points(predicted, true, 2), [[0, 1], [1, 0]])


def test_thousands_of_points_are_matched() -> None:
    true = np.random.default_rng(0).random((5000, 2)) * 1000
    assert localisation(true[::-1] + 0.5, true, 8)["f1"] == 1


def test_quantile_is_the_corrected_one() -> None:
    """Residuals 1 to 9 with a predicted count of 0: the quantile is one of them."""
    true, predicted = list(range(1, 10)), [0] * 9
    assert conformal_quantile(true, predicted, 0.9) == 9
    assert conformal_quantile(true, predicted, 0.5) == 5
    assert conformal_quantile(true, predicted, 0.51) == 6
    assert conformal_quantile(true, predicted, 0.91) == math.inf
    assert conformal_quantile([], [], 0.5) == math.inf
    assert conformal_quantile([7], [3], 0.5) == 2  # 4 / sqrt(3 + 1)


def test_intervals_grow_with_the_count_and_stay_above_zero() -> None:
    np.testing.assert_allclose(interval([0, 8, 99], 2), [[0, 2], [2, 14], [79, 119]])
    np.testing.assert_array_equal(interval([4], math.inf), [[0, math.inf]])


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_intervals_cover_as_often_as_claimed(coverage: float) -> None:
    """Poisson counts around means of a wide range, 3,000 calibrations of 40 images and a new one.

    Residuals of counts tie now and then, which only adds to the coverage: true counts carry some
    noise here, so that it is exactly ceil(41 * coverage) / 41.
    """
    rng = np.random.default_rng(0)
    trials, images = 3000, 41
    means = rng.gamma(1, 30, (trials, images))
    predicted = means * rng.uniform(0.7, 1.2, means.shape)
    true = np.abs(rng.poisson(means) + rng.uniform(-0.5, 0.5, means.shape))
    covered = 0
    for row in range(trials):
        quantile = conformal_quantile(true[row, :-1], predicted[row, :-1], coverage)
        low, high = interval(predicted[row, -1:], quantile)[0]
        covered += low <= true[row, -1] <= high
    expected = math.ceil(images * coverage) / images
    assert abs(covered / trials - expected) <= 2 * binom(trials, expected).std() / trials


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0 and below 1, not 1"):
        conformal_quantile([1], [1], 1)
    with pytest.raises(ValueError, match=r"\(N,\) both, not \(2,\) and \(1,\)"):
        bias([1, 2], [1])
    with pytest.raises(ValueError, match="radius of a match is 0 or more, not -1"):
        match_points(np.zeros((1, 2)), np.zeros((1, 2)), -1)
    with pytest.raises(ValueError, match="level of GAME is 0 or more"):
        game(np.zeros((2, 2)), np.zeros((2, 2)), -1)
    with pytest.raises(ValueError, match=r"\(H, W\) both"):
        game(np.zeros((2, 2)), np.zeros((2, 3)), 0)
    with pytest.raises(ValueError, match="'corrected' or 'released', not 'exact'"):
        game(np.zeros((2, 2)), np.zeros((2, 2)), 0, "exact")  # type: ignore[arg-type]
