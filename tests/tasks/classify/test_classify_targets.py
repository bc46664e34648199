"""Multi-hot targets of multi-label samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from helper_functions.data.splits import Sample
from helper_functions.runtime.errors import UserError
from helper_functions.tasks.classify.targets import MultiHotTargets

SAMPLES = [
    Sample("a.png", ("x",), "train", 2),
    Sample("b.png", ("z", "x"), "train", 3),
    Sample("c.png", (), "train", 4),
]


def test_multi_hot_targets() -> None:
    targets = MultiHotTargets(SAMPLES, ["x", "y", "z"], Path("s.csv"))
    expected = [[1, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert [target.tolist() for target in targets] == expected


def test_labels_the_model_does_not_know_are_named() -> None:
    with pytest.raises(UserError, match=r"s\.csv, line 3: .* class 'z'"):
        MultiHotTargets(SAMPLES, ["x", "y"], Path("s.csv"))


def test_labels_that_look_like_a_known_class_are_shown_with_what_differs() -> None:
    sample = Sample("a.png", ("H\xeatre",), "val", 2)
    known = "He\u0302tre"
    with pytest.raises(UserError) as caught:
        MultiHotTargets([sample], ["oak", known], Path("s.csv"))
    assert r"'H\xeatre'" in str(caught.value)
    assert r"One of them is 'He\u0302tre', which looks the same." in str(caught.value)
