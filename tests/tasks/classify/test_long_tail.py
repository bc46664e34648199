"""Weights of rare classes: in the loss, for the choice of images, and through train.py."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL, Script, assert_refused, data_flags

from helper_functions.data import dataset as datasets
from helper_functions.data.splits import read_split_table
from helper_functions.tasks.classify import task as classify_task
from helper_functions.tasks.classify.long_tail import (
    HIGHEST_RATIO,
    count_classes,
    inverse_frequency_weights,
    repeat_factors,
)
from helper_functions.training import run as runs
from loss_functions import AsymmetricLoss


def _long_tail(number: int, classes: int) -> list[list[int]]:
    """Images of up to three classes, of which the last ones are rare."""
    rng = random.Random(0)
    odds = [2.0**-k for k in range(classes)]
    return [
        sorted(set(rng.choices(range(classes), odds, k=rng.randrange(4)))) for _ in range(number)
    ]


def test_classes_are_counted() -> None:
    assert count_classes([[0, 2], [], [2]], 4).tolist() == [1, 0, 2, 0]
    assert count_classes([[], []], 2).tolist() == [0, 0]


def test_weights_are_inverse_to_the_counts() -> None:
    weights = inverse_frequency_weights(np.array([80, 40, 20, 10]))
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_allclose(weights / weights[0], [1, 2, 4, 8])


def test_weights_are_bounded_and_empty_classes_do_not_count() -> None:
    weights = inverse_frequency_weights(np.array([9000, 3, 0, 900, 899]))
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_allclose(weights / weights[0], [1, HIGHEST_RATIO, 1, 10, 10])


def test_weighted_loss_is_that_of_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64, generator=generator) * 3
    targets = (torch.rand(6, 4, generator=generator) < 0.4).double()
    weight = torch.tensor([0.5, 2.0, 1.0, 0.1], dtype=torch.float64)
    loss = AsymmetricLoss(2, 1, 0.05, weight=weight)(logits, targets)
    expected = 0.0
    for row, truth in zip(logits.tolist(), targets.tolist(), strict=True):
        for logit, target, factor in zip(row, truth, weight.tolist(), strict=True):
            p = 1 / (1 + math.exp(-logit))
            if target:
                term = (1 - p) * -math.log(p)
            else:
                q = min(1 - p + 0.05, 1)
                term = (1 - q) ** 2 * -math.log(q)
            expected += factor * term
    assert loss.item() == pytest.approx(expected)
    plain = AsymmetricLoss(2, 1, 0.05)(logits, targets)
    ones = AsymmetricLoss(2, 1, 0.05, weight=torch.ones(4))(logits, targets)
    assert torch.equal(plain, ones)
    assert plain.item() != pytest.approx(expected)


def test_repeat_factors_are_those_of_a_loop() -> None:
    indices = _long_tail(400, 9)
    counts = Counter(k for classes in indices for k in classes)
    threshold = max(counts.values()) / len(indices)
    factors = repeat_factors(indices, 9)
    for classes, factor in zip(indices, factors, strict=True):
        expected = 1.0
        for k in classes:
            expected = max(expected, math.sqrt(threshold / (counts[k] / len(indices))))
        assert factor == pytest.approx(expected)
    assert factors.max() > 5


def test_training_with_both(
    tiny_set: Path, run_here: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (tiny_set / "splits.csv").read_text().splitlines()
    rows = [text[0]]  # red is on two training images only
    for row in text[1:]:
        rare = "'red'" in row and row.endswith("train")
        if not rare or sum("'red'" in kept and kept.endswith("train") for kept in rows) < 2:
            rows.append(row)
    (tmp_path / "splits.csv").write_text("\n".join(rows) + "\n")
    used: dict[str, Any] = {}

    def make_loader(dataset: Any, **settings: Any) -> Any:
        if settings.get("shuffle"):
            used["weights"] = settings["weights"]
        return original(dataset, **settings)

    class Loss(AsymmetricLoss):
        def __init__(self, *settings: Any, **more: Any) -> None:
            super().__init__(*settings, **more)
            used["weight"] = self.weight

    original = datasets.make_loader
    monkeypatch.setattr(runs, "make_loader", make_loader)
    monkeypatch.setattr(classify_task, "AsymmetricLoss", Loss)
    call = (
        *("train.py", "--img_dir", tiny_set / "images", "--csv_path", tmp_path / "splits.csv"),
        *(*SMALL, "--epochs", 2, "--output-path", tmp_path / "out", "--head", "linear"),
    )
    both = ("--loss-weight", "inverse-frequency", "--sampler", "class-balanced")
    done = run_here(*call, *both)
    assert done.status == 0, done.errors
    table = read_split_table(tmp_path / "splits.csv")
    train = table.split("train")
    counts = [sum(name in sample.labels for sample in train) for name in table.classes]
    assert counts[2] == 2 < min(counts[:2])
    inverse = np.array([1 / count for count in counts])
    np.testing.assert_allclose(used["weight"], inverse / inverse.mean(), rtol=1e-6)
    factors = [
        max(math.sqrt(max(counts) / counts[table.classes.index(n)]) for n in sample.labels)
        for sample in train
    ]
    np.testing.assert_allclose(used["weights"], factors)
    refused = run_here(*call, "--resume", "--loss-weight", "inverse-frequency")
    assert_refused(refused, "was trained with sampler = class-balanced, not uniform")


def test_the_defaults_are_as_released(
    tiny_set: Path, run_here: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unused(Exception):
        pass

    def refuse(*_: object) -> None:
        raise Unused

    monkeypatch.setattr(classify_task, "inverse_frequency_weights", refuse)
    monkeypatch.setattr(classify_task, "repeat_factors", refuse)
    call = ("train.py", *data_flags(tiny_set), *SMALL, "--epochs", 1)
    assert run_here(*call, "--output-path", tmp_path / "out").status == 0
