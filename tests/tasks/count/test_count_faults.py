"""Counting that is killed: training and validation end as undisturbed ones do."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import Command, Script
from discs import flags_of, save_model, write_discs
from interruptions import (
    assert_equal_runs,
    compare_killed_runs,
    predict_until_killed,
    train_until_killed,
)

from helper_functions.inference import resumable


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("discs")
    write_discs(folder, {"train": [1, 2, 3, 0, 2, 1, 4, 3], "val": [0, 1, 2, 3] * 3})
    return folder


def _arguments(discs: Path, output: Path, workers: int) -> Sequence[object]:
    flags = ("--epochs", 6, "--save-every-steps", 2, "--ema-decay", 0.9, "--workers", workers)
    network = ("--network", "dilated", "--lr", 5e-3, "-b", 2, "--device", "cpu")
    random = ("--crop-size", 32, "--scale-jitter", 0.2, "--horizontal-flip")
    end = ("--output-path", output, "--resume", "auto")
    return ("train.py", "--task", "count", *flags_of(discs), *network, *flags, *random, *end)


def test_a_killed_training_ends_byte_for_byte_as_an_undisturbed_one(
    discs: Path, run_here: Script, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    arguments = _arguments(discs, output, workers=0)
    train_until_killed(*arguments[1:])
    done = run_here(*arguments)
    assert done.status == 0, done.errors
    assert "epoch 1/6" not in done.printed
    shutil.move(output, tmp_path / "continued")
    done = run_here(*arguments)
    assert done.status == 0, done.errors
    assert "epoch 1/6" in done.printed
    assert_equal_runs(output, tmp_path / "continued")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_many_kills(seed: int, discs: Path, command: Command, tmp_path: Path) -> None:
    output = tmp_path / "run"
    compare_killed_runs(
        _arguments(discs, output, workers=1), output, command, kills=12, seed=200 + seed
    )


def test_a_killed_validation_continues_and_ends_as_an_undisturbed_one(
    discs: Path, run_here: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_model(tmp_path / "model.ckpt")
    output = tmp_path / "out"
    flags = ("--ckpt-path", model, *flags_of(discs), "--output", output)
    flags = (*flags, "-j", 0, "-b", 2, "--device", "cpu")

    predict_until_killed(*flags)
    assert [path.name for path in output.iterdir()] == [".predictions"]
    monkeypatch.setattr(resumable, "_IMAGES_PER_PART", 4)
    done = run_here("val.py", *flags)
    assert done.status == 0, done.errors
    assert "Continuing: 8 of 12 images have been predicted before." in done.printed
    shutil.move(output, tmp_path / "continued")
    done = run_here("val.py", *flags)
    assert done.status == 0, done.errors
    assert "Continuing" not in done.printed
    files = [path.relative_to(output) for path in sorted(output.rglob("*")) if path.is_file()]
    assert len(files) > 12  # an overlay of each image
    assert len((output / "points.csv").read_text().splitlines()) > 12
    for file in files:
        assert (output / file).read_bytes() == (tmp_path / "continued" / file).read_bytes(), file
