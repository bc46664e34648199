"""Prediction of folders, patterns and lists, interrupted and continued."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, Script, assert_refused
from interruptions import predict_until_killed

from helper_functions.checkpoints.checkpoint import save_checkpoint
from helper_functions.inference import resumable as predicting
from models import create_model


def save_model(path: Path, seed: int) -> Path:
    """A small model for images of 64 px."""
    torch.manual_seed(seed)
    model = create_model("resnet10t", 3, min_superpixels=0)
    info = {
        "task": "classify",
        "classes": ["blue", "green", "red"],
        "image_size": 64,
        "mean": None,
        "std": None,
    }
    save_checkpoint(
        path, {"settings": model.settings, "model": model.state_dict(), "info": info, "args": {}}
    )
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "model.ckpt", seed=0)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "_IMAGES_PER_PART", 4)


def flags(checkpoint: Path, images: object, output: Path) -> tuple[object, ...]:
    return (
        *("--ckpt-path", checkpoint, "--img_dir", images, "--output", output),
        *("--device", "cpu", "-j", 0, "-b", 2),
    )


@pytest.fixture(scope="module")
def killed(checkpoint: Path, tiny_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a prediction of 18 images leaves behind that was killed after eight."""
    output = tmp_path_factory.mktemp("killed") / "out"
    predict_until_killed(*flags(checkpoint, tiny_set / "images", output))
    return output


@pytest.mark.usefixtures("small_parts")
def test_a_killed_prediction_continues_and_ends_where_an_undisturbed_one_ends(
    checkpoint: Path,
    tiny_set: Path,
    killed: Path,
    run_here: Script,
    tmp_path: Path,
) -> None:
    assert [path.name for path in killed.iterdir()] == [".predictions"]
    output = shutil.copytree(killed, tmp_path / "continued")
    done = run_here("val.py", *flags(checkpoint, tiny_set / "images", output))
    assert done.status == 0, done.errors
    assert "Continuing: 8 of 18 images have been predicted before." in done.printed
    assert f"The scores of 18 images are in {output / 'predictions.csv'}." in done.printed
    assert [path.name for path in output.iterdir()] == ["predictions.csv"]
    undisturbed = run_here("val.py", *flags(checkpoint, tiny_set / "images", tmp_path / "whole"))
    assert undisturbed.status == 0, undisturbed.errors
    assert "Continuing" not in undisturbed.printed
    whole = (tmp_path / "whole" / "predictions.csv").read_bytes()
    assert (output / "predictions.csv").read_bytes() == whole
    assert len(whole.splitlines()) == 19


@pytest.mark.usefixtures("small_parts")
def test_what_was_scored_is_not_scored_again(
    checkpoint: Path,
    tiny_set: Path,
    killed: Path,
    run_here: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = shutil.copytree(killed, tmp_path / "continued")
    saved: list[int] = []
    save = predicting.PredictionStore.save

    def spy(self: predicting.PredictionStore, number: int, part: predicting.Part) -> None:
        saved.extend(part.indices)
        save(self, number, part)

    monkeypatch.setattr(predicting.PredictionStore, "save", spy)
    done = run_here("val.py", *flags(checkpoint, tiny_set / "images", output))
    assert done.status == 0, done.errors
    assert saved == list(range(8, 18))


@pytest.mark.usefixtures("small_parts")
def test_a_prediction_is_not_continued_with_other_settings(
    checkpoint: Path,
    tiny_set: Path,
    killed: Path,
    run_here: Script,
    tmp_path: Path,
) -> None:
    output = shutil.copytree(killed, tmp_path / "out")
    other = save_model(tmp_path / "other.ckpt", seed=1)
    done = run_here("val.py", *flags(other, tiny_set / "images", output), "--image-size", 96)
    assert_refused(done, "unfinished prediction that differs in: checkpoint, image size.")
    done = run_here("val.py", *flags(checkpoint, tiny_set / "images", output), "-b", 4)
    assert_refused(done, "differs in: batch size.")
    more = shutil.copytree(tiny_set / "images", tmp_path / "images")
    shutil.copy(more / "picture_00.png", more / "new.png")
    done = run_here("val.py", *flags(checkpoint, more, output))
    assert_refused(done, "differs in: images.")
    assert [path.name for path in output.iterdir()] == [".predictions"]


@pytest.mark.usefixtures("small_parts")
def test_a_damaged_part_is_named(
    checkpoint: Path,
    tiny_set: Path,
    killed: Path,
    run_here: Script,
    tmp_path: Path,
) -> None:
    output = shutil.copytree(killed, tmp_path / "out")
    part = output / ".predictions" / "part-000001.npz"
    part.write_bytes(part.read_bytes()[:100])
    arguments = ("val.py", *flags(checkpoint, tiny_set / "images", output))
    assert_refused(run_here(*arguments), "part-000001.npz is damaged; delete it")
    assert not (output / "predictions.csv").exists()
    part.unlink()
    done = run_here(*arguments)
    assert done.status == 0, done.errors
    assert len((output / "predictions.csv").read_text().splitlines()) == 19


@pytest.mark.usefixtures("small_parts")
def test_bad_images_in_any_part_are_left_out_on_request(
    checkpoint: Path, tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    images = shutil.copytree(tiny_set / "images", tmp_path / "images")
    bad = [f"picture_{number:02d}.png" for number in (1, *range(4, 8), 17)]  # one part wholly
    for name in bad:
        (images / name).write_bytes(b"torn")
    arguments = ("val.py", *flags(checkpoint, images, tmp_path / "out"))
    assert_refused(run_here(*arguments), "picture_01.png", tmp_path / "out")
    done = run_here(*arguments, "--skip-bad")
    assert done.status == 0, done.errors
    for name in bad:
        assert f"Left out: Cannot read the image {images / name}" in done.printed
    clean = run_here("val.py", *flags(checkpoint, tiny_set / "images", tmp_path / "clean"))
    assert clean.status == 0, clean.errors
    expected = _scores(tmp_path / "clean" / "predictions.csv")
    found = _scores(tmp_path / "out" / "predictions.csv")
    assert list(found) == [name for name in expected if name not in bad]
    for name, scores in found.items():
        np.testing.assert_allclose(scores, expected[name], rtol=1e-5)


def test_images_all_bad_leave_nothing_behind(
    checkpoint: Path, run_here: Script, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "torn.png").write_bytes(b"torn")
    output = tmp_path / "out"
    done = run_here("val.py", *flags(checkpoint, tmp_path / "images", output), "--skip-bad")
    assert_refused(done, "None of the 1 images can be read. Cannot read the image", output)


def _scores(path: Path) -> dict[str, list[float]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return {row[0]: [float(cell) for cell in row[1:]] for row in rows}


@pytest.mark.usefixtures("small_parts")
def test_parquet_holds_what_the_csv_holds(
    checkpoint: Path, tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="the packages of requirements-export.txt are not installed"
    )
    arguments = ("val.py", *flags(checkpoint, tiny_set / "images", tmp_path))
    for extra in ((), ("--predictions-format", "parquet")):
        done = run_here(*arguments, *extra)
        assert done.status == 0, done.errors
    table = parquet.read_table(tmp_path / "predictions.parquet").to_pydict()
    expected = _scores(tmp_path / "predictions.csv")
    assert list(table) == ["filename", "blue", "green", "red"]
    assert table["filename"] == list(expected)
    rows = np.array([table[name] for name in ("blue", "green", "red")], np.float32).T
    np.testing.assert_array_equal(rows, np.array(list(expected.values()), np.float32))


def test_two_predictions_do_not_share_a_folder(
    checkpoint: Path, tiny_set: Path, killed: Path, run_here: Script, tmp_path: Path
) -> None:
    output = shutil.copytree(killed, tmp_path / "out")
    hold = (
        "import sys; from pathlib import Path\n"
        "from helper_functions.runtime.files import FolderLock\n"
        "with FolderLock(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(output / ".predictions")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        done = run_here("val.py", *flags(checkpoint, tiny_set / "images", output))
        assert_refused(done, "Another run is at work in")


def test_a_list_and_a_pattern_are_predicted(
    checkpoint: Path, tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    images = tiny_set / "images"
    (tmp_path / "list.txt").write_text(
        f"{images / 'picture_03.png'}\n{images / 'picture_01.png'}\n"
    )
    done = run_here("val.py", *flags(checkpoint, tmp_path / "list.txt", tmp_path / "list"))
    assert done.status == 0, done.errors
    done = run_here("val.py", *flags(checkpoint, images / "*_0[13].png", tmp_path / "pattern"))
    assert done.status == 0, done.errors
    found = [_scores(tmp_path / name / "predictions.csv") for name in ("list", "pattern")]
    assert [Path(name).stem for name in found[0]] == ["picture_03", "picture_01"]
    assert [Path(name).stem for name in found[1]] == ["picture_01", "picture_03"]
    for name, scores in found[0].items():
        np.testing.assert_allclose(scores, found[1][name], rtol=1e-5)
