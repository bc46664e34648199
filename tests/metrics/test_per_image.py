"""Metrics image by image against scikit-learn and loops written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import (
    f1_score,
    label_ranking_average_precision_score,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)

from helper_functions.metrics import per_image
from helper_functions.metrics.multilabel import multilabel_metrics

Array = npt.NDArray[Any]
SIZES = ((60, 3), (60, 12), (40, 50))


def set_metrics(*arguments: Any) -> dict[str, Any]:
    """The metrics of a whole set."""
    return multilabel_metrics(*arguments)[0]


def sample(num_images: int, num_classes: int, levels: int = 0) -> tuple[Array, Array]:
    """Targets, some images without labels and some with many, and scores; ``levels``: ties."""
    rng = np.random.default_rng(num_images + num_classes + levels)
    share = rng.choice([0.0, 0.1, 0.9], size=(num_images, 1))
    targets = (rng.random((num_images, num_classes)) < share).astype(np.uint8)
    scores = rng.random(targets.shape)
    return targets, ((scores * levels).round() / levels if levels else scores).astype(np.float32)


def top_indicator(scores: Array, count: int) -> Array:
    """0/1 (N, K) of the ``count`` highest scored classes, by a sort that keeps ties in order."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    indicator = np.zeros(scores.shape, int)
    np.put_along_axis(indicator, order, 1, axis=1)
    return indicator


def fathomnet_by_loops(targets: Array, scores: Array) -> float:
    """MAP@20 as the competition scores lists of labels: over its ranks, image by image."""
    total = 0.0
    for row, own in zip(targets, scores, strict=True):
        labels = {k for k, target in enumerate(row) if target}
        predicted = sorted(range(len(row)), key=lambda k: (-float(own[k]), k))[:20]
        found, precision_sum = 0, 0.0
        for rank, name in enumerate(predicted, start=1):
            if name in labels:
                found += 1
                precision_sum += found / rank
        if labels:
            total += precision_sum / min(len(labels), 20)
    return 100 * total / len(targets)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [0, 3])
def test_metrics_equal_scikit_learn_and_loops(
    size: tuple[int, int], levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(per_image, "_SCORES_PER_BLOCK", 7 * size[1])  # seven images
    targets, scores = sample(*size, levels)
    assert not targets.any(axis=1).all()  # some have no label
    assert targets.sum(axis=1).max() > min(20, size[1] - 1)
    result = set_metrics(targets, scores, 0.6)
    decisions, five = scores > np.float32(0.6), top_indicator(scores, 5)
    settings = {"average": "samples", "zero_division": 0}
    expected = {
        "samples_F1": f1_score(targets, decisions, **settings),
        "precision_at_5": precision_score(targets, five, **settings),
        "recall_at_5": recall_score(targets, five, **settings),
        "top1": precision_score(targets, top_indicator(scores, 1), **settings),
        "weighted_F1": f1_score(targets, decisions, average="weighted", zero_division=0),
    }
    assert {name: result[name] for name in expected} == pytest.approx(
        {name: 100 * value for name, value in expected.items()}, abs=1e-9
    )
    assert result["MAP_at_20"] == pytest.approx(fathomnet_by_loops(targets, scores), abs=1e-9)


def test_top1_of_single_labels_is_scikit_learns_accuracy() -> None:
    _, scores = sample(60, 12)
    labels = np.random.default_rng(0).integers(0, 12, 60)
    expected = top_k_accuracy_score(labels, scores, k=1, labels=np.arange(12))
    result = set_metrics(np.eye(12, dtype=int)[labels], scores)
    assert 0 < expected < 1
    assert result["top1"] == pytest.approx(100 * expected)


def test_map_at_20_of_few_classes_is_scikit_learns_label_ranking() -> None:
    targets, scores = sample(60, 12)
    labelled = targets.any(axis=1)
    expected = label_ranking_average_precision_score(targets[labelled], scores[labelled])
    result = set_metrics(targets[labelled], scores[labelled])
    assert result["MAP_at_20"] == pytest.approx(100 * expected)


def test_of_equal_scores_the_lower_class_index_ranks_first() -> None:
    scores = np.full((1, 8), 0.5, np.float32)
    first = set_metrics(np.eye(8, dtype=int)[[0]], scores)
    last = set_metrics(np.eye(8, dtype=int)[[7]], scores)
    assert (first["top1"], first["recall_at_5"], first["MAP_at_20"]) == (100, 100, 100)
    assert (last["top1"], last["recall_at_5"], last["MAP_at_20"]) == (0, 0, 12.5)


def test_without_labels_or_decisions_every_metric_is_zero() -> None:
    result = set_metrics(np.zeros((2, 3)), np.full((2, 3), 0.1))
    names = ("samples_F1", "weighted_F1", "top1", "precision_at_5", "recall_at_5", "MAP_at_20")
    assert {name: result[name] for name in names} == dict.fromkeys(names, 0.0)


def test_samples_f1_takes_one_threshold_a_class() -> None:
    targets, scores = sample(60, 12)
    thresholds = np.linspace(0.2, 0.8, 12)
    expected = f1_score(
        targets, scores > thresholds.astype(np.float32), average="samples", zero_division=0
    )
    assert set_metrics(targets, scores, thresholds)["samples_F1"] == pytest.approx(100 * expected)
