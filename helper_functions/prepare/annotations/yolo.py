"""YOLO: a text file an image, a line an object, in fractions of the image; centers of the boxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from helper_functions.data.tables import read_lines
from helper_functions.prepare.annotations.base import (
    AnnotatedImage,
    Inputs,
    label_of,
    parse_number,
    shown,
)
from helper_functions.prepare.point_rows import Point
from helper_functions.prepare.rows import check_name
from helper_functions.prepare.sources import parse_integer
from helper_functions.runtime.errors import UserError

HELP = "YOLO text files: centers of the boxes"
ORIGIN = "corner"
EXTENSIONS = (".txt",)
FOLDER = True
FLAGS = ("class_names",)
NAMES = ("classes.txt", "obj.names", "data.yaml", "dataset.yaml", "data.yml")
_MAX_BRACKETS = 1000  # the YAML reader's time grows with the square of nested ones


def _class_names(inputs: Inputs, path: Path) -> dict[int, str]:
    """Read the name of every class number: one a line, or ``names`` of a YAML file."""
    if path.suffix.lower() not in (".yaml", ".yml"):
        inputs.sources.whole(path)
        return {n: check_name(name, str(path)) for n, (_, name) in enumerate(read_lines(path))}
    text = inputs.sources.whole(path)
    if text.count(b"[") + text.count(b"{") > _MAX_BRACKETS:
        raise UserError(f"{path} is no YAML file of class names: it is nested too deeply.")
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not a valid YAML file: {reason}.") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise UserError(f"{path} has no list 'names' of classes.")
    result = {}
    for key, name in names.items():
        label = label_of(name, f"{path}: 'names'")
        if isinstance(key, bool) or not isinstance(key, int) or label is None:
            raise UserError(f"{path}: 'names' should give each class number a name.")
        result[key] = label
    return result


def _find_class_names(path: Path, inputs: Inputs) -> tuple[Path, dict[int, str]] | None:
    """Return the file of the class names, and the names; ``None`` if labels are not wanted."""
    options, sources = inputs.options, inputs.sources
    if options.no_labels:
        return None
    if options.class_names is not None:
        found = sources.find(options.class_names, advice="check --class-names")
    else:
        folders = dict.fromkeys((path if path.is_dir() else path.parent, sources.folder))
        candidates = [folder / name for folder in folders for name in NAMES]
        first = next(filter(Path.is_file, candidates), None)
        if first is None:
            raise UserError(
                f"{sources.folder} holds no {', '.join(NAMES[:3])}; name the file of the class "
                f"names by --class-names, or give --no-labels."
            )
        found = first
    return found, _class_names(inputs, found)


def read(path: Path, inputs: Inputs) -> Iterator[AnnotatedImage]:
    """Yield the image of every text file; an empty one means that no object is there."""
    found = _find_class_names(path, inputs)
    files = inputs.files(path, *EXTENSIONS)
    skipped = {found[0]} if found else set()
    for each in files:
        other = each.name in NAMES or each.name.upper().startswith("README")
        if each in skipped or (path.is_dir() and other):
            continue
        inputs.content(each, path)  # for the manifest
        points = []
        for line, row in read_lines(each):
            where = f"{each}, line {line}"
            cells = row.split()
            if len(cells) not in (5, 6):  # the sixth is a detector's score
                raise UserError(
                    f"{where} has {len(cells)} values; a box has five: class, x and y of its "
                    f"center, width, height."
                )
            index = parse_integer(cells[0], where, "the class")
            label = None
            if found is not None:
                names_path, names = found
                if index not in names:
                    raise UserError(f"{where}: {names_path} names no class {index}.")
                label = names[index]
            x, y, width, height = (parse_number(cell, where, "a value") for cell in cells[1:5])
            for cell, value in zip(cells[1:5], (x, y, width, height), strict=True):
                if not 0 <= value <= 1:
                    raise UserError(f"{where}: {shown(cell)} is no fraction of the image, 0 to 1.")
            points.append(Point(x, y, label, where))
        name = _image_stem(each, path, inputs)
        yield AnnotatedImage(name, points, str(each), fractions=True, is_stem=True)


def _image_stem(each: Path, path: Path, inputs: Inputs) -> str:
    """Return where an image lies without its extension: in "images" for files in "labels"."""
    folder = inputs.sources.folder
    if each.is_relative_to(folder):
        parts = each.relative_to(folder).with_suffix("").parts
        if "labels" in parts[:-1]:
            return "/".join("images" if part == "labels" else part for part in parts)
    below = each.relative_to(path) if path.is_dir() else Path(each.name)
    return below.with_suffix("").as_posix()
