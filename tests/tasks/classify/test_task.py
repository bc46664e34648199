"""Classification as a task: scores, evaluation, the spline grid's coverage and its update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from helper_functions.data.dataset import ImageDataset, Samples, make_loader
from helper_functions.data.flags import InputSettings
from helper_functions.data.transforms import EvalTransform
from helper_functions.runtime.errors import TrainingFailed, UserError
from helper_functions.tasks.classify import Classify
from helper_functions.tasks.classify.evaluator import ClassifyEvaluator
from helper_functions.tasks.classify.flags import TrainingSettings
from helper_functions.tasks.predictor import evaluate
from models import VoLUNet, create_model

CPU = torch.device("cpu")


def _model(**settings: Any) -> VoLUNet:
    torch.manual_seed(0)
    return create_model("resnet10t", 3, **settings)


def _task(**settings: Any) -> Classify:
    training = TrainingSettings({}, **settings)
    return Classify(["a", "b", "c"], InputSettings(64), training=training)


@pytest.fixture
def loader(tmp_path: Path) -> DataLoader[Any]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(10)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)).save(path)
    targets = list(torch.eye(10, 3))
    samples = Samples([path.name for path in paths], paths, targets)
    return make_loader(ImageDataset(samples, EvalTransform(64)), batch_size=4, workers=0)


def _evaluate(model: VoLUNet, loader: DataLoader[Any]) -> ClassifyEvaluator:
    evaluator = evaluate(_task(), model, loader, CPU)
    assert isinstance(evaluator, ClassifyEvaluator)
    return evaluator


def _fit_grid(model: VoLUNet, loader: DataLoader[Any]) -> None:
    _task(kan_grid_update=10).before_training(model, lambda _count: loader, CPU)


def test_scores_keep_the_order_of_the_data_set(loader: DataLoader[Any]) -> None:
    model = _model()
    evaluator = _evaluate(model, loader)
    images = torch.cat([batch.to(CPU).images for batch in loader])
    with torch.no_grad():
        np.testing.assert_allclose(evaluator.scores, model(images).sigmoid(), atol=1e-6)
    np.testing.assert_array_equal(evaluator.targets, np.eye(10, 3))
    assert evaluator.names == [f"{index}.png" for index in range(10)]
    assert not model.training


def test_shares_of_processes_are_merged_in_the_order_of_the_set() -> None:
    scores = np.random.default_rng(0).random((7, 3), np.float32)
    targets = torch.eye(7, 3)
    names = [str(index) for index in range(7)]

    def of(rows: slice) -> ClassifyEvaluator:
        evaluator = _task().evaluator(len(names[rows]))
        evaluator.update({"scores": scores[rows]}, targets[rows], names[rows])
        return evaluator

    whole, shares = of(slice(None)), [of(slice(rank, None, 3)) for rank in range(3)]
    merged = shares[0].merge(shares)
    np.testing.assert_array_equal(merged.scores, whole.scores)
    np.testing.assert_array_equal(merged.targets, whole.targets)
    assert merged.names == names
    assert merged.compute() == whole.compute()


def test_scores_that_are_not_finite_are_an_error(loader: DataLoader[Any]) -> None:
    model = _model()
    torch.nn.init.constant_(model.head.get_parameter("layers.0.base_weight"), float("nan"))
    with pytest.raises(TrainingFailed, match="scores are not finite"):
        _evaluate(model, loader)


def test_the_grid_coverage_is_that_of_the_pooled_features(loader: DataLoader[Any]) -> None:
    images = torch.cat([batch.to(CPU).images for batch in loader])
    with torch.no_grad():
        features = _model().eval().pooled_features(images)
    high = features.median().item()
    model = _model(kan_grid_range=[0.0, high])  # the same seed, so the same features
    metrics = _evaluate(model, loader).compute()
    grid = model.head.get_buffer("layers.0.grid")[0]
    outside = ((features < grid[3]) | (features >= grid[-4])).float().mean().item()
    beyond = ((features < grid[0]) | (features >= grid[-1])).float().mean().item()
    assert grid[-4].item() == pytest.approx(high)
    assert metrics["outside_grid"] == pytest.approx(100 * outside)
    assert metrics["outside_knots"] == pytest.approx(100 * beyond)
    assert 0 < metrics["outside_knots"] < metrics["outside_grid"]


def test_a_linear_head_has_no_grid(loader: DataLoader[Any]) -> None:
    model = _model(head="linear")
    assert "outside_grid" not in _evaluate(model, loader).compute()
    with pytest.raises(UserError, match="needs a KAN head"):
        _fit_grid(model, loader)


def test_a_fitted_grid_covers_the_features_and_keeps_the_scores(loader: DataLoader[Any]) -> None:
    model = _model()
    before = _evaluate(model, loader)
    _fit_grid(model, loader)
    after = _evaluate(model, loader)
    metrics = after.compute()
    assert (metrics["outside_grid"], metrics["outside_knots"]) == (0.0, 0.0)
    np.testing.assert_allclose(after.scores, before.scores, atol=0.02)


def test_too_few_images_for_a_grid_are_an_error(loader: DataLoader[Any]) -> None:
    with pytest.raises(UserError, match="at least 23 rows of inputs, not 10"):
        _fit_grid(_model(kan_grid_size=20), loader)


def test_head_settings_reach_the_head_and_the_checkpoint_settings() -> None:
    settings = {"kan_grid_size": 8, "kan_spline_order": 2, "kan_grid_range": [0.0, 4.0]}
    model = _model(**settings)
    assert model.head.get_parameter("layers.0.spline_weight").shape == (3, 512, 10)
    grid = model.head.get_buffer("layers.0.grid")[0]
    assert grid[2].item() == pytest.approx(0)
    assert grid[-3].item() == pytest.approx(4)
    assert settings.items() <= model.settings.items()
    assert isinstance(_model(head="linear").head, torch.nn.Linear)
    with pytest.raises(ValueError, match="Unknown head 'deep'; choose kan or linear"):
        _model(head="deep")
