"""From a download to a validated training run, for every layout, by the printed commands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from conftest import SMALL, Script
from raw_archives.conversions import ARCHIVES

from helper_functions.check_data.__main__ import main as check_data
from helper_functions.checkpoints.checkpoint import read_checkpoint
from helper_functions.data.splits import read_split_table
from helper_functions.prepare.__main__ import main as prepare


def _printed_command(printed: str, title: str, program: str) -> list[str]:
    """The arguments of a command that ``prepare`` has printed."""
    (line,) = [line for line in printed.splitlines() if line.startswith(f"{title}:")]
    words = shlex.split(line.removeprefix(f"{title}:"))
    start = shlex.split(program)
    assert words[: len(start)] == start
    return words[len(start) :]


@pytest.mark.parametrize("layout", ARCHIVES)
def test_from_the_download_to_a_validated_run(
    layout: str, run_here: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, table = tmp_path / "raw data", tmp_path / "splits.csv"
    truth = ARCHIVES[layout].write(raw)
    bands = ("--bands", "rgb") if layout == "treesatai" else ()
    prepare([layout, "--raw-dir", str(raw), "--out", str(table), *bands])
    printed = capsys.readouterr().out
    samples = read_split_table(table).samples
    assert {s.filename: list(s.labels) for s in samples} == {
        name: labels for name, (labels, _) in truth.items()
    }
    for sample in samples:
        published = truth[sample.filename][1]
        assert sample.split in (("train", "val") if published is None else (published,))

    data = _printed_command(printed, "Check it", "python -m helper_functions.check_data")
    check_data([*data, "--workers", "1"])
    assert re.search("Ready to train|Training can start", capsys.readouterr().out)

    run = tmp_path / "run"
    training = _printed_command(printed, "Train", "python train.py")
    done = run_here("train.py", *training, *SMALL, "--epochs", 1, "--output-path", run)
    assert done.status == 0, done.errors
    checkpoint = run / "model-highest.ckpt"
    expected = ["rgb"] if layout == "treesatai" else ["paper"]
    assert read_checkpoint(checkpoint)["info"]["bands"] == expected
    validation = (*data, "--workers", 0, "--output", run / "val")
    done = run_here("val.py", "--ckpt-path", checkpoint, *validation)
    assert done.status == 0, done.errors
    metrics = json.loads((run / "val" / "metrics.json").read_text())
    assert metrics["num_images"] == sum(sample.split == "val" for sample in samples)
    assert metrics["classes"] == sorted({name for labels, _ in truth.values() for name in labels})
