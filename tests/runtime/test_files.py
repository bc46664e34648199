"""Names of written files: short enough, and one for each image."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

import pytest

from helper_functions.runtime.files import fit_name, output_names, write_text


@pytest.mark.parametrize("letter", ["a", "\xe9", "\u6a39", "\U0001f333", "e\u0301", "\udcff"])
@pytest.mark.parametrize("endings", [(), (".json",), (".overlay.png", ".json")])
def test_long_names_are_cut_between_letters(letter: str, endings: tuple[str, ...]) -> None:
    name = letter * 256
    short = fit_name(name, *endings)
    sizes = [len(os.fsencode(short + ending)) for ending in endings or ("",)]
    assert 255 - 4 < max(sizes) <= 255
    kept, _, digest = short.rpartition("~")
    assert name.startswith(kept)
    assert len(kept) % len(letter) == 0
    assert len(digest) == 16
    assert fit_name(name, *endings) == short
    assert fit_name(name[:-1] + "x", *endings) != short


def test_names_that_fit_stay() -> None:
    name = "\xe9" * 120 + "a"  # 241 bytes
    assert fit_name(name, ".overlay.png") == name
    assert fit_name(name + "bcd", ".overlay.png") != name + "bcd"


def _names(*filenames: str) -> list[str]:
    return [path.as_posix() for path in output_names(filenames, ".json")]


def test_different_images_get_different_names() -> None:
    assert _names("a/b.png", "a_b.png", "a/b.png") == ["a/b.png", "a_b.png", "a/b.png"]
    for one, other in (
        ("a.png", "A.png"),
        ("a.png", "../a.png"),
        ("x/a.png", "/x/a.png"),
        ("caf\xe9.png", "cafe\u0301.png"),
        ("x/a.png", r"x\a.png"),
    ):
        first, second = _names(one, other)
        assert first == (one if one == "a.png" else PurePath(one).as_posix())
        assert first.casefold() != second.casefold()
        assert "~" in second
        assert PurePath(second).parent == PurePath(first).parent
        assert not PurePath(second).is_absolute()
    assert _names("../x/../a.png") == ["x/a.png"]


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("\xe9" * 125 + ".json")
    write_text(path, "{}")
    assert path.read_text() == "{}"
    assert list(tmp_path.iterdir()) == [path]
