"""Input of counting that cannot be used is refused in one sentence; unusual input is used."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import Script, assert_refused
from discs import flags_of, save_model, write_discs
from PIL import Image

from helper_functions.check_data.findings import Findings
from helper_functions.check_data.points import check_points, read_point_rows
from helper_functions.check_data.rows import read_rows
from helper_functions.data.points import check_inside
from helper_functions.runtime.errors import UserError
from helper_functions.tasks.count.intervals import read_calibration
from helper_functions.tasks.count.task import Count

READ = "All input has been read."


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("discs")
    write_discs(folder, {"train": [2, 4, 3, 1], "val": [2, 3]}, label="both")
    return folder


@pytest.fixture
def stop_before_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_task: Count) -> None:
        raise UserError(READ)

    monkeypatch.setattr(Count, "build_model", stop)


def _train(folder: Path, points: Path, output: Path, *more: object) -> tuple[object, ...]:
    data = (*flags_of(folder)[:4], "--points-path", points, "--output-path", output)
    small = ("--network", "dilated", "--epochs", 1, "-b", 2, "-j", 0, "--device", "cpu")
    return ("train.py", "--task", "count", *data, *small, *more)


def _points(path: Path, content: bytes | None) -> Path:
    """Write points, or a folder of their name."""
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    return path


def _half_labeled(folder: Path) -> bytes:
    header, *rows = (folder / "points.csv").read_text().splitlines()
    rows = [row if n % 2 else row.rpartition(",")[0] + "," for n, row in enumerate(rows)]
    return "\n".join((header, *rows, "")).encode()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty; its first line must read filename,x,y."),
        (None, "is a folder; give the file by --points-path."),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "is not UTF-8 text"),
        (b"filename,x,y\n", "No image of the split train has a point in"),
        (b"filename,x,y\nval_0.png,3,3\n", "No image of the split train has a point in"),
        (b"filename,x,y\nIMG_1.jpg,3,3\n", "line 2: 'IMG_1.jpg' is no row of the split CSV"),
        (b"filename,x,y\ntrain_0.png,3,-2\n", "line 2: y is -2, outside of any image"),
        (b"filename,x,y\ntrain_0.png,3,NaN\n", "line 2: y is 'NaN', not a finite number"),
        (b"filename,x,y\ntrain_0.png,3\0,1\n", r"line 2: x is '3\x00', not a number"),
    ],
)
def test_points_that_cannot_be_used(
    content: bytes | None, sentence: str, discs: Path, run_here: Script, tmp_path: Path
) -> None:
    points, output = _points(tmp_path / "points.csv", content), tmp_path / "out"
    done = run_here(*_train(discs, points, output))
    assert_refused(done, sentence, output)
    assert str(points) in done.errors


@pytest.mark.usefixtures("stop_before_the_model")
def test_labels_count_for_several_classes_alone(
    discs: Path, run_here: Script, tmp_path: Path
) -> None:
    points, output = _points(tmp_path / "points.csv", _half_labeled(discs)), tmp_path / "out"
    done = run_here(*_train(discs, points, output, "--loss-mode", "multiclass"))
    assert_refused(done, f"{points}, line 2: the label is empty", output)
    done = run_here(*_train(discs, points, output))
    assert_refused(done, READ, output)
    assert "Note" not in done.printed


def test_flags_that_cannot_be_used(discs: Path, run_here: Script, tmp_path: Path) -> None:
    output, points = tmp_path / "out", discs / "points.csv"
    complete = _train(discs, points, output)
    done = run_here(*(word for word in complete if word not in ("--points-path", points)))
    assert_refused(done, "the following arguments are required: --points-path", output)
    for more, sentence in {
        ("--match-radius", -1): "--match-radius: -1 is out of range",
        ("--match-radius", "nan"): "--match-radius: nan is out of range",
        ("--scale", "nan"): "--scale is nan",
        ("--crop-size", -1): "--crop-size: -1 is out of range",
        ("--tile-size", -1): "--tile-size: -1 is out of range",
    }.items():
        assert_refused(run_here(*complete, *more), sentence, output)


def _random_images(
    folder: Path, sizes: Sequence[tuple[int, int]], mode: str = "RGB"
) -> tuple[Path, Path]:
    """Write a training and a validation image of each size with a point in its middle."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    splits, points = ["filename,split"], ["filename,x,y"]
    for number, (width, height) in enumerate(sizes):
        for split in ("train", "val"):
            name = f"{split}_{number}.png"
            pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / "images" / name)
            splits.append(f"{name},{split}")
            points.append(f"{name},{width // 2},{height // 2}")
    (folder / "splits.csv").write_text("\n".join(splits) + "\n")
    (folder / "points.csv").write_text("\n".join(points) + "\n")
    return folder, folder / "points.csv"


@pytest.mark.parametrize(
    ("sizes", "mode", "more"),
    [
        ([(1, 1), (1, 1)], "RGB", ()),
        ([(40, 40), (1, 1), (1, 30)], "RGB", ("--batch-size", 1)),
        ([(1, 1), (20, 20)], "RGB", ("--network", "unet", "--backbone-name", "resnet10t")),
        ([(600, 4), (500, 4)], "RGB", ("--tile-size", 1)),
        ([(12, 40), (30, 20)], "RGB", ("--crop-size", 32)),
        ([(20, 20), (24, 16)], "P", ("--scale", 0.01)),
        ([(20, 20), (24, 16)], "1", ()),
    ],
)
def test_unusual_images_are_trained_and_validated(
    sizes: Sequence[tuple[int, int]],
    mode: str,
    more: tuple[object, ...],
    run_here: Script,
    tmp_path: Path,
) -> None:
    folder, points = _random_images(tmp_path / "set", sizes, mode)
    output = tmp_path / "out"
    done = run_here(*_train(folder, points, output, *more))
    assert done.status == 0, done.errors
    flags = ("--ckpt-path", output / "last.ckpt", *flags_of(folder), "-j", 0, "--device", "cpu")
    done = run_here("val.py", *flags, "--tile-size", 1, "--output", tmp_path / "val")
    assert done.status == 0, done.errors
    assert len(list((tmp_path / "val" / "overlays").glob("*.png"))) == len(sizes)


GOOD = ("filename,count,true", *(f"{k}.png,{k % 7},{k % 7 + k % 3}" for k in range(20)))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("a.png,nan,3", "line 22: count is 'nan', not a number of objects"),
        ("a.png,3,inf", "line 22: true is 'inf', not a number of objects"),
        ("a.png,-3,3", "line 22: count is '-3', not a number of objects"),
        ("a.png,2.5,3", "line 22: count is '2.5', not a number of objects"),
        ("a.png,1_0,3", "line 22: count is '1_0', not a number of objects"),
        ("a.png,²,3", "line 22: count is '²', not a number of objects"),
        ("a.png,,3", "line 22: count is '', not a number of objects"),
        (f"a.png,{'9' * 5000},3", f"line 22: count is '{'9' * 40}', not a number of objects"),
        ("a.png,3", "line 22: the row has 2 columns, but the header has 3"),
        ("a.png,3,4,5", "line 22: the row has 4 columns, but the header has 3"),
    ],
)
def test_a_damaged_calibration_is_refused_by_line(row: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    path.write_text("\n".join(GOOD) + "\n")
    assert read_calibration(path, 0.9).images == 20
    path.write_text("\n".join((*GOOD, row)) + "\n")
    with pytest.raises(UserError) as caught:
        read_calibration(path, 0.9)
    assert str(caught.value).startswith(f"{path}, {sentence}")


def test_other_files_are_no_calibration(tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    for text in ("", "filename,count\na,1\n", "count,true,count\n1,2,1\n"):
        path.write_text(text)
        with pytest.raises(UserError, match="needs one column 'count' and one column 'true'"):
            read_calibration(path, 0.5)
    with pytest.raises(UserError, match=r"is a folder; give the file by --calibration\."):
        read_calibration(tmp_path, 0.5)


def test_validation_refuses_what_training_does(
    discs: Path, run_here: Script, tmp_path: Path
) -> None:
    checkpoint, output = save_model(tmp_path / "model.ckpt"), tmp_path / "out"
    start = ("val.py", "--ckpt-path", checkpoint, "--output", output, "--device", "cpu", "-j", 0)
    complete = (*start, *flags_of(discs))
    for number, (text, sentence) in enumerate(
        {
            "": "is empty; its first line must read filename,x,y.",
            "filename,x,y\nval_0.png,300,1\n": "line 2: the point (300, 1) lies outside",
            "filename,x,y\nval_0.png,nan,1\n": "line 2: x is 'nan', not a finite number",
            "filename,x,y\nIMG_1.jpg,1,1\n": "line 2: 'IMG_1.jpg' is no row of the split CSV",
        }.items()
    ):
        points = _points(tmp_path / f"{number}.csv", text.encode())
        done = run_here(*start, *flags_of(discs)[:4], "--points-path", points)
        assert_refused(done, sentence, output)
    done = run_here(*complete, "--interval", 0.9)
    assert_refused(done, "does not exist; validate the checkpoint first", output)
    assert_refused(run_here(*complete, "--match-radius", -1), "-1 is out of range", output)
    assert_refused(run_here(*complete, "--task", "classify"), "--task is classify, but", output)


# What damaged tables hold in place of what was written
_BYTES = b',\n\r"-.;_ex09 \x00\xff'


def _damaged(content: bytes, draw: random.Random) -> bytes:
    """Cut a table off, flip bits of it or replace bytes."""
    damaged = bytearray(content)
    kind = draw.choice(("cut", "flip", "replace"))
    if kind == "cut":
        return bytes(damaged[: draw.randrange(len(damaged))])
    for _ in range(draw.choice((1, 1, 2, 8))):
        place = draw.randrange(len(damaged))
        if kind == "flip":
            damaged[place] ^= 1 << draw.randrange(8)
        else:
            damaged[place] = draw.choice(_BYTES)
    return bytes(damaged)


@pytest.mark.usefixtures("stop_before_the_model")
@pytest.mark.parametrize("files", [40, pytest.param(600, marks=pytest.mark.slow)])
def test_damaged_points(files: int, discs: Path, run_here: Script, tmp_path: Path) -> None:
    """Training takes or refuses a damaged table as the check does."""
    draw = random.Random(files)
    sound, outcomes = (discs / "points.csv").read_bytes(), set()
    for _ in range(files):
        points, output = tmp_path / "points.csv", tmp_path / "out"
        points.write_bytes(_damaged(sound, draw))
        mode = draw.choice(("released", "multiclass", "per-class"))
        done = run_here(*_train(discs, points, output, "--loss-mode", mode))
        assert_refused(done, "train.py: error: ", output)
        usable = READ in done.errors
        outcomes.add(usable)
        assert usable or str(points) in done.errors

        findings = Findings(limit=100)
        samples = read_rows(discs / "splits.csv", findings, labels=False)
        table = read_point_rows(points, samples, findings)
        if table is not None:
            check_points(samples, table, None, findings)
            for name, each in table.images.items():
                try:
                    with Image.open(discs / "images" / name) as image:
                        check_inside(each, image.size)
                except UserError as error:
                    findings.fault("outside", str(error))
        if not usable:  # nothing stops a run that the check finds ready, but labels that it lacks
            ready = not (findings.faults or findings.notes)
            assert not ready or "has no column 'label'" in done.errors, done.errors
        elif findings.faults:  # of labels that the loss mode leaves out
            raise AssertionError(findings.faults)
    assert outcomes == {True, False}
