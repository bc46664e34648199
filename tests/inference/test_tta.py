"""Test-time augmentation against mirror images scored one by one."""

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
from helper_functions.inference.tta import TTA, AveragedModel
from models import create_model


def test_the_model_sees_all_the_mirror_images() -> None:
    seen: list[torch.Tensor] = []

    class Keep(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.flatten(1)[:, :2]

    images = torch.rand(2, 3, 5, 5)
    AveragedModel(Keep(), "all-flips")(images)
    array = images.numpy()
    expected = [array[:, :, ::v, ::h] for v, h in product((1, -1), repeat=2)]
    assert len(seen) == 4
    for view in expected:
        assert sum(np.array_equal(view, found.numpy()) for found in seen) == 1


@pytest.mark.parametrize("tta", TTA)
def test_logits_are_the_mean(tta: str) -> None:
    torch.manual_seed(0)
    model = create_model("resnet10t", 4, image_size=64).eval()
    images = torch.rand(3, 3, 64, 64)
    every = [model(images)]
    if tta != "none":
        every.append(model(torch.from_numpy(images.numpy()[:, :, :, ::-1].copy())))
    if tta == "all-flips":
        every += [model(torch.from_numpy(images.numpy()[:, :, ::-1, ::h].copy())) for h in (1, -1)]
    torch.testing.assert_close(AveragedModel(model, tta)(images), sum(every) / len(every))


@pytest.mark.parametrize("tta", TTA)
def test_dense_outputs_are_mirrored_back(tta: str) -> None:
    """A model that answers every pixel by itself has nothing to gain: the mean is its answer."""
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 4, 1).eval()
    images = torch.rand(2, 3, 6, 5)
    with torch.no_grad():
        torch.testing.assert_close(AveragedModel(model, tta)(images), model(images))


def test_validation_with_tta(tiny_set: Path, tmp_path: Path, run_here: Script) -> None:
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
        image = read_image(tiny_set / "images" / str(name)).resize((64, 64), resample=2)
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            logits = (model(pixels) + model(pixels.flip(3))) / 2
        np.testing.assert_allclose(row, logits.sigmoid()[0], atol=1e-4)
