"""Counting through the real scripts: discs of which each has one point."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Outcome, Script, assert_refused
from discs import flags_of, write_discs
from PIL import Image
from torch import Tensor, nn

from helper_functions.checkpoints import Checkpoint, load_model, read_checkpoint
from helper_functions.inference.export import FORMATS
from helper_functions.training.engine import Trainer


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("discs")
    write_discs(folder, {"train": [1, 2, 3, 0, 2, 1, 4, 3], "val": [0, 1, 2, 3]})
    return folder


def train(folder: Path, output: Path, *more: object) -> tuple[object, ...]:
    small = ("--network", "dilated", "--lr", 5e-3, "--epochs", 6, "-b", 2, "-j", 0)
    schedule = ("--schedule", "one-cycle", "--no-tensorboard", "--device", "cpu")
    return (
        *("train.py", "--task", "count", *flags_of(folder), *small, *schedule),
        *("--output-path", output, *more),
    )


@pytest.fixture(scope="module")
def run(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training."""
    output = tmp_path_factory.mktemp("run") / "out"
    patch = pytest.MonkeyPatch()
    import runpy
    import sys

    with patch.context() as context:
        context.setattr(sys, "argv", [str(word) for word in train(discs, output)])
        with pytest.raises(SystemExit) as left:
            runpy.run_path("train.py", run_name="__main__")
    assert left.value.code == 0
    return output


def test_the_best_checkpoint_has_the_lowest_error(run: Path) -> None:
    with (run / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    errors = [float(row["val_MAE"]) for row in rows]
    best = read_checkpoint(run / "model-highest.ckpt")
    assert best["metrics"]["MAE"] == min(errors)
    assert best["epoch"] == max(k for k, error in enumerate(errors, 1) if error == min(errors))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert (run / "curves.png").is_file()
    model = load_model(run / "model-highest.ckpt")
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 33, 57)).shape == (1, 1, 33, 57)


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    discs: Path, run: Path, run_here: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step

    def interrupt(trainer: Trainer, micro_batches: list[object]) -> None:
        step(trainer, micro_batches)  # type: ignore[arg-type]
        if trainer.state.step == 6:
            trainer.stop.signum = 15

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupt)
        assert run_here(*train(discs, tmp_path / "out")).status == 143
    done = run_here(*train(discs, tmp_path / "out", "--resume"))
    assert done.status == 0, done.errors
    for name in ("last.ckpt", "model-highest.ckpt"):
        whole, parts = (
            read_checkpoint(folder / name)["model"] for folder in (run, tmp_path / "out")
        )
        assert all(torch.equal(value, parts[key]) for key, value in whole.items())


def validate(run_here: Script, run: Path, *more: object) -> Outcome:
    flags = ("--ckpt-path", run / "model-highest.ckpt", "-j", 0, "--device", "cpu")
    return run_here("val.py", *flags, *more)


def test_validation_writes_counts_points_overlays_and_a_report(
    discs: Path, run: Path, run_here: Script, tmp_path: Path
) -> None:
    done = validate(run_here, run, *flags_of(discs), "--output", tmp_path, "-b", 1)
    assert done.status == 0, done.errors
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["MAE"] == read_checkpoint(run / "model-highest.ckpt")["metrics"]["MAE"]
    games = [metrics[f"GAME_{level}"] for level in range(4)]
    assert games == sorted(games)
    assert {"RMSE", "NAE", "bias", "precision", "recall", "F1"} <= metrics.keys()
    assert metrics["num_images"] == 4
    with (tmp_path / "counts.csv").open() as file:
        counts = list(csv.DictReader(file))
    assert [(row["filename"], row["true"]) for row in counts] == [
        (f"val_{k}.png", str(k)) for k in range(4)
    ]
    with (tmp_path / "points.csv").open() as file:
        points = list(csv.DictReader(file))
    assert len(points) == sum(int(row["count"]) for row in counts)
    # Blobs of the fitted network lie on discs.
    for row in points:
        image = np.asarray(Image.open(discs / "images" / row["filename"]))
        assert 0 <= float(row["x"]) < image.shape[1]
        assert 0.5 < float(row["score"]) <= 1
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 4
    page = (tmp_path / "report.html").read_text()
    assert "Predicted against true" in page
    assert "Worst images" in page

    # What was predicted can serve as points, and images can be predicted without any.
    (tmp_path / "again").mkdir()
    again = ("--points-path", tmp_path / "points.csv", *flags_of(discs)[:4])
    done = validate(run_here, run, *again, "--output", tmp_path / "again", "-b", 1)
    assert done.status == 0, done.errors
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["MAE"] == 0
    done = validate(
        run_here, run, "--img_dir", discs / "images", "--output", tmp_path / "plain", "-b", 1
    )
    assert done.status == 0, done.errors
    with (tmp_path / "plain" / "counts.csv").open() as file:
        plain = {row["filename"]: row["count"] for row in csv.DictReader(file)}
    assert len(plain) == 12
    assert all(plain[row["filename"]] == row["count"] for row in counts)
    assert not (tmp_path / "plain" / "metrics.json").exists()


def test_images_of_several_sizes_share_batches(
    discs: Path, run: Path, run_here: Script, tmp_path: Path
) -> None:
    """Group norm sees the padding, so counts may differ a little; nothing is found in it."""
    sizes = []
    for name in ("val_1.png", "val_2.png"):
        with Image.open(discs / "images" / name) as image:
            sizes.append(image.size)
    assert sizes[0] != sizes[1]
    done = validate(run_here, run, *flags_of(discs), "--output", tmp_path, "-b", 4)
    assert done.status == 0, done.errors
    with (tmp_path / "counts.csv").open() as file:
        assert [row["true"] for row in csv.DictReader(file)] == ["0", "1", "2", "3"]
    with (tmp_path / "points.csv").open() as file:
        for row in csv.DictReader(file):
            with Image.open(discs / "images" / row["filename"]) as image:
                assert 0 <= float(row["x"]) < image.width
                assert 0 <= float(row["y"]) < image.height


class _Exported(nn.Module):
    """An exported file in the place of the network: its probabilities as logits.

    The file takes images of the size that it was exported with.
    """

    def __init__(self, run_file: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.run_file = [run_file]  # in a list, lest it be put into evaluation mode

    def forward(self, images: Tensor) -> Tensor:
        return torch.logit(self.run_file[0](images))


@pytest.mark.parametrize("kind", ["torchscript", "torch-export", "onnx"])
def test_validation_with_an_exported_file_finds_the_same_objects(
    kind: str, run: Path, run_here: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file gives probabilities; blobs found after it are those of the checkpoint."""
    for package in FORMATS[kind].packages:
        pytest.importorskip(package, reason="requirements-export.txt is not installed")
    write_discs(tmp_path, {"val": [0, 1, 2, 3]}, one_size=True)
    done = validate(run_here, run, *flags_of(tmp_path), "--output", tmp_path / "own")
    assert done.status == 0, done.errors
    export = ("--export", kind, "--img_dir", tmp_path / "images", "--output", tmp_path / "export")
    done = validate(run_here, run, *export)
    assert done.status == 0, done.errors
    assert "connected blob above 0.5" in done.printed

    exported = _Exported(FORMATS[kind].load(tmp_path / "export" / FORMATS[kind].file))
    monkeypatch.setattr(Checkpoint, "model", lambda *_: exported)
    done = validate(run_here, run, *flags_of(tmp_path), "--output", tmp_path / "exported")
    assert done.status == 0, done.errors
    assert "counts.csv" in done.printed
    own, other = ((tmp_path / name / "points.csv").read_text() for name in ("own", "exported"))
    rows = [list(csv.DictReader(text.splitlines())) for text in (own, other)]
    assert len(rows[0]) > 3
    for key in ("filename", "x", "y"):
        assert [row[key] for row in rows[0]] == [row[key] for row in rows[1]]
    scores = [[float(row["score"]) for row in table] for table in rows]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


def test_an_export_has_the_size_of_the_first_image_or_of_a_tile(
    discs: Path, run: Path, run_here: Script, tmp_path: Path
) -> None:
    """Images of other sizes are cut or padded for the comparison."""
    for more, size in (
        (("--img_dir", discs / "images"), [3, 40, 40]),
        (("--img_dir", discs / "images", "--tile-size", 32), [3, 32, 32]),
        (("--tile-size", 64), [3, 64, 64]),
    ):
        done = validate(run_here, run, "--export", "torchscript", "--output", tmp_path, *more)
        assert done.status == 0, done.errors
        assert json.loads((tmp_path / "model.json").read_text())["input_size"] == size
        exported = FORMATS["torchscript"].load(tmp_path / "model.torchscript")
        assert exported(torch.zeros(3, *size)).shape == (3, 1, *size[1:])


def test_several_classes_are_counted_apart(run_here: Script, tmp_path: Path) -> None:
    write_discs(tmp_path, {"train": [2, 4, 3, 1], "val": [2, 3]}, label="both")
    output = tmp_path / "out"
    done = run_here(*train(tmp_path, output, "--loss-mode", "multiclass"))
    assert done.status == 0, done.errors
    assert read_checkpoint(output / "last.ckpt")["info"]["classes"] == ["blue", "gold"]
    done = validate(run_here, output, *flags_of(tmp_path), "--output", tmp_path / "val")
    assert done.status == 0, done.errors
    with (tmp_path / "val" / "counts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["true"]) for row in rows] == [
        *(("blue", "1"), ("gold", "1")),
        *(("blue", "1"), ("gold", "2")),
    ]
    metrics = json.loads((tmp_path / "val" / "metrics.json").read_text())
    assert metrics["MAE_per_class"].keys() == {"blue", "gold"}
    assert (tmp_path / "val" / "per_class.csv").is_file()


def test_intervals_hold_the_counts_they_were_learnt_from(
    discs: Path, run: Path, run_here: Script, tmp_path: Path
) -> None:
    calibration = tmp_path / "counts.csv"
    rows = [
        "filename,count,true",
        *(f"{k}.png,{k % 7},{max(0, k % 7 + k % 3 - 1)}" for k in range(40)),
    ]
    calibration.write_text("\n".join(rows) + "\n")
    flags = (*flags_of(discs), "--interval", 0.8, "--calibration", calibration)
    done = validate(run_here, run, *flags, "--output", tmp_path / "val")
    assert done.status == 0, done.errors
    with (tmp_path / "val" / "counts.csv").open() as file:
        for row in csv.DictReader(file):
            assert 0 <= float(row["low"]) <= float(row["count"]) <= float(row["high"])
    calibration.write_text("\n".join(rows[:3]) + "\n")
    done = validate(run_here, run, *flags, "--output", tmp_path / "few")
    assert_refused(done, "intervals of 0.8 need at least 4", tmp_path / "few")
    done = validate(run_here, run, *flags[:-2], "--output", tmp_path / "none")
    assert_refused(done, "does not exist; validate the checkpoint first", tmp_path / "none")


def _edit(folder: Path, text: str) -> None:
    (folder / "points.csv").write_text(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("filename,x,y\ntrain_0.png,400,3\n", "line 2: the point (400, 3) lies outside"),
        ("filename,x,y\ntrain_0.png,-3,3\n", "line 2: x is -3, outside of any image"),
        ("filename,x,y\ntrain_0.png,nan,3\n", "line 2: x is 'nan', not a finite number"),
        ("filename,x,y\nother.png,1,3\n", "line 2: 'other.png' is no row of the split CSV"),
        ("filename,x\ntrain_0.png,1\n", "has no column 'y'"),
    ],
)
def test_wrong_points_are_refused_by_line(
    discs: Path, run_here: Script, tmp_path: Path, text: str, sentence: str
) -> None:
    _edit(tmp_path, text)
    flags = list(train(discs, tmp_path / "out"))
    flags[flags.index("--points-path") + 1] = tmp_path / "points.csv"
    assert_refused(run_here(*flags), sentence, tmp_path / "out")


def test_what_does_not_belong_together_is_refused(
    discs: Path, run: Path, run_here: Script, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    done = run_here(*train(discs, output, "--image-size", 224))
    assert_refused(done, "Counting keeps the size of images", output)
    done = run_here(*train(discs, output, "--network", "unet", "--backbone-name", "resnet99"))
    assert_refused(done, "There is no backbone named 'resnet99'", output)
    done = validate(run_here, run, *flags_of(discs), "--output", output, "--task", "classify")
    assert_refused(done, "--task is classify, but", output)
    done = validate(
        run_here, run, "--img_dir", discs / "images", "--points-path", discs / "points.csv"
    )
    assert_refused(done, "--points-path needs the images' splits", output)
