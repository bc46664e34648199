"""Label cells: what the released code reads comes out the same, what is no list is told."""

from __future__ import annotations

import numpy as np
import pytest

from helper_functions.data.label_cells import count_bits, parse_labels, read_cell


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("['Abies', 'Pinus']", ("Abies", "Pinus")),
        ('["Abies"]', ("Abies",)),
        ("['crab, red', 'eel']", ("crab, red", "eel")),
        ("[oak, ash]", ("oak", "ash")),
        ("oak", ("oak",)),
        ("Dead man's fingers", ("Dead man's fingers",)),
        ("[1.0, 9.0]", ("1.0", "9.0")),
        ("[12]", ("12",)),
        ("fish (adult)", ("fish (adult)",)),
        ("[oak (dead), ash (live)]", ("oak (dead)", "ash (live)")),
        ("(old) oak (dead)", ("(old) oak (dead)",)),
        ("(oak, ash)", ("oak", "ash")),
        ("[[oak], [ash]]", ("oak", "ash")),
        ("{'b', 'c', 'a'}", ("a", "b", "c")),
        ("set()", ()),
        ("\"['crab', 'eel']\"", ("crab", "eel")),
        ("['crab', 'eel', ]", ("crab", "eel")),
        ("crab,", ("crab",)),
        ("['nan']", ("nan",)),
        ("[\"5''x\"]", ("5''x",)),
        ("['a', 'a', ' b ']", ("a", "b")),
        ("[]", ()),
        ("  ", ()),
        ("['']", ()),
        ("('x', 'y')", ("x", "y")),
    ],
)
def test_label_cells(cell: str, names: tuple[str, ...]) -> None:
    assert parse_labels(cell) == names
    assert read_cell(cell).fault is None


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        (str(np.array(["crab", "eel"])), "lack commas"),
        ("['Dead man''s fingers']", "lack commas"),
        ("['crab', 'eel' 'cod']", "lack commas"),
        (repr(np.array(["crab"])), "are not a list of names"),
        (str([np.str_("crab"), np.str_("eel")]), "are not a list of names"),
        (repr(frozenset({"crab"})), "are not a list of names"),
        ("{'crab': 1}", "are not a list of names"),
        ("{crab}", "are not a list of names"),
        ("{crab,eel}", "a bracket without its partner"),
        ("['crab'", "a bracket without its partner"),
        ("crab']", "a bracket without its partner"),
        ("fish (adult, juvenile)", "a bracket without its partner"),
        ("['crab', 'e]", "a quote without its partner"),
        ('["crab, red", eel]', "a quote without its partner"),
        ("nan", "hold nan, which is how programs write an empty cell"),
        ("NULL", "hold NULL"),
        ("['crab', None]", "hold None"),
        ("[nan]", "hold nan"),
        (str(np.array([0, 1, 0])), "are numbers without commas"),
        (str(np.array([0.0, 1.0])), "are numbers without commas"),
        ("0 1 0 1", "are numbers without commas"),
        ("crab\teel", "hold a tab"),
        (r"['crab\teel']", "hold a tab"),
    ],
)
def test_cells_that_are_no_list(cell: str, fault: str) -> None:
    assert fault in str(read_cell(cell).fault)


def test_zeros_and_ones_are_counted() -> None:
    assert [count_bits(cell) for cell in ("[0, 1, 0]", "1.0, 0.0", "['1', '0']")] == [3, 2, 2]
    assert [count_bits(cell) for cell in ("[0, 2]", "1", "[1]", "[]", "['x']")] == [0] * 5


def _released_parse(cell: str) -> list[str]:
    """The released parser: cut at commas, strip brackets, quotes and blanks."""
    return [part.strip().strip("[]").strip().strip("'\"").strip() for part in cell.split(",")]


@pytest.mark.parametrize(
    "cell", ["['Abies', 'Pinus']", "[Abies]", "[1.0, 9.0]", '["a b", "c"]', "['x']", "x, y"]
)
def test_sane_cells_read_as_in_the_released_code(cell: str) -> None:
    assert list(parse_labels(cell)) == _released_parse(cell)
