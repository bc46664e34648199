"""The check of points: every fault and note, figures, chart; train.py says the same."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any, cast

import numpy as np
import pytest
from conftest import Script
from discs import flags_of, write_discs
from matplotlib.figure import Figure
from PIL import Image

from helper_functions.check_data import chart
from helper_functions.check_data.__main__ import check, main
from helper_functions.check_data.chart import count_edges, draw_counts
from helper_functions.check_data.images import decode
from helper_functions.check_data.points import check_points_for_training
from helper_functions.check_data.report import to_text
from helper_functions.data.points import read_points
from helper_functions.data.splits import read_split_table
from helper_functions.runtime.errors import UserError

SPLITS = ("a.png,train", "b.png,train", "c.png,val", "d.png,test")
POINTS = ("a.png,2,3", "a.png,6,3", "c.png,1,1")
LABELED = ("a.png,2,3,oak", "b.png,6,3,oak", "a.png,9,3,ash", "c.png,1,1,oak", "c.png,5,5,ash")


def _write(folder: Path, splits: Sequence[str], points: Sequence[str]) -> tuple[Path, Path]:
    """Write rows and points, and an image of 12 x 8 pixels for every file of the rows."""
    csv_path, points_path = folder / "splits.csv", folder / "points.csv"
    csv_path.write_text("\n".join(("filename,split", *splits)) + "\n", encoding="utf-8")
    label = ",label" * any(row.count(",") == 3 for row in points)
    points_path.write_text("\n".join((f"filename,x,y{label}", *points)) + "\n", encoding="utf-8")
    (folder / "images").mkdir()
    for number, row in enumerate(splits):
        name = Path(row.rpartition(",")[0]).name
        pixels = np.random.default_rng(number).integers(0, 256, (8, 12, 3), np.uint8)
        if not (folder / "images" / name).exists():
            Image.fromarray(pixels).save(folder / "images" / name)
    return csv_path, points_path


def _sentences(findings: list[dict[str, Any]]) -> list[str]:
    return [example for finding in findings for example in finding["examples"]]


# Rows, points, whether labels count, and what both say of them; None: nothing
CASES: tuple[tuple[Sequence[str], Sequence[str], bool, str | None], ...] = (
    (SPLITS, POINTS, False, None),
    (SPLITS, LABELED[2:], True, "A single point is labeled 'oak'"),
    (SPLITS, (*LABELED, "b.png,3,5,ash"), True, None),
    ((*SPLITS, "a.png,train"), POINTS, False, "Line 6 repeats line 2"),
    ((*SPLITS, "./a.png,train"), POINTS, False, "Line 6 repeats line 2"),
    ((*SPLITS, "a.png,val"), POINTS, False, "an image belongs to one split"),
    (SPLITS, (), False, "No image of the split train has a point"),
    (SPLITS, POINTS[2:], False, "No image of the split train has a point"),
    (SPLITS, POINTS[:2], False, "No image of the split val has a point"),
    (SPLITS[:2], POINTS[:2], False, "No usable row belongs to the split val"),
    (SPLITS[2:], POINTS[2:], False, "No usable row belongs to the split train"),
    (SPLITS, (*POINTS, "a.png,2.2,3.3"), False, "1 point falls on the pixel of an earlier one"),
    (SPLITS, (*POINTS, "a.png,2.8,3"), False, "1 point lies on another pixel, but within 1 of"),
    (SPLITS, (*POINTS, "e.png,1,1"), False, "line 5: 'e.png' is no row of the split CSV"),
    (SPLITS, (*POINTS, "a.png,nan,1"), False, "line 5: x is 'nan', not a finite number"),
    (SPLITS, (*POINTS, "a.png,1,-7"), False, "line 5: y is -7, outside of any image"),
    (SPLITS, (*POINTS, "a.png,1"), False, "line 5: the row has 2 columns"),
    (SPLITS, (*LABELED, "a.png,3,5,"), True, "line 7: the label is empty"),
    (SPLITS, (*LABELED, "b.png,1,1,elm", "c.png,9,1,elm"), True, None),
    (SPLITS, (*LABELED, *LABELED[3:4], "c.png,9,1,elm"), True, "point labeled 'elm': nothing can"),
    (SPLITS, (*LABELED, "a.png,1,6,Oak", "c.png,9,1,Oak"), True, "'Oak' (2 images) may be a miss"),
)


@pytest.mark.usefixtures("checked_here")
@pytest.mark.parametrize(("splits", "points", "labels", "sentence"), CASES)
def test_both_say_the_same(
    splits: Sequence[str],
    points: Sequence[str],
    labels: bool,
    sentence: str | None,
    tmp_path: Path,
) -> None:
    csv_path, points_path = _write(tmp_path, splits, points)
    report, *_ = check(csv_path, tmp_path / "images", points_path=points_path)
    faults, notes = _sentences(report["faults"]), _sentences(report["notes"])
    printed: list[str] = []
    try:
        table = read_split_table(csv_path, labels=False)
        names = [row.filename for row in table.samples]
        printed = check_points_for_training(table, read_points(points_path, names, labels))
    except UserError as error:
        assert sentence is not None and sentence in str(error)
        # A missing label is a fault only where labels count.
        assert any(fault in str(error) for fault in faults) or any(
            note.startswith(str(error)) for note in notes
        )
    else:
        assert faults == []
        assert bool(printed) == bool(notes)
        assert sentence is None or any(sentence in line for line in printed)
    assert sentence is None or any(sentence in each for each in (*faults, *notes))
    assert to_text(report).endswith("Ready to train.") == (sentence is None)


def _decode_here(paths: Sequence[Path], _workers: int, image_format: Any) -> Any:
    """Decode without other processes, whose start takes seconds."""
    return (decode(path, image_format) for path in paths)


@pytest.fixture
def checked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helper_functions.check_data.__main__.decode_all", _decode_here)


@pytest.mark.usefixtures("checked_here")
def test_points_outside_their_image_are_named_and_counted(tmp_path: Path) -> None:
    points = (*POINTS, "b.png,11.5,7.5", "b.png,11.6,2", "c.png,3,8", "c.png,9,9", "d.png,40,1")
    csv_path, points_path = _write(tmp_path, SPLITS, points)
    report, *_ = check(csv_path, tmp_path / "images", points_path=points_path, limit=2)
    (fault,) = report["faults"]
    assert (fault["kind"], fault["count"]) == ("point-outside-its-image", 3)
    (note,) = report["notes"]
    assert "line 9: the point (40, 1) lies outside 'd.png'" in note["examples"][0]
    assert fault["examples"][0] == (
        f"{points_path}, line 6: the point (11.6, 2) lies outside 'b.png', which has 12 x 8 "
        f"pixels; the center of the last is (11, 7)."
    )
    assert "line 7: the point (3, 8) lies outside 'c.png'" in fault["examples"][1]


@pytest.mark.usefixtures("checked_here")
def test_a_bad_table_is_listed_row_by_row(tmp_path: Path) -> None:
    rows = (
        *("a.png,2,3,oak", "a.png,6,3,", "c.png,1,1,oak", "z.png,1,1,oak", "z.png,2,2,oak"),
        *("a.png,-2,1,oak", "a.png,one,1,oak", "a.png,1,oak", ",1,1,oak", "A.png,1,1,oak"),
    )
    csv_path, points_path = _write(tmp_path, SPLITS, rows)
    report, samples, points = check(csv_path, tmp_path / "images", points_path=points_path)
    assert {finding["kind"]: finding["count"] for finding in report["faults"]} == {
        "unknown-file": 2,  # z.png once
        "no-position": 2,
        "unequal-row": 1,
        "no-file-name": 1,
    }
    (empty,) = (note for note in report["notes"] if note["kind"] == "no-label")
    assert empty["count"] == 1
    assert f"{points_path}, line 3: the label is empty" in empty["examples"][0]
    assert points is not None and len(points) == 3
    assert report["classes"] == [{"name": "oak", "train": 1, "val": 1, "test": 0}]
    assert [sample.labels for sample in samples] == [("oak",), (), ("oak",), ()]


@pytest.mark.usefixtures("checked_here")
@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n\xff", b"filename,x\na.png,1\n", None])
def test_a_file_that_cannot_be_read_is_one_fault(content: bytes | None, tmp_path: Path) -> None:
    csv_path, points_path = _write(tmp_path, SPLITS, POINTS)
    points_path.unlink()
    if content is None:
        points_path.mkdir()
    else:
        points_path.write_bytes(content)
    report, _, points = check(csv_path, tmp_path / "images", points_path=points_path)
    (fault,) = report["faults"]
    assert fault["kind"] == "unusable-points"
    assert str(points_path) in fault["examples"][0]
    assert points is None
    assert "labels" not in to_text(report)  # nothing is known of them


@pytest.mark.usefixtures("checked_here")
def test_figures_and_charts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = {"train": [1, 2, 3, 0, 2], "val": [0, 1, 2, 2], "test": [1]}
    write_discs(tmp_path, numbers, label="both")
    main([*map(str, flags_of(tmp_path)), "--output", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "10 usable rows, 14 usable points of 2 classes" in printed
    assert printed.endswith("Ready to train.\n")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    for split, counts in numbers.items():
        assert report["splits"][split] == {
            "rows": len(counts),
            "without_point": counts.count(0),
            "points": sum(counts),
            "min": min(counts),
            "median": median(counts),
            "mean": mean(counts),
            "max": max(counts),
        }
    assert " ".join(printed.split()).find("train 5 1 8 0 2.00 1.60 3") > 0
    labels = Counter(
        (row.split("_")[0], row.rpartition(",")[2])
        for row in (tmp_path / "points.csv").read_text().split()[1:]
    )
    for figures in report["classes"]:
        assert all(figures[split] == labels[split, figures["name"]] for split in numbers)
    for name in ("counts.png", "classes.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert image.width >= 800


def test_bars_count_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Figure] = []
    monkeypatch.setattr(chart, "write_png", lambda figure, _path: kept.append(figure))
    counts = {"train": [0, 0, 3, 5, 5, 5], "val": [2], "test": []}
    draw_counts(tmp_path / "counts.png", counts)
    heights = [[bar.get_height() for bar in cast(Any, axes.patches)] for axes in kept[0].axes]
    assert heights == [[2, 0, 0, 1, 0, 3], [0, 0, 1, 0, 0, 0]]


@pytest.mark.parametrize("highest", [0, 1, 39, 40, 41, 399, 400, 12865])
def test_bins_hold_equally_many_counts(highest: int) -> None:
    edges = count_edges(highest)
    assert edges[0] == -0.5 and edges[-1] > highest
    assert len(edges) - 1 <= 40
    assert len(set(np.diff(edges))) == 1 and (np.diff(edges)[0] % 1) == 0
    assert edges[-2] <= highest  # no bin is empty for certain


def test_points_beyond_memory_of_pairs_are_compared(tmp_path: Path) -> None:
    """Many points on one pixel are no more pairs than they are points."""
    rows = ["a.png,2,3"] * 20_000
    _, points_path = _write(tmp_path, SPLITS, rows)
    (note,) = read_points(points_path, ["a.png"], labels=False).notes
    assert "19,999 points fall on the pixel of an earlier one (the first: line 3)" in note


def test_training_stops_where_the_check_does(run_here: Script, tmp_path: Path) -> None:
    write_discs(tmp_path, {"train": [0, 0], "val": [1, 2]})
    output = tmp_path / "out"
    done = run_here("train.py", "--task", "count", *flags_of(tmp_path), "--output-path", output)
    assert done.status == 2
    assert f"No image of the split train has a point in {tmp_path / 'points.csv'}" in done.errors
    assert not output.exists()
