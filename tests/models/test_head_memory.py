"""A training step of a large head needs little more memory than its parameters make inevitable."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Command

ROWS, CHANNELS, CLASSES = 24, 512, 700


def _measure(command: Command, head: str, adam: str) -> Any:
    done = command("tests/head_memory.py", head, adam, ROWS, CHANNELS, CLASSES)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_step_stays_near_parameters_gradients_and_optimizer(command: Command) -> None:
    measured = _measure(command, "blockwise", "project")
    # Ten numbers for each pair of channel and class; gradients and two moments as many again.
    pairs = CHANNELS * CLASSES
    assert measured["needed"] == pytest.approx(4 * 10 * pairs * 4, rel=1e-3)
    assert measured["needed"] < measured["peak"] <= 1.15 * measured["needed"]


@pytest.mark.parametrize(("head", "adam"), [("plain", "project"), ("blockwise", "loop")])
def test_the_measurement_sees_copies_of_the_weights(command: Command, head: str, adam: str) -> None:
    """The plain layer copies its spline weights, and a loop over the parameters its moments."""
    measured = _measure(command, head, adam)
    assert measured["peak"] > 1.15 * measured["needed"]
