"""The examples in the docstrings of the metrics."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from helper_functions.metrics import calibration, counting, multilabel, per_image, ranks, thresholds

MODULES = (calibration, counting, multilabel, per_image, ranks, thresholds)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_examples_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
