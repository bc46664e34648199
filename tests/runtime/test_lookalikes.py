"""Names that look the same: found, and shown with what differs."""

from __future__ import annotations

import pytest

from helper_functions.runtime.lookalikes import contrast, find_look_alike


@pytest.mark.parametrize(
    ("name", "other", "shown"),
    [
        ("caf\xe9", "cafe\u0301", (r"'caf\xe9'", r"'cafe\u0301'")),
        ("oak tree", "oak\xa0tree", ("'oak tree'", r"'oak\xa0tree'")),
        ("oak", "o\u200bak", ("'oak'", r"'o\u200bak'")),
        ("\ufeffoak", "oak", (r"'\ufeffoak'", "'oak'")),
        ("Pinus", "\u0420inus", ("'Pinus'", r"'\u0420inus'")),
        ("a-b", "a\u2013b", ("'a-b'", r"'a\u2013b'")),
        (
            "\u0421\u043e\u0441\u043d\u0430",
            "C\u043e\u0441\u043d\u0430",
            ("'\\u0421\u043e\u0441\u043d\u0430'", "'C\u043e\u0441\u043d\u0430'"),
        ),
    ],
)
def test_what_differs_is_escaped(name: str, other: str, shown: tuple[str, str]) -> None:
    assert contrast(name, other) == shown
    assert contrast(other, name) == shown[::-1]
    assert find_look_alike(name, ["ash", other]) == other


@pytest.mark.parametrize(
    ("name", "other"), [("oak", "ash"), ("oak", "Oak"), ("H\xeatre", "Hetre"), ("oak", "oak")]
)
def test_names_that_can_be_told_apart_stay_as_they_are(name: str, other: str) -> None:
    assert contrast(name, other) == (repr(name), repr(other))
    assert find_look_alike(name, [other]) is None
