"""A new task is one subclass and one line of TASKS: the real scripts do the rest."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_task
from conftest import Script, assert_refused, data_flags
from PIL import Image

import models
from helper_functions import tasks
from helper_functions.checkpoints import load_model, read_checkpoint
from helper_functions.training.engine import Trainer


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tasks.TASKS, "toy", toy_task.Toy)
    monkeypatch.setitem(models.ARCHITECTURES, "toy", toy_task.ToyNet)


def _train(tiny_set: Path, output: Path, *more: object) -> tuple[object, ...]:
    flags = ("-b", 5, "-j", 0, "--epochs", 3, "--lr", 1.0, "--device", "cpu", *more)
    return ("train.py", "--task", "toy", *data_flags(tiny_set), *flags, "--output-path", output)


def test_a_toy_task_has_fewer_than_a_hundred_lines() -> None:
    assert len(Path(toy_task.__file__).read_text().splitlines()) < 100


def test_a_toy_task_trains_resumes_validates_predicts_and_reports(
    tiny_set: Path, run_here: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_here(*_train(tiny_set, tmp_path / "whole"))
    assert done.status == 0, done.errors
    assert "12 training and 6 validation images; toy on cpu." in done.printed
    with (tmp_path / "whole" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["val_accuracy"]) > float(rows[0]["val_accuracy"])
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])

    # Interrupted in the middle of the second epoch, and continued
    step = Trainer.step

    def interrupt(trainer: Trainer, micro_batches: list[object]) -> None:
        step(trainer, micro_batches)  # type: ignore[arg-type]
        if trainer.state.step == 4:
            trainer.stop.signum = 15

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupt)
        assert run_here(*_train(tiny_set, tmp_path / "parts")).status == 143
    assert read_checkpoint(tmp_path / "parts" / "last.ckpt")["step"] == 4
    done = run_here(*_train(tiny_set, tmp_path / "parts", "--resume"))
    assert done.status == 0, done.errors
    for name in ("last.ckpt", "model-highest.ckpt"):
        whole, parts = (
            read_checkpoint(tmp_path / run / name)["model"] for run in ("whole", "parts")
        )
        assert whole.keys() == parts.keys()
        assert all(torch.equal(value, parts[key]) for key, value in whole.items())

    # Validation, prediction and the report
    best = tmp_path / "whole" / "model-highest.ckpt"
    assert isinstance(load_model(best), toy_task.ToyNet)
    output = tmp_path / "val"
    done = run_here(
        *("val.py", "--ckpt-path", best, *data_flags(tiny_set), "-j", 0, "--output", output)
    )
    assert done.status == 0, done.errors
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx(max(float(row["val_accuracy"]) for row in rows))
    assert metrics["split"] == "val"
    page = (output / "report.html").read_text()
    assert "Toy images" in page
    assert "picture_02.png" in page
    done = run_here(
        *("val.py", "--ckpt-path", best, "--img_dir", tiny_set / "images", "-j", 0),
        *("--output", tmp_path / "predicted"),
    )
    assert done.status == 0, done.errors
    validated, predicted = (
        np.asarray(Image.open(folder / "picture_05.png"))
        for folder in (output, tmp_path / "predicted")
    )
    np.testing.assert_array_equal(validated, predicted)
    assert len(list((tmp_path / "predicted").glob("*.png"))) == 18


def test_flags_of_another_task_and_checkpoints_of_another_task_are_named(
    tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    done = run_here("train.py", *data_flags(tiny_set), "--toy-factor", 2)
    assert_refused(done, "--toy-factor belongs to --task toy")
    done = run_here(*_train(tiny_set, tmp_path / "out", "--nms-weight", 2))
    assert_refused(done, "--nms-weight belongs to --task classify", tmp_path / "out")
    done = run_here("train.py", "--task", "paint", *data_flags(tiny_set))
    assert_refused(done, "There is no task 'paint'; choose one of classify")
    assert run_here(*_train(tiny_set, tmp_path / "out")).status == 0
    checkpoint = ("--ckpt-path", tmp_path / "out" / "last.ckpt")
    done = run_here("val.py", *checkpoint, *data_flags(tiny_set), "--task", "classify")
    assert_refused(done, "--task is classify, but")
    done = run_here("train.py", "--help", "--task", "toy")
    assert "--toy-factor" in done.printed
    assert "--nms-weight" not in done.printed
    done = run_here("train.py", "--help")
    assert "--toy-factor" not in done.printed
    assert "--nms-weight" in done.printed
