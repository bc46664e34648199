"""The curves of a run: logs of any length and task, and what is wrong with a log."""

from __future__ import annotations

from pathlib import Path

import pytest
from curve_logs import log_row, make_log, size_of
from matplotlib.figure import Figure

from helper_functions.results.curves import _mark_scores, draw_curves, read_curves
from helper_functions.results.training_log import TrainingLog
from helper_functions.runtime.errors import UserError

COLUMNS = ("epoch", "lr", "loss", "val_mAP")


@pytest.mark.parametrize(
    ("scores", "chance"),
    [
        ([20.0], None),
        ([20.0], 12.5),
        ([30.0, float("nan"), 20.0, float("inf")], None),
        ([float("nan")], 12.5),
        ([0.0], None),
        ([50.0] * 60, 12.5),
    ],
    ids=["one row", "chance", "a gap", "no score", "zero", "many rows"],
)
@pytest.mark.filterwarnings("error")
def test_curves_of_logs_of_any_length(
    tmp_path: Path, scores: list[float], chance: float | None
) -> None:
    log = make_log(tmp_path / "log.csv", scores)
    draw_curves(log, tmp_path / "curve.png", "mAP", chance=chance)
    assert size_of(tmp_path / "curve.png") == (900, 660)


def test_the_best_epoch_counts_from_one(tmp_path: Path) -> None:
    axes = Figure().subplots()
    columns = read_curves(make_log(tmp_path / "log.csv", [20.0, 45.5, 45.5, 44.0]), COLUMNS)
    _mark_scores(axes, columns["epoch"], columns["val_mAP"], 15.0)
    assert axes.get_title("right") == "ringed: best, 45.5 in epoch 2; dashed: chance, 15"


def test_a_chance_above_every_score_is_in_the_figure(tmp_path: Path) -> None:
    axes = Figure().subplots()
    columns = read_curves(make_log(tmp_path / "log.csv", [20.0]), COLUMNS)
    _mark_scores(axes, columns["epoch"], columns["val_mAP"], 60.0)
    assert axes.get_ylim()[1] > 60


HEADER = ",".join(log_row(1))
GOOD = ",".join(str(value) for value in log_row(1).values())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "The log LOG does not exist; train.py writes one in its output folder."),
        (b"", "The log LOG holds no epoch yet; wait until train.py has finished one."),
        (HEADER.encode(), "The log LOG holds no epoch yet; wait until train.py has finished one."),
        (
            HEADER.replace("val_mAP", "x").encode() + b"\n" + GOOD.encode(),
            "The log LOG lacks the column val_mAP; give a log.csv of train.py.",
        ),
        (
            f"{HEADER}\n{GOOD}\n{GOOD.replace('0.0002', 'oops')}\n".encode(),
            "The log LOG has 'oops' as lr in line 3, where a number is due.",
        ),
        (
            f"{HEADER}\nnan{GOOD[1:]}\n".encode(),
            "The log LOG has an epoch without a number; give a log.csv of train.py.",
        ),
        (
            f"{HEADER}\n0,10\n".encode(),
            "The log LOG lacks a value for lr in line 2, where a number is due.",
        ),
    ],
    ids=[
        "absent",
        "empty",
        "only a header",
        "a column missing",
        "no number",
        "no epoch",
        "a torn row",
    ],
)
def test_a_bad_log_gets_one_sentence(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    log = tmp_path / "log.csv"
    if content is not None:
        log.write_bytes(content)
    with pytest.raises(UserError) as caught:
        draw_curves(log, tmp_path / "curve.png", "mAP")
    assert str(caught.value) == complaint.replace("LOG", str(log))
    assert not (tmp_path / "curve.png").exists()


def test_losses_of_any_task_are_drawn(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "log.csv")
    for epoch in (1, 2, 3):
        losses = {f"{name}_loss": -1.5 * epoch for name in ("point", "split", "edge", "size", "x")}
        log.write({"epoch": epoch, "lr": 0.1, "loss": 3.0, "val_MAE": -4.0 / epoch, **losses})
    names = ("loss", *losses)
    draw_curves(log.path, tmp_path / "all.png", "MAE", names)
    draw_curves(log.path, tmp_path / "one.png", "MAE")
    assert (tmp_path / "all.png").read_bytes() != (tmp_path / "one.png").read_bytes()
    with pytest.raises(UserError, match="lacks the column val_mIoU; give a log"):
        draw_curves(log.path, tmp_path / "none.png", "mIoU")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\xff\xfe", b"a,b\n\xff,1\n"])
def test_a_log_that_is_no_text(tmp_path: Path, content: bytes) -> None:
    log = tmp_path / "log.csv"
    log.write_bytes(content)
    with pytest.raises(UserError, match=r"^The log \S+ cannot be read as CSV: .*\.$"):
        read_curves(log, COLUMNS)
