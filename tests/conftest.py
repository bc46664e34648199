"""Shared fixtures: golden numbers, tiny picture sets, the real command lines."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).parent / "golden"

# Files that take longest: two processes that share the tests should not wait for them at the end.
LONGEST = ("test_faults.py", "test_experiments.py", "test_distributed.py", "test_cli.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


# One thread: tiny tensors gain nothing from two, and results do not depend on the machine.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """Loads a file of ``tests/golden`` as a dictionary of arrays."""

    def load(name: str) -> dict[str, Any]:
        with np.load(GOLDEN / name) as arrays:
            return dict(arrays)

    return load


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def command() -> Command:
    """Runs a script or module of the project as a user would."""

    def run(*arguments: object, **settings: Any) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            **settings,
        )

    return run


# A training of seconds.
SMALL = (
    *("--backbone-name", "resnet10t", "--image-size", 64, "--device", "cpu"),
    *("--subsampling", "--sub-h", 2, "--sub-w", 2, "--min-superpixels", 2),
    *("--batch-size", 4, "--workers", 0, "--lr", 2e-3),
)


def data_flags(folder: Path) -> Sequence[object]:
    """The flags that name a set."""
    return ("--img_dir", folder / "images", "--csv_path", folder / "splits.csv")


@dataclass(frozen=True)
class Outcome:
    """What a script left behind: exit status, standard output, standard error."""

    status: object
    printed: str
    errors: str


Script = Callable[..., Outcome]


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """Runs a script inside this process: the same code without the seconds of its imports."""

    def run(script: str, *arguments: object) -> Outcome:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            runpy.run_path(script, run_name="__main__")
        captured = capsys.readouterr()
        return Outcome(left.value.code, captured.out, captured.err)

    return run


def assert_refused(done: Outcome, sentence: str, output: Path | None = None) -> None:
    """One sentence, exit status 2, nothing written."""
    assert done.status == 2, done.errors
    assert len(done.errors.strip().splitlines()) == 1, done.errors
    assert sentence in done.errors
    assert "Traceback" not in done.errors
    assert output is None or not output.exists()


# Colours that a tiny network tells apart in a few steps.
COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (210, 50, 40)}


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 pictures of one or two coloured halves: ``images/`` and ``splits.csv``."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    names = sorted(COLOURS)
    rows = ["filename,label,split"]
    for number in range(18):
        left, right = names[number % 3], names[number // 3 % 3]
        pixels = rng.integers(0, 30, (40, 48, 3))
        pixels[:, :24] += COLOURS[left]
        pixels[:, 24:] += COLOURS[right]
        name = f"picture_{number:02d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "images" / name)
        labels = sorted({left, right})
        rows.append(f'{name},"{labels}",{"val" if number % 3 == 2 else "train"}')
    (folder / "splits.csv").write_text("\n".join(rows) + "\n")
    return folder
