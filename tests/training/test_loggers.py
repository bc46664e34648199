"""TensorBoard's files, whatever classes and images are called."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from helper_functions.data.flags import LoaderSettings
from helper_functions.training.loggers import TensorBoardLogger


def test_every_class_and_image_has_its_own_tag(tmp_path: Path) -> None:
    scores = {
        "a b": 1.0,
        "a_b": 2.0,
        "a/b": 3.0,
        "$x$": 4.0,
        "日": 5.0,
        "\ud800": 6.0,
        "?": 7.0,
    }
    names = ["dive1/0.png", "dive2/0.png", "caf\udce9.png"]
    image = Image.new("RGB", (4, 4))
    task: Any = SimpleNamespace(
        input=None, log_images=lambda *_: [(f"regions/{name}", image) for name in names]
    )
    samples: Any = SimpleNamespace(names=names, paths=[], targets=[])
    train_set: Any = None
    logger = TensorBoardLogger(
        tmp_path, task, train_set, samples, LoaderSettings(), torch.device("cpu"), None
    )
    evaluator: Any = SimpleNamespace(
        scalars=lambda: {f"AP/{name}": score for name, score in scores.items()}
    )
    logger({"epoch": 2.0, "loss": 0.5}, nn.Identity(), evaluator)
    assert logger.writer is not None
    logger.writer.close()

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    tags = [*(f"AP/{name}" for name in list(scores)[:-2]), "AP/?", "AP/?_"]
    assert sorted(events.Tags()["scalars"]) == sorted(["run/loss", *tags])
    for tag, score in zip(tags, scores.values(), strict=True):
        assert [event.value for event in events.Scalars(tag)] == [score]
    images = ["regions/dive1/0.png", "regions/dive2/0.png", r"regions/caf\udce9.png"]
    assert sorted(events.Tags()["images"]) == sorted(images)
