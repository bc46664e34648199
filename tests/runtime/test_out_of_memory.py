"""A machine that lacks memory, or kills what reads images, ends a run with a sentence."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helper_functions import cli
from helper_functions.data.dataset import ImageDataset, Samples, make_loader
from helper_functions.data.targets import Target
from helper_functions.data.transforms import EvalTransform
from helper_functions.runtime.device import out_of_memory_message

FAR_TOO_MUCH = 2**50


class _Fatal(EvalTransform):
    """Ends the worker that calls it."""

    def __init__(self, end: Callable[[], object]) -> None:
        super().__init__(8)
        self.end = end

    def __call__(self, *_: object, **__: object) -> tuple[Tensor, Target]:
        self.end()
        raise AssertionError


def _read_with(end: Callable[[], object], tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    dataset = ImageDataset(Samples.from_paths([tmp_path / "a.png"]), _Fatal(end))
    list(make_loader(dataset, batch_size=1, workers=1))


def _crash() -> None:
    ctypes.string_at(0)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("fail", "sentence"),
    [
        (lambda: torch.empty(FAR_TOO_MUCH), "has too little memory (can't allocate memory: you"),
        (lambda: np.empty(FAR_TOO_MUCH), "has too little memory (Unable to allocate 8.00 PiB"),
        (lambda: bytearray(FAR_TOO_MUCH), "has too little memory (it could not be allocated); low"),
    ],
)
def test_too_little_memory_is_a_sentence(fail: Callable[[], object], sentence: str) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as failure:
        fail()
    assert sentence in (out_of_memory_message(failure.value) or "")


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        (_kill, "A process that reads images was killed by signal: Killed. Mostly"),
        (_crash, "A process that reads images was killed by signal: Segmentation fault. Mostly"),
        (lambda: os._exit(1), "A process that reads images was ended. Mostly"),
    ],
    ids=["killed", "crashed", "gone"],
)
def test_a_lost_worker_is_a_sentence(
    end: Callable[[], object], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError) as failure:
        _read_with(end, tmp_path)
    assert sentence in (out_of_memory_message(failure.value) or "")


def test_a_full_device_is_a_sentence() -> None:
    words = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB."
    lack = out_of_memory_message(torch.OutOfMemoryError(words)) or ""
    assert "memory (CUDA out of memory. Tried to allocate 2.00 GiB); lower --batch-size" in lack


def test_other_mistakes_are_not() -> None:
    assert out_of_memory_message(RuntimeError("shapes do not fit")) is None
    assert (
        out_of_memory_message(ValueError("DataLoader worker (pid 1) exited unexpectedly")) is None
    )


def test_a_script_ends_with_the_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: _read_with(_kill, tmp_path))
    assert left.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("train.py: error: A process that reads images was killed by signal")
    with pytest.raises(RuntimeError, match="a mistake"):
        cli.run(lambda: (_ for _ in ()).throw(RuntimeError("a mistake")))
