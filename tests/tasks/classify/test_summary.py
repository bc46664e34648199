"""What a validation prints."""

from __future__ import annotations

from typing import Any

import numpy as np

from helper_functions.metrics.multilabel import baselines, multilabel_metrics
from helper_functions.tasks.classify.summary import summary


def _summary(support: list[int], **more: Any) -> list[str]:
    """The lines for a class a number, which that many of ten images show."""
    targets = np.array([[row < count for count in support] for row in range(10)])
    scores = np.linspace(0.9, 0.1, 10)[:, None].repeat(len(support), axis=1)
    metrics, table = multilabel_metrics(targets, scores)
    classes = [f"class {k}" for k in range(len(support))]
    return summary({**metrics, **baselines(targets), "classes": classes, **more}, table).split("\n")


def test_the_summary_shows_the_metrics_and_the_classes() -> None:
    lines = _summary([10, 4])
    assert lines[0] == "10 images, 2 classes"
    assert "mAP                 100.00" in lines
    assert "at threshold 0.5    precision  recall     F1" in lines
    assert lines[-2:] == [
        "class 0      10  100.0      100.0    50.0   66.7",
        "class 1       4  100.0       80.0   100.0   88.9",
    ]
    assert not any("in this split" in line for line in lines)


def test_own_thresholds_and_missing_decisions_are_told() -> None:
    lines = _summary([10, 5], threshold=[0.5, 0.5], nothing_predicted=True)
    assert "at own thresholds   precision  recall     F1" in lines
    assert "No score exceeds the threshold: precision, recall and F1 are set to 0." in lines


def test_absent_classes_are_named_and_long_tables_shortened() -> None:
    lines = _summary([3] * 20 + [0] * 12)
    (sentence,) = [line for line in lines if "in this split" in line]
    names = ", ".join(f"class {k}" for k in range(20, 30))
    assert sentence == (
        f"12 classes have no image in this split and count as AP 0: {names}, .... "
        f"Over the others the mAP is 100.00."
    )
    assert "... 12 more classes in per_class.csv ..." in lines


def test_the_summary_shows_the_region_metrics() -> None:
    lines = _summary(
        [1],
        region_grid=[7, 5],
        region_purity=71.25,
        region_accuracy=60.5,
        region_miou=30.75,
        region_purity_majority=50.25,
        region_accuracy_majority=40.0,
        region_miou_majority=20.0,
        region_purity_chance=100.0,
    )
    start = lines.index("in 7 x 5 cells           purity  accuracy    mIoU")
    assert lines[start + 1 : start + 4] == [
        "classes of the regions    71.25     60.50   30.75",
        "the image's top class     50.25     40.00   20.00",
        "a random class           100.00",
    ]


def test_names_cannot_steer_the_terminal_or_widen_its_table() -> None:
    lines = _summary([10, 4], classes=["\x1b[31m\n\ud800", "x" * 300])
    assert any(line.startswith(r"\x1b[31m\n\ud800 ") for line in lines)
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) < 120
