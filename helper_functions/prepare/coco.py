"""Any COCO annotation file: an image's labels are the categories of its annotations."""

from __future__ import annotations

import argparse
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from helper_functions.data.folders import locate, walk
from helper_functions.data.splits import SPLITS
from helper_functions.prepare.cutting import RANDOM
from helper_functions.prepare.rows import ConversionResult, Row, check_name, file_name
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.lookalikes import contrast, skeleton

HELP = "COCO annotation files, one a split or one for all"
CUTS = True

# What makes an annotation file large, and tells nothing about the classes of an image.
_UNUSED = ("segmentation", "keypoints", "bbox", "area")


_WHOLE_NUMBER = re.compile(r"(0|-?[1-9][0-9]{0,17})(\.0)?", re.ASCII)


class CocoImage(NamedTuple):
    """An image of a COCO file: name, address (empty: none given), class names in class order."""

    filename: str
    url: str
    labels: tuple[str, ...]


def _entries(content: Any, key: str, path: Path) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the objects of a list in a COCO file, each with its name for messages."""
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path} is no COCO file: it has no list {key!r} of objects.")
    for number, entry in enumerate(entries, 1):
        yield entry, f"{path}, entry {number} of {key!r}"


def _identifier(entry: Mapping[str, Any], key: str, where: str) -> int | str:
    """Return an id; a text that is a whole number is that number."""
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value.strip()):
        return int(value.strip().removesuffix(".0"))
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise UserError(f"{where}: {key!r} is {value!r}, not an identifier.")
    return value


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise UserError(f"{where}: {key!r} is {value!r}, not a text.")
    return value


def read_coco(
    sources: Sources, path: Path, *, labels: bool = True
) -> tuple[tuple[str, ...], list[CocoImage]]:
    """Return the class names of a COCO file in the order of their ids, and its images.

    Without ``labels`` no annotation is read.

    Raises:
        UserError: If it is no COCO file, or its parts contradict each other.
    """
    content = sources.json(path, without=_UNUSED)
    names: dict[int | str, str] = {}
    for entry, where in _entries(content, "categories", path):
        name = check_name(_text(entry, "name", where), where)
        key = _identifier(entry, "id", where)
        if key in names or name in names.values():
            raise UserError(f"{where}: the id {key!r} or the name {name!r} comes twice.")
        names[key] = name
    # Numbers first, then texts.
    order = sorted(names, key=lambda key: (isinstance(key, str), key))
    rank = {key: index for index, key in enumerate(order)}

    images: dict[int | str, tuple[str, str]] = {}
    for entry, where in _entries(content, "images", path):
        key = _identifier(entry, "id", where)
        if key in images:
            raise UserError(f"{where}: the id {key!r} comes twice.")
        url = entry.get("coco_url")
        name = file_name(_text(entry, "file_name", where), where)
        images[key] = name, url if isinstance(url, str) else ""

    shown: defaultdict[int | str, set[int | str]] = defaultdict(set)
    for entry, where in _entries(content, "annotations", path) if labels else ():
        image, category = (_identifier(entry, key, where) for key in ("image_id", "category_id"))
        if image not in images:
            raise _unknown(where, "image", image, images)
        if category not in names:
            raise _unknown(where, "category", category, names)
        shown[image].add(category)
    result = []
    for key, (name, url) in images.items():
        categories = sorted(shown[key], key=rank.__getitem__)
        result.append(CocoImage(name, url, tuple(names[category] for category in categories)))
    return tuple(names[key] for key in order), result


def _unknown(where: str, what: str, key: int | str, known: Mapping[int | str, object]) -> UserError:
    """Return the refusal of an annotation of an unknown image or category."""
    shown, hint = repr(key), ""
    for other in known if isinstance(key, str) else ():
        if skeleton(str(other)).lstrip("0") == skeleton(str(key)).lstrip("0"):
            shown, alike = contrast(str(key), str(other))
            hint = f" (there is {alike})"
            break
    return UserError(
        f"{where}: there is no {what} {shown}{hint}; correct its {what}_id or remove the "
        f"annotation."
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flag that names the annotation files."""
    parser.add_argument(
        "--json",
        nargs="+",
        metavar="[SPLIT=]FILE",
        help="annotation files below --raw-dir, such as train=annotations/train.json; without a "
        "split: train, of which validation is cut (default: by the splits in their names)",
    )


def _annotation_files(sources: Sources, named: list[str] | None) -> dict[str, Path]:
    """Return the annotation file of each split: as ``--json`` says, or by their own names."""
    pairs = []
    for text in named or ():
        split, equals, name = text.partition("=")
        if not equals:
            split, name = "train", text
        if split not in SPLITS:
            raise UserError(f"--json {text}: {split!r} is not a split ({', '.join(SPLITS)}).")
        pairs.append((split, sources.find(name, advice="check --json")))
    if not named:
        paths = [*sources.folder.glob("*.json"), *sources.folder.glob("annotations/*.json")]
        paths = sorted(path for path in paths if not path.name.endswith(".manifest.json"))
        for path in paths:
            splits = [split for split in SPLITS if split in path.stem.lower()]
            if len(splits) != 1 and len(paths) > 1:
                raise UserError(f"{path} does not say which split it holds; name it by --json.")
            pairs.append((splits[0] if len(splits) == 1 else "train", path))

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


def _find(folder: Path, name: str, below: Mapping[str, list[str]]) -> str:
    """Return where an image lies whose annotation file may give its bare name only."""
    path = locate(folder, name)
    if path.is_file():
        return path.relative_to(folder).as_posix()
    # Windows takes slashes and backslashes.
    bare_name = unicodedata.normalize("NFC", PureWindowsPath(name).name)
    paths = below.get(bare_name, [name])
    if len(paths) > 1:
        raise UserError(
            f"{folder} holds several images {name!r} ({paths[0]}, {paths[1]}); name the image "
            f"folder by --images."
        )
    return paths[0]


def read(options: argparse.Namespace, sources: Sources) -> ConversionResult:
    """Read the annotation files.

    Raises:
        UserError: If they are not there or contradict each other.
    """
    files = _annotation_files(sources, options.json)
    images = sources.folder / file_name(options.images, "--images")
    result = ConversionResult(images, "the categories of the annotations of each image (COCO)")
    below = defaultdict(list)
    for parent, names in walk(images) if images.is_dir() else ():
        for name in names:
            path_below = (parent / name).relative_to(images).as_posix()
            below[unicodedata.normalize("NFC", name)].append(path_below)
    for split, path in files.items():
        published = None if split == "train" and "val" not in files else split
        for image in read_coco(sources, path)[1]:
            name = _find(images, image.filename, below)
            result.rows.append(Row(name, image.labels, published))
    if "val" not in files:
        result.notes.append(RANDOM)
    return result
