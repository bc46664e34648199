"""The two scripts as users call them: train, validate, predict, resume, and every wrong input."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import golden_fill
import numpy as np
import pytest
import torch
import yaml
from conftest import (
    GOLDEN,
    ROOT,
    SMALL,
    Command,
    Script,
    assert_refused,
    data_flags,
)
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score

from helper_functions.checkpoints import load_model, read_checkpoint


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(
    tiny_set: Path, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A finished run of four epochs, and what it printed."""
    output = tmp_path_factory.mktemp("run") / "out"
    done = command(
        "train.py", *data_flags(tiny_set), *SMALL, "--epochs", 4, "--output-path", output
    )
    assert done.returncode == 0, done.stderr
    return output, done.stdout


def test_training_leaves_the_files_of_the_contract(trained: tuple[Path, str]) -> None:
    output, printed = trained
    assert {path.name for path in output.iterdir()} >= {
        "model-highest.ckpt",
        "last.ckpt",
        "log.csv",
        "args.yaml",
    }
    rows = _rows(output / "log.csv")
    assert list(rows[0])[:7] == [
        *("epoch", "step", "lr", "loss", "asl_loss", "local_nms_loss"),
        "val_mAP",
    ]
    assert "loss_per_label" in rows[0]
    assert len(rows) == 4
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    for row in rows:
        total = float(row["asl_loss"]) + float(row["local_nms_loss"])
        assert float(row["loss"]) == pytest.approx(total, rel=1e-5)
    settings = yaml.safe_load((output / "args.yaml").read_text())
    assert settings["lr"] == 2e-3
    assert settings["vdsm"] == "released"
    assert settings["weight_decay"] == 1e-4
    assert "12 training and 6 validation images, 3 classes" in printed
    best = max(float(row["val_mAP"]) for row in rows)
    assert f"Best validation mAP {best:.2f}" in printed


def test_checkpoints_describe_themselves(trained: tuple[Path, str]) -> None:
    checkpoint = read_checkpoint(trained[0] / "last.ckpt")
    assert checkpoint["info"] == {
        "task": "classify",
        "classes": ["blue", "green", "red"],
        "image_size": 64,
        "mean": None,
        "std": None,
        "bands": ["paper"],
        "value_range": None,
    }
    assert checkpoint["step"] == 12
    assert checkpoint["training"]["state"]["epoch"] == 4
    model = load_model(trained[0] / "model-highest.ckpt")
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


@pytest.fixture(scope="module")
def validated(
    trained: tuple[Path, str], tiny_set: Path, command: Command
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    output = trained[0] / "report"
    done = command(
        *("val.py", "--ckpt-path", trained[0] / "model-highest.ckpt", *data_flags(tiny_set)),
        *("--output", output, "-b", 4, "-j", 1),
    )
    assert done.returncode == 0, done.stderr
    return output, done


def test_validation_repeats_the_score_of_the_training(
    trained: tuple[Path, str], validated: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    metrics = json.loads((validated[0] / "metrics.json").read_text())
    best = max(float(row["val_mAP"]) for row in _rows(trained[0] / "log.csv"))
    assert metrics["mAP"] == pytest.approx(best, abs=1e-4)
    names = {"mAP", "P_C", "R_C", "F_C", "P_O", "R_O", "F_O", "CF1", "threshold", "num_images"}
    assert names | {"classes", "per_class_AP"} <= set(metrics)
    assert metrics["num_images"] == 6
    assert metrics["classes"] == ["blue", "green", "red"]
    assert metrics["mAP"] > metrics["chance_mAP"] > 0
    assert f"mAP                 {metrics['mAP']:6.2f}" in validated[1].stdout


def test_predictions_agree_with_the_metrics_by_scikit_learn(
    tiny_set: Path, validated: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    rows = _rows(validated[0] / "predictions.csv")
    assert list(rows[0]) == ["filename", "blue", "green", "red"]
    expected = [row for row in _rows(tiny_set / "splits.csv") if row["split"] == "val"]
    assert [row["filename"] for row in rows] == [row["filename"] for row in expected]
    metrics = json.loads((validated[0] / "metrics.json").read_text())
    for index, name in enumerate(metrics["classes"]):
        ap = average_precision_score(
            [name in row["label"] for row in expected], [float(row[name]) for row in rows]
        )
        assert metrics["per_class_AP"][index] == pytest.approx(100 * ap, abs=1e-4)
    targets = [[name in row["label"] for name in metrics["classes"]] for row in expected]
    decisions = [[float(row[name]) > 0.5 for name in metrics["classes"]] for row in rows]
    for average in ("samples", "weighted"):
        f1 = f1_score(targets, decisions, average=average, zero_division=0)
        assert metrics[f"{average}_F1"] == pytest.approx(100 * f1)
    assert {"top1", "precision_at_5", "recall_at_5", "MAP_at_20"} <= set(metrics)
    assert "mAP" in (validated[0] / "report.html").read_text(encoding="utf-8")
    table = _rows(validated[0] / "per_class.csv")
    assert [row["class"] for row in table] == metrics["classes"]
    assert float(table[1]["AP"]) == pytest.approx(metrics["per_class_AP"][1], abs=1e-3)


def test_a_folder_is_predicted_without_labels(
    trained: tuple[Path, str], tiny_set: Path, command: Command, tmp_path: Path
) -> None:
    photos = tmp_path / "photos" / "deep"
    photos.mkdir(parents=True)
    for name in ("picture_02.png", "picture_05.png"):
        shutil.copy(tiny_set / "images" / name, photos)
    (photos / "notes.txt").write_text("no image")
    done = command(
        *("val.py", "--ckpt-path", trained[0] / "model-highest.ckpt"),
        *("--img_dir", photos.parent, "--output", tmp_path / "out", "--workers", 0),
    )
    assert done.returncode == 0, done.stderr
    rows = _rows(tmp_path / "out" / "predictions.csv")
    assert [row["filename"] for row in rows] == ["deep/picture_02.png", "deep/picture_05.png"]
    model = load_model(trained[0] / "model-highest.ckpt")
    image = Image.open(photos / "picture_02.png").resize((64, 64), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = model(pixels).sigmoid()[0]
    scores = [float(rows[0][name]) for name in ("blue", "green", "red")]
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert not (tmp_path / "out" / "metrics.json").exists()


def _log_without_times(output: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in _rows(output / "log.csv")]


def test_a_terminated_run_resumes_to_the_same_end(
    trained: tuple[Path, str], tiny_set: Path, command: Command, tmp_path: Path
) -> None:
    arguments = [
        "train.py",
        *data_flags(tiny_set),
        *SMALL,
        "--epochs",
        4,
        "--output-path",
        tmp_path,
    ]
    process = subprocess.Popen(
        [sys.executable, "-u", *map(str, arguments), "--workers", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 1/4"):
            os.killpg(process.pid, signal.SIGTERM)  # workers included, as clusters do
            break
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    resumed = command(*arguments, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert _log_without_times(tmp_path) == _log_without_times(trained[0])
    weights = read_checkpoint(tmp_path / "last.ckpt")["model"]
    expected = read_checkpoint(trained[0] / "last.ckpt")["model"]
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())


def test_a_run_is_not_overwritten_unasked(
    trained: tuple[Path, str], tiny_set: Path, command: Command
) -> None:
    before = (trained[0] / "last.ckpt").read_bytes()
    done = command("train.py", *data_flags(tiny_set), *SMALL, "--output-path", trained[0])
    assert done.returncode == 2
    assert "already holds a run; continue it with --resume" in done.stderr
    assert (trained[0] / "last.ckpt").read_bytes() == before
    again = command(
        "train.py",
        *data_flags(tiny_set),
        *SMALL,
        "--epochs",
        4,
        "--output-path",
        trained[0],
        "--resume",
    )
    assert again.returncode == 0, again.stderr


def test_a_resumed_run_keeps_its_settings_and_rows(
    trained: tuple[Path, str], tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    arguments = ("train.py", *data_flags(tiny_set), *SMALL, "--output-path", trained[0], "--resume")
    assert_refused(run_here(*arguments, "--epochs", 5), "with epochs = 4, not 5")
    assert_refused(
        run_here(*arguments, "--epochs", 4, "--nms-weight", 2), "with nms_weight = 1.0, not 2.0"
    )
    assert run_here(*arguments, "--epochs", 4, "--workers", 1).status == 0
    table = tmp_path / "splits.csv"
    rows = (tiny_set / "splits.csv").read_text().splitlines()
    table.write_text("\n".join(rows[:-1]) + "\n")
    changed = run_here(*arguments, "--epochs", 4, "--csv_path", table)
    assert_refused(changed, "are not those that")


def test_resume_auto_starts_a_run_where_there_is_none(
    tiny_set: Path, command: Command, tmp_path: Path
) -> None:
    arguments = (
        "train.py",
        *data_flags(tiny_set),
        *SMALL,
        "--epochs",
        1,
        "--output-path",
        tmp_path,
    )
    nothing = command(*arguments, "--resume")
    assert nothing.returncode == 2
    assert "nothing to resume" in nothing.stderr
    assert command(*arguments, "--resume", "auto").returncode == 0
    assert len(_rows(tmp_path / "log.csv")) == 1


def test_unreadable_training_images_are_named_or_skipped(
    tiny_set: Path, command: Command, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_set, data)
    (data / "images" / "picture_03.png").write_bytes(b"torn")
    (data / "images" / "picture_04.png").unlink()
    arguments = (
        "train.py",
        *data_flags(data),
        *SMALL,
        "--epochs",
        1,
        "--output-path",
        tmp_path / "out",
    )
    missing = command(*arguments)
    assert missing.returncode == 2
    assert "2 of 12 images of the split train" in missing.stderr
    assert "in line 5: Cannot read the image" in missing.stderr
    assert not (tmp_path / "out").exists()
    skipped = command(*arguments, "--max-bad-images", 2)
    assert skipped.returncode == 0, skipped.stderr
    assert skipped.stderr.count("Skipped:") == 2


def test_the_options_beside_the_recipe_train_together(
    tiny_set: Path, command: Command, tmp_path: Path
) -> None:
    done = command(
        *("train.py", *data_flags(tiny_set), *SMALL, "--epochs", 1, "--amp", "bf16"),
        *("--output-path", tmp_path, "--vdsm", "nearest", "--nms-weight", 10, "--horizontal-flip"),
        *("--kan-grid-update", 12, "--grad-checkpointing"),
    )
    assert done.returncode == 0, done.stderr
    assert float(_rows(tmp_path / "log.csv")[0]["val_outside_grid"]) < 100


def test_a_cache_changes_neither_training_nor_validation(
    trained: tuple[Path, str],
    validated: tuple[Path, subprocess.CompletedProcess[str]],
    tiny_set: Path,
    run_here: Script,
    tmp_path: Path,
) -> None:
    cache = tmp_path / "cache"
    arguments = (*data_flags(tiny_set), "--cache-dir", cache)
    for output in (tmp_path / "first", tmp_path / "second"):  # empty and full
        done = run_here("train.py", *arguments, *SMALL, "--epochs", 4, "--output-path", output)
        assert done.status == 0, done.errors
        rows = [_rows(folder / "log.csv") for folder in (output, trained[0])]
        for found, expected in zip(*rows, strict=True):
            assert {**found, "seconds": ""} == {**expected, "seconds": ""}
        assert len([path for path in cache.rglob("*") if path.is_file()]) == 18
    done = run_here(
        *("val.py", "--ckpt-path", trained[0] / "model-highest.ckpt", *arguments, "--device"),
        *("cpu", "--output", tmp_path / "report", "-b", 4, "-j", 1),
    )
    assert done.status == 0, done.errors
    predictions = [folder / "predictions.csv" for folder in (tmp_path / "report", validated[0])]
    assert predictions[0].read_bytes() == predictions[1].read_bytes()
    assert len([path for path in cache.rglob("*") if path.is_file()]) == 18  # the training's own


# Wrong input: one readable line on standard error, status 2, nothing written.


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--csv_path", "nowhere.csv"), "nowhere.csv does not exist"),
        (("--img_dir", "nowhere"), "image folder nowhere does not exist"),
        (("--num-classes", "4"), "--num-classes is 4, but"),
        (("--num-classes", "many"), "invalid whole number value: 'many'"),
        (("--backbone-name", "resnet17"), "no backbone named 'resnet17'"),
        (("--model-path", "nowhere.pth"), "nowhere.pth does not exist"),
        (("--model-kwargs", "nothing"), "expects key=value"),
        (("--model-kwargs", "no_such=1"), "timm cannot build"),
        (("--min-superpixels", "5", "--image-size", "128"), "leaves only 2 x 2 = 4 cells"),
        (("--vdsm", "newest"), "invalid choice: 'newest'"),
        (("--device", "quantum"), "'quantum' cannot be used here"),
        (("--mean", "0.5", "0.5", "0.5"), "the mean and the standard deviation"),
        (("--lr", "-1"), "must be at least 0"),
        (("--cutout", "nan"), "must be from 0 to 1"),
        (("--epochs", "0"), "must be at least 1"),
        (("--seed", "9" * 25), "must be from 0 to"),
        (("--model-kwargs", "num_classes=5"), "'num_classes' is a setting of its own"),
        (("--device", "meta"), "'meta' cannot train"),
        (
            ("--image-size", "32", "--batch-size", "1"),
            "A training step of resnet10t on 1 image of 32 x 32 pixels is impossible: Expected more"
            " than 1 value per channel",
        ),
        (("--backbone-name", "resnet18.no_such"), "use resnet18 without a tag, or one of resnet18"),
        (("--backbone-name", "halonet26t"), "--image-size (such as 256)"),
        (("--cache-dir", "train.py"), "folder train.py cannot be created"),
        (("--no-such-flag",), "unrecognized arguments: --no-such-flag"),
    ],
)
def test_training_refuses_wrong_input(
    tiny_set: Path, run_here: Script, tmp_path: Path, flags: Sequence[str], sentence: str
) -> None:
    output = tmp_path / "out"
    done = run_here("train.py", *data_flags(tiny_set), *SMALL, "--output-path", output, *flags)
    assert_refused(done, sentence, output)


def test_training_refuses_a_csv_without_validation_rows(
    tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    table = tmp_path / "splits.csv"
    table.write_text((tiny_set / "splits.csv").read_text().replace(",val", ",train"))
    done = run_here(
        *("train.py", "--img_dir", tiny_set / "images", "--csv_path", table, *SMALL),
        *("--output-path", tmp_path / "out"),
    )
    assert_refused(done, "No usable row belongs to the split val", tmp_path / "out")


def test_required_flags_are_asked_for(run_here: Script) -> None:
    assert_refused(run_here("train.py"), "the following arguments are required: --img_dir")
    assert_refused(run_here("val.py"), "the following arguments are required: --ckpt-path")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--ckpt-path", "nowhere.ckpt"), "nowhere.ckpt does not exist"),
        (("--ckpt-path", "pyproject.toml"), "cannot be read as plain tensors"),
        (("--num-classes", "4"), "--num-classes is 4, but"),
        (("--backbone-name", "tresnet_l"), "--backbone-name is tresnet_l, but"),
        (("--img_dir", "nowhere"), "nowhere"),
        (("--split", "test"), "has no image in the split 'test'"),
        (("--split", "valid"), "invalid choice: 'valid'"),
        (("--thre", "2"), "must be from 0 to 1"),
        (("--cache-dir", "train.py"), "folder train.py cannot be created"),
    ],
)
def test_validation_refuses_wrong_input(
    trained: tuple[Path, str],
    tiny_set: Path,
    run_here: Script,
    tmp_path: Path,
    flags: Sequence[str],
    sentence: str,
) -> None:
    done = run_here(
        *("val.py", "--ckpt-path", trained[0] / "last.ckpt", *data_flags(tiny_set)),
        *("--workers", 0, "--output", tmp_path / "out", *flags),
    )
    assert_refused(done, sentence, tmp_path / "out")


def test_validation_names_unreadable_images_and_unknown_classes(
    trained: tuple[Path, str], tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_set, data)
    (data / "images" / "picture_02.png").write_bytes(b"torn")
    output = tmp_path / "out"
    arguments = (
        "val.py",
        "--ckpt-path",
        trained[0] / "last.ckpt",
        *data_flags(data),
        "--output",
        output,
    )
    assert_refused(run_here(*arguments), "picture_02.png", output)
    content = (tiny_set / "images" / "picture_02.png").read_bytes()
    (data / "images" / "picture_02.png").write_bytes(content[: len(content) // 2])
    assert_refused(run_here(*arguments), "picture_02.png", output)
    table = data / "splits.csv"
    table.write_text(table.read_text() + "picture_05.png,['violet'],val\n")
    assert_refused(run_here(*arguments), "line 20: the model does not know the class 'violet'")


def test_help_names_the_flags(run_here: Script) -> None:
    for script in ("train.py", "val.py"):
        done = run_here(script, "--help")
        assert done.status == 0
        assert "--min-superpixels" in done.printed


# Checkpoints of the authors' released program: bare state dicts under their own names.


@pytest.fixture(scope="module")
def released_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 for 15 classes as the released program saves it."""
    path = tmp_path_factory.mktemp("released") / "model-highest.ckpt"
    golden = json.loads((GOLDEN / "checkpoint_resnet18.json").read_text())
    torch.save(golden_fill.state_dict(golden), path)
    return path


def test_a_released_checkpoint_predicts_a_folder(
    released_checkpoint: Path, tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    done = run_here(
        *("val.py", "--ckpt-path", released_checkpoint, "--img_dir", tiny_set / "images"),
        *("--workers", 0, "--output", tmp_path),
    )
    assert done.status == 0, done.errors
    assert "carries no class names" in done.printed
    rows = _rows(tmp_path / "predictions.csv")
    assert list(rows[0])[:2] == ["filename", "class_0"]
    assert len(rows) == 18
    assert len(rows[0]) == 16


def test_a_released_checkpoint_takes_its_class_names_from_the_csv(
    released_checkpoint: Path, tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    arguments = ("val.py", "--ckpt-path", released_checkpoint, "--workers", 0)
    few = run_here(*arguments, *data_flags(tiny_set), "--output", tmp_path / "few")
    assert_refused(few, "scores 15 classes without naming them, but", tmp_path / "few")
    names = [f"genus {letter}" for letter in "abcdefghijklmno"]
    rows = [f"picture_{n:02d}.png,['{names[n]}'],val" for n in range(15)]
    (tmp_path / "splits.csv").write_text("\n".join(["filename,label,split", *rows, ""]))
    done = run_here(
        *arguments,
        *("--img_dir", tiny_set / "images", "--csv_path", tmp_path / "splits.csv"),
        *("--num-classes", 15, "--backbone-name", "resnet18", "--output", tmp_path / "out"),
    )
    assert done.status == 0, done.errors
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["classes"] == names
