"""From a download to a validated training run, for every layout."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from conftest import SMALL, Script
from raw_archives import coco, fathomnet, geolifeclef, onehot, shiprsimagenet, treesatai

from helper_functions.check_data.__main__ import main as check_data
from helper_functions.prepare.__main__ import convert, make_parser
from helper_functions.prepare.__main__ import main as prepare
from helper_functions.prepare.sources import Sources
from helper_functions.splits import read_split_table

ARCHIVES: dict[str, ModuleType] = {
    "treesatai": treesatai,
    "geolifeclef": geolifeclef,
    "fathomnet": fathomnet,
    "shiprsimagenet": shiprsimagenet,
    "coco": coco,
    "onehot": onehot,
}


@pytest.mark.parametrize("layout", ARCHIVES)
def test_from_the_download_to_a_validated_run(
    layout: str, run_here: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, table = tmp_path / "raw", tmp_path / "splits.csv"
    truth = ARCHIVES[layout].write(raw)
    flags = [layout, "--raw-dir", str(raw), "--out", str(table)]
    prepare(flags)
    printed = capsys.readouterr().out
    images = convert(make_parser().parse_args(flags), Sources(raw)).images
    assert f"--img_dir {images}" in printed
    samples = read_split_table(table).samples
    assert {s.filename: list(s.labels) for s in samples} == {
        name: labels for name, (labels, _) in truth.items()
    }
    for sample in samples:
        published = truth[sample.filename][1]
        assert sample.split in (("train", "val") if published is None else (published,))

    data = ("--csv_path", table, "--img_dir", images)
    check_data(list(map(str, (*data, "--workers", 1))))
    assert "Ready to train." in capsys.readouterr().out

    run = tmp_path / "run"
    preset = () if layout in ("coco", "onehot") else ("--dataset", layout)
    arguments = (*data, *preset, *SMALL, "--epochs", 1, "--output-path", run)
    done = run_here("train.py", *arguments)
    assert done.status == 0, done.errors
    checkpoint = run / "model-highest.ckpt"
    done = run_here(
        *("val.py", "--ckpt-path", checkpoint, *data, "--workers", 0, "--output", run / "val")
    )
    assert done.status == 0, done.errors
    metrics = json.loads((run / "val" / "metrics.json").read_text())
    assert metrics["num_images"] == sum(sample.split == "val" for sample in samples)
    assert metrics["classes"] == sorted({name for labels, _ in truth.values() for name in labels})
