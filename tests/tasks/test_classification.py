"""What classification adds to the loop: prediction, the spline grid's coverage, its update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helper_functions.tasks.classify.classification import (
    Evaluation,
    fit_grid,
    grid_coverage,
    predict,
)
from PIL import Image
from torch.utils.data import DataLoader

from helper_functions.data.dataset import ImageDataset, NoTargets, make_loader
from helper_functions.data.transforms import EvalTransform
from helper_functions.runtime.errors import TrainingFailed, UserError
from models import VoLUNet, create_model

CPU = torch.device("cpu")


def _model(**settings: Any) -> VoLUNet:
    torch.manual_seed(0)
    return create_model("resnet10t", 3, **settings)


@pytest.fixture
def loader(tmp_path: Path) -> DataLoader[Any]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)).save(path)
    dataset = ImageDataset(paths, NoTargets(10), EvalTransform(64))
    return make_loader(dataset, batch_size=4, workers=0)


def test_predictions_keep_the_order_of_the_data_set(loader: DataLoader[Any]) -> None:
    model = _model()
    scores = predict(model, loader, CPU)
    images = torch.cat([batch.to(CPU).images for batch in loader])
    with torch.no_grad():
        np.testing.assert_allclose(scores, model(images).sigmoid(), atol=1e-6)
    assert not model.training


def test_scores_that_are_not_finite_are_an_error(loader: DataLoader[Any]) -> None:
    model = _model()
    torch.nn.init.constant_(model.head.get_parameter("layers.0.base_weight"), float("nan"))
    with pytest.raises(TrainingFailed, match="scores are not finite"):
        predict(model, loader, CPU)


def test_the_grid_coverage_is_that_of_the_pooled_features(loader: DataLoader[Any]) -> None:
    images = torch.cat([batch.to(CPU).images for batch in loader])
    with torch.no_grad():
        features = _model().eval().pooled_features(images)
    high = features.median().item()
    model = _model(kan_grid_range=[0.0, high])  # the same seed, so the same features
    evaluation = Evaluation(loader, np.eye(10, 3, dtype=np.uint8), device=CPU, amp=None)
    metrics = evaluation(model)
    grid = model.head.get_buffer("layers.0.grid")[0]
    outside = ((features < grid[3]) | (features >= grid[-4])).float().mean().item()
    beyond = ((features < grid[0]) | (features >= grid[-1])).float().mean().item()
    assert grid[-4].item() == pytest.approx(high)
    assert metrics["outside_grid"] == pytest.approx(100 * outside)
    assert metrics["outside_knots"] == pytest.approx(100 * beyond)
    assert 0 < metrics["outside_knots"] < metrics["outside_grid"]


def test_a_linear_head_has_no_grid(loader: DataLoader[Any]) -> None:
    model = _model(head="linear")
    with grid_coverage(model) as coverage:
        predict(model, loader, CPU)
    assert coverage == {}
    with pytest.raises(UserError, match="needs a KAN head"):
        fit_grid(model, loader, CPU)


def test_a_fitted_grid_covers_the_features_and_keeps_the_scores(loader: DataLoader[Any]) -> None:
    model = _model()
    before = predict(model, loader, CPU)
    fit_grid(model, loader, CPU)
    with grid_coverage(model) as coverage:
        after = predict(model, loader, CPU)
    assert coverage == {"outside_grid": 0.0, "outside_knots": 0.0}
    np.testing.assert_allclose(after, before, atol=0.02)


def test_too_few_pictures_for_a_grid_are_an_error(loader: DataLoader[Any]) -> None:
    with pytest.raises(UserError, match="at least 23 rows of inputs, not 10"):
        fit_grid(_model(kan_grid_size=20), loader, CPU)


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
