"""Points from what annotation tools write: CSV, COCO, LabelMe, CVAT, VIA, Label Studio, others."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import cast

from helper_functions.data.splits import SPLITS, read_split_table
from helper_functions.prepare.annotations.base import AnnotatedImage, Format, ImageIndex, Inputs
from helper_functions.prepare.annotations.coco import OBJECT_POINTS
from helper_functions.prepare.annotations.dots import DOTS, NAME
from helper_functions.prepare.cutting import RANDOM
from helper_functions.prepare.point_rows import Point, PointResult, add_outside_flag
from helper_functions.prepare.rows import ConversionResult, Row, file_name
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError

HELP = "points, or centers of shapes, from the files of an annotation tool"
CUTS = True

# Values of --from and the modules that read them.
_MODULES = {
    "csv": "table",
    "coco": "coco",
    "labelme": "labelme",
    "cvat": "cvat",
    "via": "via",
    "label-studio": "label_studio",
    "geojson": "geojson",
    "dots": "dots",
    "yolo": "yolo",
}
FORMATS = {
    name: cast(Format, import_module(f"helper_functions.prepare.annotations.{module}"))
    for name, module in _MODULES.items()
}
# What (0, 0) is, and how far that is from the center of the top-left pixel.
ORIGINS = {"corner": 0.5, "center": 0.0, "one": 1.0}
_ANNOTATION_FOLDERS = ("labels", "annotations")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the format, of the splits, of coordinates and of labels."""
    add = parser.add_argument
    formats = "; ".join(f"{name}: {module.HELP}" for name, module in FORMATS.items())
    add("--from", dest="source_format", choices=FORMATS, required=True, help=formats)
    add(
        "--annotations",
        nargs="+",
        metavar="[SPLIT=]PATH",
        help="annotation file or folder below --raw-dir, several with their splits, such as "
        "train=a.json val=b.json (default: the only file of the format; for a file an image, "
        "labels/ or annotations/ where that is there, else --raw-dir)",
    )
    splits = "a CSV of filename,split below --raw-dir (default: validation is cut)"
    add("--splits", metavar="CSV", help=splits)
    empty = "images that no annotation names have no object (default: they are left out)"
    add("--empty-images", action="store_true", help=empty)
    origin = (
        "what (0, 0) is: the corner of the image, the center of its first pixel, or, with one, a "
        "pixel before that, as in MATLAB (default: by the format, see the README)"
    )
    add("--origin", choices=ORIGINS, help=origin)
    add_outside_flag(parser, "refuse")
    add("--no-labels", action="store_true", help="leave the labels out: objects of one kind")
    add("--classes", nargs="+", metavar="NAME", help="keep the points of these labels alone")

    for what, read_by in (
        ("filename", "csv; geojson: the property"),
        ("x", "csv"),
        ("y", "csv"),
        ("label", "csv; geojson: the property; via: the attribute"),
    ):
        add(f"--{what}-column", metavar="NAME", help=f"{read_by} (default: {what})")
    keypoints = "coco: what of an object's keypoints, or the center of its box (default: mean)"
    add("--object-point", choices=OBJECT_POINTS, help=keypoints)
    dots = "dots: a point for each component of pixels, or for each pixel (default: components)"
    add("--dots", choices=DOTS, help=dots)
    add("--dots-name", metavar="TEMPLATE", help=f"dots: name of the masks (default: {NAME})")
    names = "yolo: names of the classes, one a line, or a YAML file (default: classes.txt, ...)"
    add("--class-names", metavar="FILE", help=names)


def _check_flags(options: argparse.Namespace) -> None:
    """Raise ``UserError`` if a flag of another format is given."""
    own = FORMATS[options.source_format].FLAGS
    for name in sorted({flag for module in FORMATS.values() for flag in module.FLAGS}):
        if name not in own and getattr(options, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} has no use with --from {options.source_format}.")
    if options.no_labels and options.classes:
        raise UserError("--no-labels and --classes exclude each other.")


def _annotation_paths(inputs: Inputs) -> list[tuple[str | None, Path]]:
    """Return every annotation file or folder with its split, ``None`` where none is given."""
    options, sources = inputs.options, inputs.sources
    module = FORMATS[options.source_format]
    paths: list[tuple[str | None, Path]] = []
    for text in options.annotations or ():
        split, equals, name = text.partition("=")
        if not equals or split not in SPLITS:
            split, name = None, text
        path = sources.folder / name
        if not _exists(path):
            raise UserError(f"{path} does not exist; check --annotations.")
        if path.is_dir() and not module.FOLDER:
            raise UserError(f"{path} is a folder; name the annotation file by --annotations.")
        paths.append((split, path))
    if paths and options.splits and any(split for split, _ in paths):
        raise UserError("--annotations with splits and --splits exclude each other.")
    if paths:
        return paths
    if module.FOLDER:
        folders = (sources.folder / name for name in _ANNOTATION_FOLDERS)
        return [(None, next(filter(Path.is_dir, folders), sources.folder))]
    listed = sources.folder / options.splits if options.splits else None
    found = sorted(
        path
        for folder in (sources.folder, sources.folder / "annotations")
        for path in folder.glob("*")
        if path.suffix.lower() in module.EXTENSIONS
        and path.is_file()
        and not inputs.is_output(path)
        and path != listed
    )
    if len(found) != 1:
        some = f"{len(found)} files that end" if found else "no file that ends"
        extensions = " or ".join(module.EXTENSIONS)
        raise UserError(
            f"{sources.folder} holds {some} in {extensions}; name the annotations by --annotations."
        )
    return [(None, found[0])]


def _exists(path: Path) -> bool:
    try:
        return path.is_file() or path.is_dir()
    except OSError:  # such as a name that is too long
        return False


def _given_splits(inputs: Inputs) -> dict[str, str] | None:
    """Read ``--splits``: the split of every image."""
    name = inputs.options.splits
    if name is None:
        return None
    path = inputs.sources.folder / name
    if not _exists(path):
        raise UserError(f"{path} does not exist; check --splits.")
    inputs.sources.whole(path)
    table = read_split_table(path, labels=False)
    return {
        inputs.images.find(sample.filename, f"{path}, line {sample.line}"): sample.split
        for sample in table.samples
    }


def _in_pixels(
    image: AnnotatedImage, filename: str, result: PointResult, shift: float
) -> Iterator[Point]:
    """Yield the points of an image with the center of its first pixel as the origin."""
    width, height = 1, 1
    if image.fractions and image.points:
        size = result.size(filename)
        if size is None:
            raise UserError(
                f"{image.where}: the size of {filename!r} is needed, but the image is not there."
            )
        width, height = size
    for point in image.points:
        yield point._replace(x=point.x * width - shift, y=point.y * height - shift)


def _keep_classes(points: dict[str, list[Point]], classes: Iterable[str]) -> None:
    """Keep the points of some labels.

    Raises:
        UserError: If no point has one of these.
    """
    labels = {point.label for each in points.values() for point in each if point.label is not None}
    for name in classes:
        if name not in labels:
            close = difflib.get_close_matches(name, labels, n=1)
            there = f"did you mean {close[0]!r}" if close else f"there are {sorted(labels)[:8]}"
            raise UserError(f"--classes {name}: no point has this label; {there}?")
    for filename, each in points.items():
        points[filename] = [point for point in each if point.label in set(classes)]


def read(options: argparse.Namespace, sources: Sources) -> ConversionResult:
    """Read the annotations of all images.

    Raises:
        UserError: If a file is missing or wrong, or names an image twice.
    """
    _check_flags(options)
    module = FORMATS[options.source_format]
    folder = sources.folder / file_name(options.images, "--images")
    inputs = Inputs(sources, options, ImageIndex(folder))
    paths = _annotation_paths(inputs)
    given = _given_splits(inputs)
    source = "the labels of the points" if not options.no_labels else "none are wanted"
    result = PointResult(folder, f"{source} ({options.source_format})")
    shift = ORIGINS[options.origin or module.ORIGIN]

    # Images with annotations
    published = {split for split, _ in paths}
    seen: dict[str, str] = {}
    for split, path in paths:
        kept = None if split == "train" and "val" not in published else split
        for image in module.read(path, inputs):
            filename = inputs.images.find(image.name, image.where, is_stem=image.is_stem)
            if filename in seen:
                raise UserError(
                    f"{image.where}: the image {filename!r} comes twice, first in {seen[filename]}."
                )
            seen[filename] = image.where
            if image.is_stem and options.keep_missing and filename not in inputs.images.names:
                raise UserError(
                    f"{image.where}: no image {filename!r} is there to tell the extension; leave "
                    f"out --keep-missing."
                )
            if given is not None and filename not in given:
                result.skipped.append((filename, "--splits does not name it"))
                continue
            if image.fractions and not (folder / filename).is_file() and not options.keep_missing:
                points = []  # The row is left out with its image.
            else:
                points = list(_in_pixels(image, filename, result, shift))
            if options.no_labels:
                points = [point._replace(label=None) for point in points]
            result.points[filename] = points
            if image.size is not None:
                result.declared[filename] = image.size, image.where
            result.rows.append(Row(filename, (), kept if given is None else given[filename]))

    # Images without
    others = [name for name in (given or sorted(inputs.images.names)) if name not in seen]
    for filename in others:
        if given is not None or options.empty_images:
            result.rows.append(Row(filename, (), None if given is None else given[filename]))
        else:
            result.skipped.append((filename, "no annotation names it (see --empty-images)"))

    if options.classes:
        _keep_classes(result.points, options.classes)
    result.notes += [f"{what}: {count:,}." for what, count in inputs.tally.items() if count]
    if any(row.split is None for row in result.rows):
        result.notes.append(RANDOM)
    return result
