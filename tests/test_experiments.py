"""The experiments command: plans, interruption, and a table of measured numbers only."""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Command

from helper_functions.cli import to_arguments
from helper_functions.experiments import (
    RECIPES,
    ROOT,
    Run,
    plan,
    read_recipe,
    summarize,
    write_tables,
)
from helper_functions.parsers import make_parser
from helper_functions.runtime.errors import UserError
from helper_functions.tasks.classify import Classify

SMALL = {
    "image-size": 64,
    "epochs": 1,
    "workers": 0,
    "batch-size": 4,
    "device": "cpu",
    "subsampling": True,
    "sub-h": 2,
    "sub-w": 2,
    "min-superpixels": 2,
}


def _asked(output: Path, **settings: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **{
            "output": output,
            "backbones": None,
            "ablations": None,
            "seeds": 2,
            "train_flags": [],
            **settings,
        }
    )


@pytest.mark.parametrize("name", [path.stem for path in RECIPES.glob("*.yaml")])
def test_every_recipe_is_a_list_of_flags_of_train_py(name: str, tmp_path: Path) -> None:
    parser = make_parser("train", Classify)
    recipe = read_recipe(name)
    for run in plan(recipe, _asked(tmp_path, seeds=1)):
        words = ["--img_dir", "x", "--csv_path", "y", *run.words]
        args = parser.parse_args(words)
        assert args.backbone_name == run.backbone
        make_parser("val", Classify).parse_args(["--ckpt-path", "x", *run.val_words])


def test_the_papers_sets_have_recipes_with_the_whole_ablation() -> None:
    for name in ("treesatai", "geolifeclef", "fathomnet", "shiprsimagenet"):
        recipe = read_recipe(name)
        assert {"linear", "kan", "kan+nms", "volunet", "volunet-asl"} <= set(recipe["ablations"])
        assert recipe["flags"]["dataset"] == name


def test_flags_become_words() -> None:
    flags = {"epochs": 3, "subsampling": True, "rand-augment": False, "mean": [0.5, 0.5, 0.5]}
    assert to_arguments({**flags, "model-kwargs": {"a": 1}}) == [
        *("--epochs", "3", "--subsampling", "--no-rand-augment"),
        *("--mean", "0.5", "0.5", "0.5", "--model-kwargs", "a=1"),
    ]


def test_later_flags_win_and_seeds_come_last_to_first_in_turn(tmp_path: Path) -> None:
    recipe: dict[str, Any] = {
        "flags": {"epochs": 80, "lr": 1},
        "backbones": {"a": {"lr": 2}, "b": None},
        "ablations": {"x": {"epochs": 5}, "y": {}},
    }
    runs = plan(recipe, _asked(tmp_path, backbones=["a"]))
    assert [(run.ablation, run.seed) for run in runs] == [("x", 0), ("y", 0), ("x", 1), ("y", 1)]
    read = argparse.ArgumentParser()
    for name in ("--epochs", "--lr", "--backbone-name", "--seed"):
        read.add_argument(name)
    assert vars(read.parse_args(runs[0].words)) == {
        "epochs": "5",
        "lr": "2",
        "backbone_name": "a",
        "seed": "0",
    }
    flags = ["--epochs", "7", "--lr", "9"]
    runs = plan(recipe, _asked(tmp_path, backbones=["a"], train_flags=flags))
    assert [read.parse_args(run.words).epochs for run in runs] == ["5", "7", "5", "7"]
    assert {read.parse_args(run.words).lr for run in runs} == {"9"}
    with pytest.raises(UserError, match="no ablation 'z'; it has x, y"):
        plan(recipe, _asked(tmp_path, ablations=["z"]))


def test_one_training_can_be_validated_in_several_ways(tmp_path: Path) -> None:
    recipe: dict[str, Any] = {
        "backbones": {"a": {}},
        "ablations": {"x": {}, "y": {}},
        "validations": {"plain": {}, "cells": {"score-from": "regions"}},
    }
    runs = plan(recipe, _asked(tmp_path, seeds=1))
    assert [run.row for run in runs] == [
        ("a", f"{x}, {v}") for x in "xy" for v in ("plain", "cells")
    ]
    assert runs[0].folder == runs[1].folder
    assert runs[0].words == runs[1].words
    assert [run.val_words for run in runs[:2]] == [[], ["--score-from", "regions"]]
    assert [run.results.name for run in runs[:2]] == ["val-plain", "val-cells"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("flags: {}", "must hold 'backbones'"), ("a: [", "not a valid YAML"), ("- 1", "must hold")],
)
def test_unusable_recipes_are_named(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_recipe(str(tmp_path / "recipe.yaml"))
    with pytest.raises(UserError, match=r"no recipe 'nothing'; give a YAML file or one of .*csv"):
        read_recipe("nothing")


def _pretend(run: Run, score: float) -> None:
    """The files of a finished run."""
    (run.folder / "val").mkdir(parents=True)
    metrics = {"mAP": score, "F_C": 1.0, "CF1": 2.0, "F_O": 3.0, "region_purity": 50.0}
    (run.folder / "val" / "metrics.json").write_text(json.dumps(metrics))
    (run.folder / "log.csv").write_text(f"epoch,val_mAP\n1,5\n2,{score - 1}\n")


def test_tables_hold_mean_and_deviation_of_what_is_finished(tmp_path: Path) -> None:
    recipe: dict[str, Any] = {"backbones": {"a": {}}, "ablations": {"x": {}, "y": {}}}
    runs = plan(recipe, _asked(tmp_path, seeds=3))
    scores = [60.0, 64.0, 62.0]
    for run in runs:
        if run.ablation == "x":
            _pretend(run, scores[run.seed])
    first, second = summarize(runs, Classify.columns)
    assert first["mAP"] == pytest.approx(62)
    assert first["mAP_std"] == pytest.approx(statistics.stdev(scores))
    assert first["mAP_last"] == pytest.approx(61)
    assert second == {"backbone": "a", "ablation": "y", "seeds": 0}
    write_tables(runs, Classify.columns, tmp_path)
    table = (tmp_path / "results.md").read_text()
    assert "| a | x | 3 | 62.00 ± 2.00 | 61.00 ± 2.00 |" in table
    assert "| 50.00 ± 0.00 |  |" in table
    assert "| a | y | 0 |  |  |" in table
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["mAP"] for row in rows] == ["62.0", ""]


def _words(folder: Path, tiny_set: Path, output: Path, epochs: int) -> list[object]:
    """The experiments command on a recipe of two ablations."""
    recipe = {
        "flags": {**SMALL, "epochs": 80},
        "backbones": {"resnet10t": {}},
        "ablations": {"linear": {"head": "linear", "nms-weight": 0}, "volunet": {}},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return [
        *("-m", "helper_functions.experiments", folder / "recipe.yaml", "--seeds", 1),
        *("--img_dir", tiny_set / "images", "--csv_path", tiny_set / "splits.csv"),
        *("--output", output, "--", "--epochs", epochs),
    ]


def test_a_killed_experiment_reproduces_its_tables(
    tiny_set: Path, command: Command, tmp_path: Path
) -> None:
    whole = command(*_words(tmp_path, tiny_set, tmp_path / "whole", 6))
    assert whole.returncode == 0, whole.stderr

    words = _words(tmp_path, tiny_set, tmp_path / "out", 6)
    call = [sys.executable, *map(str, words)]
    with subprocess.Popen(call, cwd=ROOT, stderr=subprocess.PIPE, text=True) as killed:
        while not (tmp_path / "out/resnet10t/volunet/seed0/log.csv").is_file():
            assert killed.poll() is None
            time.sleep(0.05)
        killed.terminate()
        _, error = killed.communicate()
    assert killed.returncode == 143, error
    assert not (tmp_path / "out/resnet10t/volunet/seed0/val").exists()
    finished = tmp_path / "out/resnet10t/linear/seed0/last.ckpt"
    before = finished.stat().st_mtime_ns

    again = command(*words)
    assert again.returncode == 0, again.stderr
    assert finished.stat().st_mtime_ns == before
    for table in ("results.csv", "results.md"):
        assert (tmp_path / "out" / table).read_text() == (tmp_path / "whole" / table).read_text()
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    assert [(row["ablation"], row["seeds"]) for row in rows] == [("linear", "1"), ("volunet", "1")]
    for row in rows:
        metrics = tmp_path / "out" / "resnet10t" / row["ablation"] / "seed0/val/metrics.json"
        assert float(row["mAP"]) == pytest.approx(json.loads(metrics.read_text())["mAP"])
    assert "| resnet10t | volunet | 1 |" in again.stdout


def test_results_of_other_flags_are_not_taken_over(
    tiny_set: Path, command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "out/resnet10t/linear/seed0"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    other = command(*_words(tmp_path, tiny_set, tmp_path / "out", 1))
    assert other.returncode == 2
    assert "holds a run with other flags or another split CSV" in other.stderr
