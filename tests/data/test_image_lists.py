"""Which images are to be predicted: folders, patterns and lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from helper_functions.data.image_lists import list_images
from helper_functions.runtime.errors import UserError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Empty files: two images in folders, one beside them, and notes."""
    for name in ("b/two.jpg", "a/one.png", "three.jpg", "notes.md"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


def test_a_folder_gives_names_below_it(photos: Path) -> None:
    assert list_images(photos).names == ["a/one.png", "b/two.jpg", "three.jpg"]


def test_a_pattern_gives_what_it_matches(photos: Path) -> None:
    images = list_images(photos / "**" / "*.jpg")
    assert images.paths == [photos / "b" / "two.jpg", photos / "three.jpg"]
    assert images.names == [path.as_posix() for path in images.paths]
    assert list_images(photos / "*").paths == [photos / "three.jpg"]


def test_a_folder_whose_name_is_a_pattern_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run[1]").mkdir()
    (tmp_path / "run[1]" / "one.png").touch()
    assert list_images(tmp_path / "run[1]").names == ["one.png"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "b/two.jpg\n\na/one, two.png\n"),
        ("list.csv", 'b/two.jpg\n"a/one, two.png"\n'),
        ("list.csv", 'label,filename,split\n[],b/two.jpg,val\n[],"a/one, two.png",val\n'),
        ("list.csv", '\ufefffilename\nb/two.jpg\n\n"a/one, two.png"\n'),
    ],
)
def test_a_list_gives_its_rows_relative_to_its_folder(photos: Path, name: str, text: str) -> None:
    (photos / name).write_text(text, encoding="utf-8")
    images = list_images(photos / name)
    assert images.names == ["b/two.jpg", "a/one, two.png"]
    assert images.paths == [photos / "b" / "two.jpg", photos / "a" / "one, two.png"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("list.txt", b"\n", "lists no image"),
        ("list.csv", b"", "lists no image"),
        ("list.csv", b"filename\n", "lists no image"),
        ("list.csv", b"label,filename\n[],a.png\n[]\n", "line 3: the file name is empty"),
        ("list.csv", b"a.png\n" + b"x" * 200_000, "line 2: this is not a valid CSV row"),
        ("list.txt", b"caf\xe9.png\n", "is not UTF-8 text"),
    ],
)
def test_a_list_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        list_images(tmp_path / name)


def test_patterns_and_folders_without_images_are_named(photos: Path) -> None:
    with pytest.raises(UserError, match=r"\*\.tif matches no image; check --img_dir"):
        list_images(photos / "*.tif")
    with pytest.raises(UserError, match="nowhere is not an existing folder"):
        list_images(photos / "nowhere")


def test_a_folder_of_files_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.heic").touch()
    sentence = r"holds no image: .*\. 1 file with an ending that cannot be read \(\.heic\) was left"
    with pytest.raises(UserError, match=sentence):
        list_images(tmp_path)


def test_a_list_may_hold_backslashes_and_decomposed_letters(photos: Path) -> None:
    (photos / "caf\xe9.png").touch()
    (photos / "list.txt").write_text("a\\one.png\ncafe\u0301.png\n", encoding="utf-8")
    images = list_images(photos / "list.txt")
    assert images.paths == [photos / "a" / "one.png", photos / "caf\xe9.png"]
    assert images.names == ["a\\one.png", "cafe\u0301.png"]
