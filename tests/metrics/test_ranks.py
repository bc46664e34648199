"""Rankings against sorts that compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from helper_functions.metrics import ranks

SCORES: dict[str, npt.NDArray[Any]] = {
    "distinct": np.random.default_rng(0).normal(size=3000),
    "many equal": np.random.default_rng(1).integers(-3, 4, 3000) / 7,
    "all equal": np.full(50, 0.25),
    "one": np.array([0.5]),
    "equal upper halves": 1 + np.random.default_rng(2).integers(0, 200, 3000) * 2.0**-23,
    "equal lower halves": 2.0 ** np.random.default_rng(3).integers(-100, 100, 3000),
    "zeros of both signs": np.array([0.0, -0.0, 1e-45, -1e-45, -0.0, 0.0]),
    "largest": np.array([-3.4e38, 3.4e38, -1, 1, 0]),
}


@pytest.mark.parametrize("name", SCORES)
def test_orders_equal_those_of_a_stable_sort(name: str) -> None:
    scores = SCORES[name].astype(np.float32)
    by_comparison = np.argsort(-scores, kind="stable")
    np.testing.assert_array_equal(ranks.descending_order(scores), by_comparison)


@pytest.mark.parametrize("count", [1, 2, 5, 12, 30])
@pytest.mark.parametrize("levels", [1, 2, 4, 1000])
def test_top_classes_are_the_first_of_a_stable_sort(count: int, levels: int) -> None:
    scores = np.random.default_rng(levels).integers(0, levels, (40, 12)) / levels - 0.3
    expected = [
        sorted(range(12), key=lambda k: -float(row[k]))[:count] for row in scores.astype(np.float32)
    ]
    assert ranks.top_classes(scores.astype(np.float32), count).tolist() == expected
