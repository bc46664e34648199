"""Files that are damaged or made to harm: refused early, in one sentence and bounded memory."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
import struct
import zlib
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Script, assert_refused, data_flags

from helper_functions.checkpoints.checkpoint import read_checkpoint
from helper_functions.data.images import ImageError, read_image
from helper_functions.data.splits import read_split_table
from helper_functions.results.tables import write_prediction_parts
from helper_functions.runtime.errors import UserError


@pytest.fixture(scope="module")
def checkpoint(tiny_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as ``train.py`` writes it, without its training."""
    from helper_functions.checkpoints.checkpoint import save_checkpoint
    from models import create_model

    model = create_model("resnet10t", 3, image_size=64, subsampling=True, sub_h=2, sub_w=2)
    path = tmp_path_factory.mktemp("checkpoint") / "model.ckpt"
    info = {"classes": ["blue", "green", "red"], "image_size": 64, "mean": None, "std": None}
    save_checkpoint(path, {"settings": model.settings, "info": info, "model": model.state_dict()})
    assert (tiny_set / "images").is_dir()
    return path


class _Harmful:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (str(self.trace), "w"))


@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_that_runs_code_is_refused(zipped: bool, tmp_path: Path) -> None:
    content = {"format": "volunet", "x": _Harmful(tmp_path / "trace")}
    path = tmp_path / "harmful.ckpt"
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="damaged or holds code"):
        read_checkpoint(path)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "settings", [{"num_classes": 10**9}, {"kan_grid_size": 10**9}, {"kan_spline_order": 10**9}]
)
def test_sizes_are_compared_before_anything_is_allocated(
    settings: dict[str, int], checkpoint: Path, tmp_path: Path
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["settings"].update(settings)
    torch.save(content, tmp_path / "huge.ckpt")
    with pytest.raises(UserError, match=r"the length of head.*but its shape is"):
        read_checkpoint(tmp_path / "huge.ckpt").model()


def test_a_checkpoint_with_tensors_of_other_shapes_is_refused(
    checkpoint: Path, tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["model"]["backbone.conv1.0.weight"] = torch.zeros(1)
    torch.save(content, tmp_path / "other.ckpt")
    arguments = ("--ckpt-path", tmp_path / "other.ckpt", "--output", tmp_path / "out")
    done = run_here("val.py", *data_flags(tiny_set), *arguments)
    assert_refused(done, "does not describe a usable model", tmp_path / "out")


def test_a_split_csv_of_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    with path.open("wb") as file:
        file.truncate(10 * 10**9)  # a hole: it takes no room
    with pytest.raises(UserError, match=r"has 10\.0 GB"):
        read_split_table(path)


def test_a_hundred_thousand_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text(",".join(f"column{n}" for n in range(100_000)) + "\n")
    with pytest.raises(UserError, match="no column 'filename'") as refused:
        read_split_table(path)
    assert len(str(refused.value)) < 600


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(ImageError, match=r"bomb\.png.*900000000 pixels|bomb\.png"):
        read_image(path)


def test_no_cell_of_a_result_is_a_formula(tmp_path: Path) -> None:
    scores = torch.zeros(3, 2).numpy()
    names = ["=cmd|' /C calc'!A0", "@sum.png", "plain.png"]
    write_prediction_parts(tmp_path / "predictions.csv", ["+1", "oak"], [(names, scores)])
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["filename", "'+1", "oak"]
    assert [row[0] for row in rows[1:]] == ["'=cmd|' /C calc'!A0", "'@sum.png", "plain.png"]


@pytest.fixture
def torn_set(tiny_set: Path, tmp_path: Path) -> Path:
    """A copy of the tiny set with one validation image cut in half."""
    folder = tmp_path / "torn"
    shutil.copytree(tiny_set, folder)
    content = (folder / "images" / "picture_05.png").read_bytes()
    (folder / "images" / "picture_05.png").write_bytes(content[: len(content) // 2])
    return folder


def test_validation_names_a_bad_image_or_leaves_it_out(
    torn_set: Path, checkpoint: Path, run_here: Script, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = ("--ckpt-path", checkpoint, "--output", output, "--device", "cpu", "-j", 0)
    done = run_here("val.py", *data_flags(torn_set), *arguments)
    assert_refused(done, "picture_05.png", output)
    done = run_here("val.py", *data_flags(torn_set), *arguments, "--skip-bad")
    assert done.status == 0, done.errors
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["num_images"] == 5
    assert len(metrics["skipped"]) == 1
    assert "picture_05.png" in metrics["skipped"][0]
    assert "Left out: Cannot read the image" in done.printed


def test_prediction_names_a_bad_image_or_leaves_it_out(
    torn_set: Path, checkpoint: Path, run_here: Script, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = ("--ckpt-path", checkpoint, "--output", output, "--device", "cpu", "-j", 0)
    done = run_here("val.py", "--img_dir", torn_set / "images", *arguments)
    assert_refused(done, "picture_05.png", output)
    done = run_here("val.py", "--img_dir", torn_set / "images", *arguments, "--skip-bad")
    assert done.status == 0, done.errors
    assert len((output / "predictions.csv").read_text().splitlines()) == 1 + 17
    for path in (torn_set / "images").iterdir():
        path.write_bytes(b"torn")
    done = run_here("val.py", "--img_dir", torn_set / "images", *arguments, "--skip-bad")
    assert_refused(done, "None of the 18 images can be read")


def test_bad_training_images_are_skipped_up_to_a_number(
    tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    folder = tmp_path / "torn"
    shutil.copytree(tiny_set, folder)
    content = (folder / "images" / "picture_00.png").read_bytes()
    (folder / "images" / "picture_00.png").write_bytes(content[: len(content) // 2])
    arguments = (*data_flags(folder), *SMALL, "--epochs", 1, "--output-path", tmp_path / "run")
    done = run_here("train.py", *arguments)
    assert_refused(done, "picture_00.png")
    done = run_here("train.py", *arguments, "--max-bad-images", 1)
    assert done.status == 0, done.errors
    assert "Skipped: Cannot read the image" in done.errors


def test_names_cannot_speak_to_the_terminal() -> None:
    assert str(UserError("It reads 'a\x1b[2J\n\u2028b\udc80é'.")) == (
        r"It reads 'a\x1b[2J\n\u2028b\udc80é'."
    )
