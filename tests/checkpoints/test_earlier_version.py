"""Checkpoints that version 0.1 wrote still load, score alike, and go on where they stood.

The files of ``golden/earlier_version`` are from a run of two epochs on the tiny set; ``last.ckpt``
is from its middle, ``log.csv`` from its end.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN, Script, data_flags

from helper_functions.checkpoints import load_model
from models import VoLUNet

EARLIER = GOLDEN / "earlier_version"
# The flags of that run.
RUN = (
    *("--backbone-name", "test_efficientnet", "--model-kwargs", "channel_multiplier=0.5"),
    *("--image-size", 64, "--subsampling", "--sub-h", 2, "--sub-w", 2, "--min-superpixels", 2),
    *("--batch-size", 4, "--workers", 0, "--lr", 2e-3, "--epochs", 2, "--no-rand-augment"),
    *("--device", "cpu"),
)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_earlier_model_validates_to_the_same_scores(
    tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    best = EARLIER / "model-highest.ckpt"
    assert isinstance(load_model(best), VoLUNet)
    flags = ("--ckpt-path", best, "-j", 0, "--device", "cpu", "--output", tmp_path)
    done = run_here("val.py", *data_flags(tiny_set), *flags)
    assert done.status == 0, done.errors
    ours, theirs = (_rows(folder / "predictions.csv") for folder in (tmp_path, EARLIER))
    assert [row["filename"] for row in ours] == [row["filename"] for row in theirs]
    for name in ("blue", "green", "red"):
        scores, expected = ([float(row[name]) for row in rows] for rows in (ours, theirs))
        np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_an_earlier_run_goes_on_to_the_same_end(
    tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    shutil.copy(EARLIER / "last.ckpt", tmp_path)
    flags = (*data_flags(tiny_set), *RUN, "--output-path", tmp_path)
    done = run_here("train.py", *flags, "--resume")
    assert done.status == 0, done.errors
    (ours,), (_, theirs) = _rows(tmp_path / "log.csv"), _rows(EARLIER / "log.csv")
    for name, value in theirs.items():
        if name != "seconds":
            found = float(ours[name])
            assert found == pytest.approx(float(value), rel=1e-4), name
