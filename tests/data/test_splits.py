"""The split CSV: class order, label cells, and a sentence for everything that can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from helper_functions.data.splits import Problem, Sample, parse_rows, read_split_table
from helper_functions.runtime.errors import UserError

HEADER = "filename,label,split\n"


def _write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "splits.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_classes_are_sorted_over_all_splits(tmp_path: Path) -> None:
    rows = "a.png,['b'],train\nb.png,\"['Z', 'a']\",val\nc.png,['10'],test\nd.png,[],train\n"
    table = read_split_table(_write(tmp_path, HEADER + rows))
    assert table.classes == ("10", "Z", "a", "b")
    assert [sample.filename for sample in table.split("train")] == ["a.png", "d.png"]
    assert len(table.split("all")) == 4
    assert table.split("val")[0].line == 3


@pytest.mark.parametrize(
    "text",
    [
        "filename,label,split\r\na.png,['x'],train\r\n",
        "\ufefffilename,label,split\na.png,['x'],train\n",
        "split,extra,filename,label\ntrain,7,a.png,['x']\n",
        "image_id,label,subset\na.png,['x'],train\n",
        '"filename","label","split"\n\n"a.png","[\'x\']"," train "\n\n',
    ],
    ids=["CRLF", "BOM", "other order", "by position", "quotes and blank lines"],
)
def test_harmless_variations_read_alike(tmp_path: Path, text: str) -> None:
    table = read_split_table(_write(tmp_path, text))
    assert [(s.filename, s.labels, s.split) for s in table.samples] == [("a.png", ("x",), "train")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty; its first line must read filename,label,split"),
        (HEADER, "holds a header but no image"),
        ("filename,split\na.png,train\n", "has no column 'label'"),
        ("filename,labels\na,['x']\n", "has no column 'label'.*reads filename, labels"),
        ("filename;label;split\na.png;['x'];train\n", "Use commas between the columns"),
        (HEADER + "a.png,,train\n", r"line 2: 'a.png' has no label.*write \[\] for none"),
        (HEADER + "a.png,[''],train\n", "line 2: 'a.png' has no label"),
        (HEADER + "a.png,['x'],trian\n", "'trian' is not a split.*Did you mean 'train'"),
        (HEADER + "a.png,['x'],\n", "'' is not a split"),
        (HEADER + "a.png,['x'],train\nb.png,['x']\n", "line 3: the row has 2 columns"),
        (HEADER + ",['x'],train\n", "line 2: the file name is empty"),
        (HEADER + "/etc/passwd,['x'],train\n", "leaves the image folder"),
        (HEADER + "../a.png,['x'],train\n", "leaves the image folder"),
        (HEADER + "a.png,[],train\n", "names no class in any row"),
        (HEADER + "a.png,['x' 'y'],train\n", "line 2: the labels .* lack commas"),
        (HEADER + "a.png,\"['x'\n 'y']\",train\n", r"the labels \['x' 'y'\] lack commas"),
        (HEADER + "a.png,nan,train\n", r"line 2: 'a.png' has no label, only nan.*\['nan'\]"),
        (HEADER + "a.png,['x',train\n", r"line 2: the labels \['x' hold a bracket without its"),
        (HEADER + "a.png,crab,eel,train\n", "line 2: the row has 4 columns.*double quotes"),
        (HEADER + "a.png,car,train,train\n", "line 2: the row has 4 columns, but the header has 3"),
        ("filename,label,label,split\na,x,y,train\n", "has 2 columns 'label'"),
        (HEADER + 'a,"[0, 1]",train\nb,"[1, 1]",val\n', "a list of 2 zeros and ones in every"),
        (HEADER + "a,['x'],train\n./a,['x'],val\n", "line 3: './a' is in the split val, but line"),
        (HEADER + "a,['x'],train\na,['x'],val\n", "line 3: 'a' is in the split val, but line 2"),
        (HEADER + 'a.png,"' + "x" * 200_000 + '",train\n', "line 2: this is not a valid CSV row"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, sentence: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(UserError, match=sentence) as error:
        read_split_table(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "filename,split\na.png,train\nb.png,val\n",
        "split,filename\ntrain,a.png\nval,b.png\n",
        HEADER + "a.png,,train\nb.png,['x' 'y'],val\n",
        "image_id,label,subset\na.png,[],train\nb.png,x,val\n",
    ],
    ids=["no column", "other order", "cells that no label is", "by position"],
)
def test_labels_are_not_read_if_nobody_wants_them(tmp_path: Path, text: str) -> None:
    table = read_split_table(_write(tmp_path, text), labels=False)
    assert table.samples == (Sample("a.png", (), "train", 2), Sample("b.png", (), "val", 3))
    assert table.classes == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "first line must read filename,split"),
        ("filename,label\na.png,x\n", "no column 'split'.* It must hold filename,split"),
        ("filename,split\n", "holds a header but no image"),
        ("filename,split\na.png\n", "line 2: the row has 1 columns"),
        ("filename,split\na.png,x\n", "line 2: 'x' is not a split"),
        ("filename,split\n../a.png,val\n", "line 2: .* leaves the image folder"),
        ("filename,split\na.png,val\na.png,train\n", "line 3: .* an image belongs to one split"),
    ],
)
def test_what_is_wrong_is_said_without_labels_too(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_split_table(_write(tmp_path, text), labels=False)


def test_other_encodings_are_named(tmp_path: Path) -> None:
    path = _write(tmp_path, HEADER + "a.png,['Hêtre'],train\n", "latin-1")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_split_table(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; check --csv_path"):
        read_split_table(tmp_path / "none.csv")
    with pytest.raises(UserError, match=r"is a folder; give the file by --csv_path\."):
        read_split_table(tmp_path)


def test_empty_and_unknown_splits_are_named(tmp_path: Path) -> None:
    table = read_split_table(_write(tmp_path, HEADER + "a.png,['x'],train\n"))
    with pytest.raises(UserError, match=r"no image in the split 'val'; it has train \(1 rows\)"):
        table.split("val")
    with pytest.raises(UserError, match="no split 'valid'; choose one of train, val, test, all"):
        table.split("valid")


def test_all_problems_come_out_and_the_strict_reader_raises_the_first(tmp_path: Path) -> None:
    rows = "a,['x'],train\nb,,trian\na,['x'],val\nc\nd,['y'],test\n"
    path = _write(tmp_path, HEADER + rows)
    found = list(parse_rows(path))
    assert [row.kind if isinstance(row, Problem) else row.line for row in found] == [
        *(2, "no-label", "unknown-split", "image-in-two-splits", 4, "short-row", 6)
    ]
    assert found[-1] == Sample("d", ("y",), "test", 6)
    first = next(row for row in found if isinstance(row, Problem))
    with pytest.raises(UserError) as error:
        read_split_table(path)
    assert str(error.value) == first.message


def test_reading_ends_where_the_file_breaks(tmp_path: Path) -> None:
    row = "['x'],train\n"
    path = _write(tmp_path, HEADER + "a.png," + row + "b.png," + "x" * 200_000 + "\nc.png," + row)
    sample, problem = parse_rows(path)
    assert isinstance(sample, Sample)
    assert isinstance(problem, Problem)
    assert problem.kind == "unusable-csv"
    assert "line 3: this is not a valid CSV row" in problem.message


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ("sub/a.png", "sub\\a.png", r"'sub\\a.png' is in the split val, but line 2 puts it as "),
        ("caf\xe9.png", "cafe\u0301.png", r"'cafe\u0301.png' is in the split val, but line 2 puts"),
        ("a.png", "./a.png", "'./a.png' is in the split val, but line 2 puts it as 'a.png' in tra"),
    ],
)
def test_one_image_has_one_split_however_it_is_spelt(
    tmp_path: Path, first: str, second: str, shown: str
) -> None:
    path = tmp_path / "s.csv"
    rows = f"filename,label,split\n{first},['x'],train\n{second},['x'],val\n"
    path.write_text(rows, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_split_table(path)
    assert shown in str(caught.value)


@pytest.mark.parametrize("name", [r"..\a.png", r"sub\..\..\a.png", r"C:\photos\a.png"])
def test_names_of_windows_stay_in_the_folder_too(tmp_path: Path, name: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(f"filename,label,split\n{name},['x'],train\n")
    with pytest.raises(UserError, match="leaves the image folder"):
        read_split_table(path)


def test_what_only_looks_like_a_split_or_a_column_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("filename,label,split\na.png,['x'],tr\u0430in\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"'tr\\u0430in' is not a split; .* mean 'train'\?"):
        read_split_table(path)
    path.write_text("s\u200bplit,filename,label\ntrain,a.png,['x']\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no column 'split', .* like it: 's\\u200bplit'"):
        read_split_table(path, labels=False)
