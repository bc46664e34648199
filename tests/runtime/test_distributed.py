"""Two processes under torchrun: the same training as one, and the same after a stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Command, data_flags

from helper_functions.checkpoints.checkpoint import read_checkpoint
from helper_functions.results.training_log import TrainingLog

# Without batch norm, whose statistics every process takes over its own share. 11 training images
# leave a last batch that the two cannot share evenly.
MODEL = (
    *("--backbone-name", "test_convnext", "--image-size", 64, "--device", "cpu"),
    *("--min-superpixels", 0, "--batch-size", 4, "--workers", 1, "--lr", 2e-3),
)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def _call(tiny_set: Path, output: Path, epochs: int) -> Sequence[object]:
    flags = ("--epochs", epochs, "--output-path", output, "--resume", "auto")
    return ("train.py", *data_flags(tiny_set), *MODEL, *flags)


def _log(output: Path) -> list[dict[str, float]]:
    return [
        {name: float(value) for name, value in row.items() if name != "seconds"}
        for row in TrainingLog(output / "log.csv").read()
    ]


def test_two_processes_train_as_one(tiny_set: Path, command: Command, tmp_path: Path) -> None:
    one = command(*_call(tiny_set, tmp_path / "one", 2))
    assert one.returncode == 0, one.stderr
    two = command(*TORCHRUN, *_call(tiny_set, tmp_path / "two", 2))
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("Best validation mAP") == 1
    alone, together = _log(tmp_path / "one"), _log(tmp_path / "two")
    for row, other in zip(alone, together, strict=True):
        assert row["step"] == other["step"]
        for name in ("lr", "val_mAP", "val_F_C", "val_F_O", "val_outside_grid"):
            assert other[name] == pytest.approx(row[name], rel=1e-4, abs=1e-3), name
    weights = read_checkpoint(tmp_path / "one" / "last.ckpt")["model"]
    shared = read_checkpoint(tmp_path / "two" / "last.ckpt")["model"]
    for name, value in weights.items():
        assert torch.allclose(value, shared[name], atol=2e-4), name

    refused = command(*_call(tiny_set, tmp_path / "two", 2))
    assert refused.returncode == 2
    assert "was trained with processes = 2, not 1" in refused.stderr


def test_two_processes_stop_and_go_on_together(
    tiny_set: Path, command: Command, tmp_path: Path
) -> None:
    whole = command(*TORCHRUN, *_call(tiny_set, tmp_path / "whole", 8))
    assert whole.returncode == 0, whole.stderr
    call = [sys.executable, *map(str, (*TORCHRUN, *_call(tiny_set, tmp_path / "parts", 8)))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for row in (2, 4):
        with subprocess.Popen(
            call, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as run:
            log = TrainingLog(tmp_path / "parts" / "log.csv")
            while len(log.read()) < row:
                assert run.poll() is None
                time.sleep(0.05)
            run.send_signal(signal.SIGTERM)
            run.communicate()
        assert len(_log(tmp_path / "parts")) < 8
    done = command(*TORCHRUN, *_call(tiny_set, tmp_path / "parts", 8))
    assert done.returncode == 0, done.stderr
    assert _log(tmp_path / "parts") == _log(tmp_path / "whole")
    for name in ("last.ckpt", "model-highest.ckpt"):
        weights = read_checkpoint(tmp_path / "whole" / name)["model"]
        resumed = read_checkpoint(tmp_path / "parts" / name)["model"]
        for key, value in weights.items():
            assert torch.equal(value, resumed[key]), key
