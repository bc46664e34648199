"""Test-time augmentation against views scored one by one."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, Script, data_flags

from helper_functions.checkpoints.checkpoint import load_model
from helper_functions.data.images import read_image
from helper_functions.inference.tta import VIEWS, ViewAverage
from models import create_model


def test_views_are_all_the_mirror_images() -> None:
    seen: list[torch.Tensor] = []

    class Keep(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.flatten(1)[:, :2]

    images = torch.rand(2, 3, 5, 5)
    ViewAverage(Keep(), Keep(), "all-flips")(images)
    array = images.numpy()
    expected = [array[:, :, ::v, ::h] for v, h in product((1, -1), repeat=2)]
    assert len(seen) == 4
    for view in expected:
        assert sum(np.array_equal(view, found.numpy()) for found in seen) == 1


@pytest.mark.parametrize("views", VIEWS)
def test_logits_are_the_mean(views: str) -> None:
    torch.manual_seed(0)
    model = create_model("resnet10t", 4, image_size=64).eval()
    images = torch.rand(3, 3, 64, 64)
    every = [model(images)]
    if views != "none":
        every.append(model(torch.from_numpy(images.numpy()[:, :, :, ::-1].copy())))
    if views == "all-flips":
        every += [model(torch.from_numpy(images.numpy()[:, :, ::-1, ::h].copy())) for h in (1, -1)]
    torch.testing.assert_close(ViewAverage(model, model, views)(images), sum(every) / len(every))


def test_validation_with_views(tiny_set: Path, tmp_path: Path, run_here: Script) -> None:
    run = tmp_path / "run"
    flags = (*data_flags(tiny_set), *SMALL)
    assert run_here("train.py", *flags, "--epochs", 1, "--output-path", run).status == 0
    best = run / "model-highest.ckpt"
    done = run_here("val.py", *data_flags(tiny_set), "--ckpt-path", best, "--tta", "flips")
    assert done.status == 0, done.errors
    assert json.loads((run / "val" / "metrics.json").read_text())["tta"] == "flips"
    table = pd.read_csv(run / "val" / "predictions.csv").set_index("filename")
    model = load_model(best)
    for name, row in table.iterrows():
        picture = read_image(tiny_set / "images" / str(name)).resize((64, 64), resample=2)
        pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            logits = (model(pixels) + model(pixels.flip(3))) / 2
        np.testing.assert_allclose(row, logits.sigmoid()[0], atol=1e-4)
