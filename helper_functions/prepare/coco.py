"""Any COCO annotation file: a picture's labels are the categories of its annotations."""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from helper_functions.data.splits import SPLITS
from helper_functions.prepare.cutting import RANDOM
from helper_functions.prepare.rows import Found, Row, class_name, file_name
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError

HELP = "COCO annotation files, one a split or one for all"
CUTS = True


# What makes an annotation file large, and says nothing about which classes a picture shows.
_UNUSED = ("segmentation", "keypoints", "bbox", "area")


@dataclass(frozen=True)
class CocoImage:
    """A picture of a COCO file: name, address (empty: none given), class names in class order."""

    filename: str
    url: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Coco:
    """What is used of a COCO file: its class names in the order of their ids, its pictures."""

    classes: tuple[str, ...]
    images: tuple[CocoImage, ...]
    annotations: int


def _entries(content: Any, key: str, path: Path) -> list[Mapping[str, Any]]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path} is no COCO file: it has no list {key!r} of objects.")
    return entries


def _identifier(entry: Mapping[str, Any], key: str, where: str) -> int | str:
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise UserError(f"{where}: {key!r} is {value!r}, not an identifier.")
    return value


def _word(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise UserError(f"{where}: {key!r} is {value!r}, not a text.")
    return value


def read_coco(sources: Sources, path: Path, *, labels: bool = True) -> Coco:
    """Read a COCO file.

    Args:
        sources: Reads it.
        path: The file.
        labels: Whether to read annotations; else no picture has a label.

    Raises:
        UserError: If it is no COCO file, or its parts contradict each other.
    """
    content = sources.json(path, without=_UNUSED)
    classes: dict[int | str, str] = {}
    for number, entry in enumerate(_entries(content, "categories", path), 1):
        where = f"{path}, category {number}"
        name = class_name(_word(entry, "name", where), where)
        key = _identifier(entry, "id", where)
        if key in classes or name in classes.values():
            raise UserError(f"{where}: the id {key!r} or the name {name!r} comes twice.")
        classes[key] = name
    order = {key: place for place, key in enumerate(sorted(classes, key=_numbers_first))}
    images: dict[int | str, tuple[str, str]] = {}
    for number, entry in enumerate(_entries(content, "images", path), 1):
        where = f"{path}, image {number}"
        key = _identifier(entry, "id", where)
        if key in images:
            raise UserError(f"{where}: the id {key!r} comes twice.")
        name = file_name(_word(entry, "file_name", where), where)
        url = entry.get("coco_url")
        images[key] = name, url if isinstance(url, str) else ""
    shown: defaultdict[int | str, set[int | str]] = defaultdict(set)
    annotations = _entries(content, "annotations", path) if labels else []
    for number, entry in enumerate(annotations, 1):
        where = f"{path}, annotation {number}"
        image, category = (_identifier(entry, key, where) for key in ("image_id", "category_id"))
        if image not in images:
            raise UserError(f"{where}: there is no image {image!r}.")
        if category not in classes:
            raise UserError(f"{where}: there is no category {category!r}.")
        shown[image].add(category)
    return Coco(
        tuple(classes[key] for key in order),
        tuple(
            CocoImage(
                name, url, tuple(classes[c] for c in sorted(shown[key], key=order.__getitem__))
            )
            for key, (name, url) in images.items()
        ),
        len(annotations),
    )


def _numbers_first(key: int | str) -> tuple[bool, int, str]:
    return (False, key, "") if isinstance(key, int) else (True, 0, key)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Which files there are."""
    parser.add_argument(
        "--json",
        nargs="+",
        metavar="[SPLIT=]FILE",
        help="annotation files below --raw-dir, such as train=annotations/train.json; without a "
        "split: train, of which validation is cut (default: found by their names)",
    )
    parser.add_argument(
        "--images",
        default=".",
        metavar="DIR",
        help="image folder below --raw-dir (default: --raw-dir)",
    )


def _named_files(sources: Sources, options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    for text in options.json:
        split, equals, name = text.partition("=")
        if not equals:
            split, name = "train", text
        if split not in SPLITS:
            raise UserError(f"--json {text}: {split!r} is not a split ({', '.join(SPLITS)}).")
        yield split, sources.find(name, advice="check --json")


def _files_by_name(sources: Sources) -> Iterator[tuple[str, Path]]:
    found = [*sources.folder.glob("*.json"), *sources.folder.glob("annotations/*.json")]
    found = sorted(path for path in found if not path.name.endswith(".manifest.json"))
    for path in found:
        words = [split for split in SPLITS if split in path.stem.lower()]
        if len(words) == 1:
            yield words[0], path
        elif len(found) == 1:
            yield "train", path
        else:
            raise UserError(f"{path} does not say which split it holds; name it by --json.")


def _files(sources: Sources, options: argparse.Namespace) -> dict[str, Path]:
    pairs = list(_named_files(sources, options) if options.json else _files_by_name(sources))
    files = dict(pairs)
    if len(files) < len(pairs):
        names = ", ".join(sources.name(path) for _, path in pairs)
        raise UserError(f"Two files hold the same split ({names}); choose by --json.")
    if "train" not in files:
        raise UserError(
            f"{sources.folder} holds no annotation file for training, such as "
            f"annotations/train.json; name it by --json train=FILE."
        )
    return files


class _Below:
    """Where pictures lie whose annotation file gives the bare name only.

    Args:
        folder: Walked through when the first picture is not directly there; links to folders are
            not followed, so loops do no harm.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.by_name: defaultdict[str, list[str]] | None = None

    def locate(self, name: str) -> str:
        """The name relative to the folder; unchanged where there is no such picture."""
        if (self.folder / name).is_file():
            return name
        if self.by_name is None:
            self.by_name = defaultdict(list)
            for parent, _, names in os.walk(self.folder):
                below = Path(parent).relative_to(self.folder)
                for each in names:
                    self.by_name[each].append((below / each).as_posix())
        found = self.by_name.get(PurePosixPath(name).name, [])
        if len(found) > 1:
            raise UserError(
                f"{self.folder} holds several pictures {name!r} ({found[0]}, {found[1]}); name "
                f"the image folder by --images."
            )
        return found[0] if found else name


def read(options: argparse.Namespace, sources: Sources) -> Found:
    """Read the annotation files.

    Raises:
        UserError: If they are not there or contradict each other.
    """
    files = _files(sources, options)
    images = sources.folder / file_name(options.images, "--images")
    found = Found(images, "the categories of the annotations of each picture (COCO)")
    below = _Below(images)
    for split, path in files.items():
        decided = None if split == "train" and "val" not in files else split
        for image in read_coco(sources, path).images:
            found.rows.append(Row(below.locate(image.filename), image.labels, decided))
    if "val" not in files:
        found.notes.append(RANDOM)
    return found
