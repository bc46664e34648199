"""Image folders: what is found in them, and files that tables spell otherwise."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from helper_functions.data.folders import (
    canonical_name,
    find_images,
    leaves_folder,
    locate,
    match_images,
    missing_hint,
    walk,
)
from helper_functions.runtime.errors import UserError

COMPOSED, DECOMPOSED = "caf\xe9.png", "cafe\u0301.png"


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_find_images(tmp_path: Path) -> None:
    names = ["b.JPG", "a.jpeg", "sub/c.png", "sub/deep/d.tiff", ".hidden.png", ".git/e.png"]
    _touch(tmp_path, *names, "notes.txt", "png", "sub/.cache/f.png")
    (tmp_path / "folder.png").mkdir()
    expected = ["a.jpeg", "b.JPG", "sub/c.png", "sub/deep/d.tiff"]
    found = find_images(tmp_path)
    assert found.paths == [tmp_path / name for name in expected]
    assert found.notes() == []


def test_find_images_below_a_hidden_folder(tmp_path: Path) -> None:
    _touch(tmp_path, ".data/a.png")
    assert find_images(tmp_path / ".data").paths == [tmp_path / ".data" / "a.png"]


@pytest.mark.parametrize("make", [None, Path.touch])
def test_find_images_without_a_folder(tmp_path: Path, make: object) -> None:
    folder = tmp_path / "a"
    if callable(make):
        make(folder)
    with pytest.raises(UserError, match=f"image folder {folder} is not an existing folder"):
        find_images(folder)


def test_links_to_folders_are_followed_and_each_folder_comes_once(tmp_path: Path) -> None:
    _touch(tmp_path, "set/own/a.png", "set/top.png", "far/b.png", "far/deep/c.png", "beside/d.png")
    images = tmp_path / "set"
    (images / "alias").symlink_to(images / "own")  # sorts before the folder's own name
    (images / "far_1").symlink_to(tmp_path / "far")
    (images / "far_2").symlink_to(tmp_path / "far")
    (images / "own" / "parent").symlink_to(images)
    (images / "above").symlink_to(tmp_path)
    (tmp_path / "far" / "back").symlink_to(images)
    (tmp_path / "far" / "deep" / "self").symlink_to(tmp_path / "far" / "deep")
    names = ["far_1/b.png", "far_1/deep/c.png", "own/a.png", "top.png"]
    assert find_images(images).paths == [images / name for name in names]
    assert match_images(images / "**" / "*.png").paths == [images / name for name in names]
    # The same through a link to the folder itself.
    (tmp_path / "link").symlink_to(images)
    found = find_images(tmp_path / "link").paths
    assert found == [tmp_path / "link" / name for name in names]


def test_a_pattern_ends_where_links_run_in_circles(tmp_path: Path) -> None:
    """Two links to the folder itself are 2 ** 40 paths, until the system refuses longer ones."""
    _touch(tmp_path, "a.png", "b/c.png")
    for name in ("x", "y"):
        (tmp_path / "b" / name).symlink_to(tmp_path / "b")
    found = match_images(tmp_path / "**" / "*.png").paths
    assert found == [tmp_path / "a.png", tmp_path / "b" / "c.png"]


def test_patterns_choose_levels_as_a_shell_does(tmp_path: Path) -> None:
    _touch(tmp_path, "a/1.png", "a/2.jpg", "b/x/3.png", ".h/4.png", "a/.5.png", "[c]/6.png")
    (tmp_path / "l").symlink_to(tmp_path / "b")

    def names(pattern: str) -> list[str]:
        found = match_images(tmp_path / pattern).paths
        return [path.relative_to(tmp_path).as_posix() for path in found]

    assert names("*/*.png") == ["[c]/6.png", "a/1.png"]
    assert names("**") == ["[c]/6.png", "a/1.png", "a/2.jpg", "b/x/3.png"]
    assert names("**/x/*.png") == ["b/x/3.png"]
    assert names("*/x/3.png") == ["b/x/3.png", "l/x/3.png"]
    assert names("[[]c]/*") == ["[c]/6.png"]
    assert names(".h/?.png") == names("[.]h/*.png") + [".h/4.png"]


def test_what_looks_like_an_image_and_is_left_out_is_noted(tmp_path: Path) -> None:
    _touch(tmp_path, "a.png", "b.HEIC", "sub/c.heic", "d.nef", "notes.txt", "e.csv")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "gone.txt").symlink_to("nowhere.txt")
    found = find_images(tmp_path)
    assert found.paths == [tmp_path / "a.png"]
    assert found.notes() == [
        "3 files with endings that cannot be read (.heic, .nef) were left out; save such images as "
        "PNG or JPEG to include them.",
        f"Links that lead to no file were left out (1): {tmp_path / 'gone.jpg'}.",
    ]
    (note,) = match_images(tmp_path / "*.nef").notes()
    assert note.startswith("1 file with an ending that cannot be read (.nef) was left out;")


def test_a_folder_that_cannot_be_listed_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _touch(tmp_path, "a.png", "closed/b.png")
    scan = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_images(tmp_path)
    assert found.paths == [tmp_path / "a.png"]
    sentence = f"The folder {tmp_path / 'closed'} was left out: Permission denied."
    assert found.notes() == [sentence]


def test_walk_names_files_by_folder(tmp_path: Path) -> None:
    _touch(tmp_path, "b/2.txt", "b/1.txt", "a")
    assert list(walk(tmp_path)) == [(tmp_path, ["a"]), (tmp_path / "b", ["1.txt", "2.txt"])]


def test_backslashes_are_slashes_where_the_file_is(tmp_path: Path) -> None:
    _touch(tmp_path, "sub/deep/a.png", "odd\\name.png", "odd/name.png")
    assert locate(tmp_path, r"sub\deep\a.png") == tmp_path / "sub" / "deep" / "a.png"
    assert locate(tmp_path, r"odd\name.png") == tmp_path / r"odd\name.png"
    assert locate(tmp_path, r"sub\b.png") == tmp_path / r"sub\b.png"
    hint = ", also not with slashes for the backslashes"
    assert missing_hint(tmp_path / r"sub\b.png") == hint
    similar = missing_hint(tmp_path / r"sub\deep\A.jpg")
    assert similar == f"{hint}, but the folder has 'a.png'"


@pytest.mark.parametrize(
    ("table", "disk"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED), (COMPOSED, COMPOSED)]
)
def test_letters_may_be_composed_or_not(tmp_path: Path, table: str, disk: str) -> None:
    folder = unicodedata.normalize("NFD", "for\xeat")
    _touch(tmp_path, f"{folder}/{disk}")
    expected = tmp_path / folder / disk
    assert locate(tmp_path, f"{folder}/{table}") == expected
    assert locate(tmp_path, f"for\xeat\\{table}") == expected
    _touch(tmp_path, f"{folder}/{COMPOSED}", f"{folder}/{DECOMPOSED}")
    assert locate(tmp_path, f"{folder}/{table}") == tmp_path / folder / table


def test_two_files_that_fit_are_both_named(tmp_path: Path) -> None:
    accents = "e\u0301\u0327"  # in canonical order the cedilla comes first
    others = ["e\u0327\u0301.png", "\u0229\u0301.png"]
    _touch(tmp_path, *others)
    path = locate(tmp_path, f"{accents}.png")
    assert path == tmp_path / f"{accents}.png"
    hint = missing_hint(path)
    assert "the folder has both" in hint
    assert r"'\u0229" in hint
    assert r"'e\u0327" in hint


def test_a_file_that_only_looks_the_same_is_shown_with_what_differs(tmp_path: Path) -> None:
    _touch(tmp_path, "no\xa0break.png", "\u0441at.png")
    hint = missing_hint(tmp_path / "no break.png")
    assert hint == r", but the folder has 'no\xa0break.png'"
    assert missing_hint(tmp_path / "cat.png") == r", but the folder has '\u0441at.png'"


def test_one_file_has_one_canonical_name() -> None:
    spellings = ["sub/caf\xe9.png", "sub\\cafe\u0301.png", "./sub//cafe\u0301.png"]
    assert {canonical_name(name) for name in spellings} == {"sub/caf\xe9.png"}
    assert canonical_name("a.png") == "a.png"
    assert canonical_name("A.png") == "A.png"


@pytest.mark.parametrize("name", ["../a", r"..\a", r"x\..\a", "/a", r"C:\a", r"\\server\a", "C:/a"])
def test_names_that_leave_the_folder(name: str) -> None:
    assert leaves_folder(name)


@pytest.mark.parametrize("name", ["a", "x/..a", r"x\a", "a:b.png"])
def test_names_that_stay(name: str) -> None:
    assert not leaves_folder(name)
