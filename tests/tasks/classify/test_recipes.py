"""Settings by name: ``--recipe``, ``--normalize``, ``--ema-decay`` through ``train.py``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import SMALL, Script, assert_refused, data_flags
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helper_functions.checkpoints.checkpoint import read_checkpoint
from helper_functions.results.training_log import TrainingLog
from helper_functions.tasks.classify.flags import RECIPES


def _settings(output: Path) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((output / "args.yaml").read_text())
    return settings


def test_a_recipe_changes_defaults_and_explicit_flags_win(
    tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    common = ("train.py", *data_flags(tiny_set), *SMALL, "--epochs", 1, "--output-path")
    for name in RECIPES:
        done = run_here(*common, tmp_path / name, "--recipe", name)
        assert done.status == 0, done.errors
    released = _settings(tmp_path / "released")
    recommended = _settings(tmp_path / "recommended")
    ignored = {"recipe", "output_path", "mean", "std", "provenance"}
    for recipe in ("recommended", "regions"):
        settings = _settings(tmp_path / recipe)
        differing = {name for name in released if released[name] != settings[name]} - ignored
        changed = {name: RECIPES[recipe][name] for name in RECIPES[recipe].keys() & differing}
        # One of SMALL's own flags is also in the recipe, and wins.
        assert set(RECIPES[recipe]) - set(changed) <= {"min_superpixels"}
        assert differing == set(changed)
        assert {name: settings[name] for name in changed} == changed

    done = run_here(
        *(*common, tmp_path / "own", "--nms-weight", 7, "--recipe", "recommended"),
        *("--normalize", "none", "--rand-augment"),
    )
    assert done.status == 0, done.errors
    own = _settings(tmp_path / "own")
    assert (own["nms_weight"], own["rand_augment"], own["mean"]) == (7, True, None)
    assert own["vdsm"] == recommended["vdsm"]


@pytest.mark.parametrize(
    ("flags", "mean", "std"),
    [
        ((), None, None),
        (("--normalize", "backbone"), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        (("--normalize", "backbone", "--mean", *[0.5] * 3), [0.5] * 3, [0.229, 0.224, 0.225]),
    ],
)
def test_pictures_can_be_normalised_as_the_backbone_was(
    flags: tuple[object, ...],
    mean: list[float] | None,
    std: list[float] | None,
    tiny_set: Path,
    run_here: Script,
    tmp_path: Path,
) -> None:
    arguments = (*data_flags(tiny_set), *SMALL, "--epochs", 1, "--output-path", tmp_path / "out")
    done = run_here("train.py", *arguments, *flags)
    assert done.status == 0, done.errors
    info = read_checkpoint(tmp_path / "out" / "last.ckpt")["info"]
    assert info["mean"] == (None if mean is None else pytest.approx(mean))
    assert info["std"] == (None if std is None else pytest.approx(std))


def test_the_checkpoint_holds_the_average_and_its_score(
    tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = (*data_flags(tiny_set), *SMALL, "--epochs", 2, "--output-path", output)
    done = run_here("train.py", *arguments, "--ema-decay", 0.9)
    assert done.status == 0, done.errors
    header = (output / "log.csv").read_text().splitlines()[0].split(",")
    assert {"val_mAP", "val_raw_mAP"} <= set(header)
    last = read_checkpoint(output / "last.ckpt")
    raw = last["training"]["raw_model"]
    assert not torch.equal(
        raw["head.layers.0.base_weight"], last["model"]["head.layers.0.base_weight"]
    )
    done = run_here("val.py", *data_flags(tiny_set), "--ckpt-path", output / "last.ckpt")
    assert done.status == 0, done.errors


def test_a_run_can_be_watched_stopped_early_and_tested(
    tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    rows = (tiny_set / "splits.csv").read_text().splitlines()
    rows = [row.replace(",val", ",test") if "_05" in row or "_08" in row else row for row in rows]
    (tmp_path / "splits.csv").write_text("\n".join(rows) + "\n")
    output = tmp_path / "out"
    done = run_here(
        *("train.py", "--img_dir", tiny_set / "images", "--csv_path", tmp_path / "splits.csv"),
        *(*SMALL, "--lr", 0, "--epochs", 9, "--patience", 2, "--test-split", "test"),
        *("--deterministic", "--output-path", output),
    )
    assert done.status == 0, done.errors
    torch.use_deterministic_algorithms(False)
    log = TrainingLog(output / "log.csv").read()
    best = max(float(row["val_mAP"]) for row in log)
    first = next(row for row in log if float(row["val_mAP"]) == best)
    assert int(log[-1]["epoch"]) == int(first["epoch"]) + 2 < 9
    test = json.loads((output / "test.json").read_text())
    assert test["split"] == "test"
    assert f"mAP {test['mAP']:.2f} on the split test" in done.printed

    events = EventAccumulator(str(output / "events"), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    assert {"run/val_mAP", "run/loss", "AP/red", "AP/blue"} <= set(tags["scalars"])
    logged = [event.value for event in events.Scalars("run/val_mAP")]
    assert logged == pytest.approx([float(row["val_mAP"]) for row in log], rel=1e-6)
    assert {"augmented", "splines"} <= set(tags["images"])
    assert len(events.Images("splines")) == len(log)
    regions = [tag for tag in tags["images"] if tag.startswith("regions/picture_")]
    assert len(regions) == 4
    assert all(len(events.Images(tag)) == len(log) for tag in regions)
    assert (output / "curves.png").is_file()


def test_absent_weights_and_biases_is_said_before_training(
    tiny_set: Path, run_here: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    output = tmp_path / "out"
    arguments = (*data_flags(tiny_set), *SMALL, "--epochs", 1, "--output-path", output)
    assert_refused(run_here("train.py", *arguments, "--wandb"), "pip install wandb", output)
