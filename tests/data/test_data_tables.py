"""Numbered rows and lines of text files, and a sentence for everything that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from helper_functions.data.tables import missing_column, read_lines, read_rows
from helper_functions.runtime.errors import UserError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Where a test writes its file."""
    return tmp_path / "table.csv"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("strict", [False, True])
def test_rows_come_with_their_lines_and_without_blank_ones(
    table: Path, mark: bytes, end: bytes, strict: bool
) -> None:
    lines = ["a,b", "", '1," é"', " , ", '"2', 'and",3']
    table.write_bytes(mark + end.join(line.encode() for line in lines))
    rows = list(read_rows(table, strict=strict))
    within = end.decode()
    assert rows == [(1, ["a", "b"]), (3, ["1", " é"]), (6, [f"2{within}and", "3"])]


def test_lines_come_stripped_with_their_numbers(table: Path) -> None:
    table.write_bytes(b"\xef\xbb\xbf\n one, two \r\n\t\nthree")
    assert list(read_lines(table)) == [(2, "one, two"), (4, "three")]


def test_only_strict_reading_asks_for_a_header_and_equal_rows(table: Path) -> None:
    for text, sentence in (
        ("", "is empty; it should be a CSV with a header"),
        ("\n \n", "is empty; it should be a CSV with a header"),
        ("a,b\n\n", "holds a header but no row"),
        ("a,b\n1,2\n3\n", "line 3: the row has 1 columns, but the header has 2"),
        ("a,b\n1,2,3\n", "line 2: the row has 3 columns, but the header has 2"),
        ('a,b\n"1"x,2\n', "line 2: this is not a valid CSV row"),
        ('a,b\n"1,2\n', "line 2: this is not a valid CSV row"),
    ):
        table.write_text(text)
        assert len(list(read_rows(table))) == sum(bool(line.strip()) for line in text.split("\n"))
        with pytest.raises(UserError, match=sentence) as error:
            list(read_rows(table, strict=True))
        assert str(error.value).startswith(str(table))


def test_files_that_cannot_be_read_are_named(table: Path, tmp_path: Path) -> None:
    table.write_bytes(b"a,b\n\xff,1\n")
    for read in (read_rows, read_lines):
        with pytest.raises(UserError, match=r"table\.csv is not UTF-8 text .*save it as UTF-8"):
            list(read(table))
        with pytest.raises(UserError, match=r"none\.csv cannot be read: No such file"):
            list(read(tmp_path / "none.csv"))


def test_rows_before_a_fault_have_been_given(table: Path) -> None:
    table.write_text("a,b\n1,2\n3," + "x" * 200_000 + "\n")
    rows = read_rows(table)
    assert [next(rows), next(rows)] == [(1, ["a", "b"]), (2, ["1", "2"])]
    with pytest.raises(UserError, match="line 3: this is not a valid CSV row"):
        next(rows)


def test_a_missing_column_is_explained(table: Path) -> None:
    assert missing_column(table, ["a", "b"], "c") == (
        f"{table} has no column 'c': its header reads a, b."
    )
    assert missing_column(table, ["a;c"], "c").endswith("Use commas between the columns.")
    many = missing_column(table, [f"column{n}" for n in range(100_000)], "c")
    assert many.endswith("column7, ... (100,000 columns).")
