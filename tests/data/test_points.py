"""Points CSVs: values, every refusal with its line, notes, and maps of points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helper_functions.data.points import (
    PointTable,
    check_inside,
    read_points,
    to_point_map,
)
from helper_functions.forest.__main__ import main as forest
from helper_functions.runtime.errors import UserError

_QUARTERS = st.integers(-2, 24).map(lambda quarter: quarter / 4)
IMAGES = ("a.png", "sub/b.png", "c.png")


def _read(
    path: Path, *rows: str, images: Sequence[str] = IMAGES, labels: bool = False
) -> PointTable:
    path.write_text("".join(f"{row}\n" for row in rows))
    return read_points(path, images, labels=labels)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "points.csv"


def test_points_of_every_image_in_the_order_of_the_file(path: Path) -> None:
    rows = ("filename,x,y", "sub/b.png,3,4", "a.png,-0.5,0.25", "sub/b.png,1e1, 5 ")
    table = _read(path, *rows)
    assert set(table.images) == set(IMAGES)
    assert len(table) == 3
    assert (table.classes, table.notes) == ((), ())
    b = table.images["sub/b.png"]
    assert b.xy.dtype == np.float32
    np.testing.assert_array_equal(b.xy, [[3, 4], [10, 5]])
    np.testing.assert_array_equal(b.lines, [2, 4])
    np.testing.assert_array_equal(table.images["a.png"].xy, [[-0.5, 0.25]])
    assert table.images["c.png"].xy.shape == (0, 2)


def test_columns_come_in_any_order_and_classes_are_sorted(path: Path) -> None:
    rows = (
        "label, Y ,note,X,FileName",
        "oak,1,,2,a.png",
        '"ash, red",3,x,4,a.png',
        "oak,5,,6,c.png",
    )
    table = _read(path, *rows, labels=True)
    assert table.classes == ("ash, red", "oak")
    np.testing.assert_array_equal(table.images["a.png"].xy, [[2, 1], [4, 3]])
    np.testing.assert_array_equal(table.images["a.png"].classes, [1, 0])
    np.testing.assert_array_equal(table.images["c.png"].classes, [1])
    assert _read(path, *rows).classes == ()  # the labels are not asked for
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    assert len(read_points(path, IMAGES, labels=True)) == 3


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ((), "is empty; its first line must read filename,x,y."),
        (("filename,x", "a.png,1"), "has no column 'y': its header reads filename, x."),
        (("filename;x;y", "a.png;1;2"), "Use commas between the columns."),
        (("a.png,1,2",), "has no column 'filename'"),
        (("filename,x,y,x", "a.png,1,2,3"), "has 2 columns 'x'; keep one."),
        (("filename,x,y", "a.png,1,2", "a.png,one,2"), "line 3: x is 'one', not a number."),
        (("filename,x,y", "a.png,1_0,2"), "line 2: x is '1_0', not a number."),
        (("filename,x,y", "a.png,1,"), "line 2: y is '', not a number."),
        (("filename,x,y", "a.png,nan,2"), "line 2: x is 'nan', not a finite number."),
        (("filename,x,y", "a.png,1,-inf"), "line 2: y is '-inf', not a finite number."),
        (("filename,x,y", "a.png,-0.51,2"), "line 2: x is -0.51, outside of any image"),
        (("filename,x,y", "a.png,1,1e30"), "line 2: y is 1e30, outside of any image"),
        (("filename,x,y", "a.png,1,5,2,5"), "line 2: the row has 5 columns, but the header has 3"),
        (("filename,x,y", "a.png,1"), "line 2: the row has 2 columns, but the header has 3"),
        (("filename,x,y", ",1,2"), "line 2: the file name is empty"),
        (("filename,x,y", "b.png,1,2"), "line 2: 'b.png' is no row of the split CSV; did you mean"),
        (("filename,x,y", "zzzzzz,1,2"), "line 2: 'zzzzzz' is no row of the split CSV; add it"),
        (("filename,x,y", '"a.png,1,2', "c.png,1,2"), "the row has 1 columns"),
    ],
)
def test_what_cannot_be_used_gets_one_sentence(
    rows: tuple[str, ...], sentence: str, path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        _read(path, *rows)
    assert str(caught.value).startswith(str(path))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (("filename,x,y", "a.png,1,2"), "has no column 'label'"),
        (("filename,x,y,label", "a.png,1,2,oak", "a.png,1,2, "), "line 3: the label is empty"),
        (("filename,x,y,label", 'a.png,1,2,"oak', 'a.png,1,2,ash"'), "holds a line break"),
        (
            ("filename,x,y,label", *(f"a.png,1,2,c{n}" for n in range(256))),
            "has 256 labels; there may be 255 classes.",
        ),
    ],
)
def test_labels_that_cannot_be_used_get_one_sentence(
    rows: tuple[str, ...], sentence: str, path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        _read(path, *rows, labels=True)
    assert sentence in str(caught.value)


def test_a_missing_file_is_refused(path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist; check --points-path\."):
        read_points(path, IMAGES, labels=False)


def test_a_file_without_rows_names_no_point(path: Path) -> None:
    table = _read(path, "filename,x,y")
    assert len(table) == 0
    assert set(table.images) == set(IMAGES)
    assert table.notes == (f"{path} names no point: no image has an object.",)


def test_points_on_one_pixel_are_counted(path: Path) -> None:
    rows = ("a.png,1,2", "c.png,1,2", "a.png,5,5", "a.png,1.4,1.5", "a.png,0.5,2.4")
    table = _read(path, "filename,x,y", *rows)
    assert len(table) == 5
    (note,) = table.notes
    assert "2 points fall on the pixel of an earlier one (the first: line 5)" in note


def _near_by_a_loop(points: Sequence[tuple[str, float, float]]) -> list[int]:
    """Positions of points within 1 of an earlier one, first ones of their pixel all."""
    kept: list[int] = []
    for k, (name, x, y) in enumerate(points):
        pixel = (name, np.floor(x + 0.5), np.floor(y + 0.5))
        others = [points[j] for j in kept]
        if pixel not in [(n, np.floor(u + 0.5), np.floor(v + 0.5)) for n, u, v in others]:
            kept.append(k)
    return [
        k
        for i, k in enumerate(kept)
        if any(
            points[j][0] == points[k][0]
            and np.hypot(points[j][1] - points[k][1], points[j][2] - points[k][2]) <= 1
            for j in kept[:i]
        )
    ]


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(IMAGES), _QUARTERS, _QUARTERS), max_size=20))
def test_points_near_an_earlier_one_are_counted(points: list[tuple[str, float, float]]) -> None:
    with TemporaryDirectory() as folder:
        rows = (f"{name},{x},{y}" for name, x, y in points)
        table = _read(Path(folder) / "points.csv", "filename,x,y", *rows)
    notes = [note for note in table.notes if "within 1 of" in note]
    expected = _near_by_a_loop(points)
    assert bool(notes) == bool(expected)
    if expected:
        count = f"{len(expected)} points lie" if len(expected) > 1 else "1 point lies"
        assert f"points.csv: {count} on another pixel, but within 1 of an earlier one" in notes[0]
        assert f"(the first: line {expected[0] + 2}, near line " in notes[0]


def test_points_outside_their_image_are_named(path: Path) -> None:
    rows = ("filename,x,y", "c.png,1,1", "a.png,9.5,4.5", "a.png,9.51,2", "a.png,0,99")
    points = _read(path, *rows).images["a.png"]
    check_inside(points, (100, 100))
    with pytest.raises(UserError) as caught:
        check_inside(points, (10, 5))
    assert str(caught.value) == (
        f"{path}, line 4: the point (9.51, 2) lies outside 'a.png', which has 10 x 5 pixels; the "
        "center of the last is (9, 4)."
    )
    with pytest.raises(UserError, match=r"line 5: the point \(0, 99\)"):
        check_inside(points, (20, 5))


def _plain_map(
    points: Sequence[tuple[float, float]], classes: Sequence[int], height: int, width: int
) -> npt.NDArray[np.int64]:
    expected = np.zeros((height, width), np.int64)
    for (x, y), each in zip(points, classes, strict=True):
        row = min(max(int(np.floor(y + 0.5)), 0), height - 1)
        column = min(max(int(np.floor(x + 0.5)), 0), width - 1)
        if expected[row, column] == 0:
            expected[row, column] = each + 1
    return expected


_PLACES = st.integers(-4, 60).map(lambda quarter: quarter / 4)


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(st.lists(st.tuples(_PLACES, _PLACES, st.integers(0, 254)), max_size=12))
def test_maps_equal_those_of_a_plain_loop(rows: list[tuple[float, float, int]]) -> None:
    points = np.array([row[:2] for row in rows], np.float32).reshape(-1, 2)
    classes = np.array([row[2] for row in rows], np.int64)
    found = to_point_map(points, classes, 9, 13)
    assert found.dtype == np.uint8
    expected = _plain_map([row[:2] for row in rows], classes.tolist(), 9, 13)
    np.testing.assert_array_equal(found, expected)


def test_the_points_of_the_forest_are_read(tmp_path: Path) -> None:
    forest(["--output", str(tmp_path), "--tiles", "6"])
    lines = (tmp_path / "splits.csv").read_text().splitlines()[1:]
    names = [line.split(",")[0] for line in lines]
    table = read_points(tmp_path / "points.csv", names, labels=True)
    rows = (tmp_path / "points.csv").read_text().splitlines()[1:]
    assert len(table) == len(rows) > 0
    assert set(table.classes) == {row.rpartition(",")[2] for row in rows}
    for name, points in table.images.items():
        with Image.open(tmp_path / "images" / name) as image:
            check_inside(points, image.size)
