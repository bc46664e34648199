"""ShipRSImageNet: VOC annotations of ships, with a class number for each of four levels."""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from tqdm import tqdm

from helper_functions.prepare.coco import read_coco
from helper_functions.prepare.rows import ConversionResult, Row, file_name
from helper_functions.prepare.sources import Sources, parse_integer
from helper_functions.runtime.errors import UserError

HELP = "ShipRSImageNet, from its VOC files"
CUTS = False  # train, val and test are published

CLASSES = (2, 4, 25, 50)  # of the levels 0 to 3
IMAGES, INSTANCES = 3_435, 17_573
_SPLITS = ("train", "val", "test")
_VOC, _COCO = "VOC_Format", "COCO_Format"
_ADVICE = "unpack the download there"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the classes and of the download."""
    levels = "of the classes: 2, 4, 25 or 50 of them, Dock among them each time (default: 3)"
    parser.add_argument("--level", type=int, choices=range(4), default=3, help=levels)
    download = "tell what to download, and check what is there"
    parser.add_argument("--download", action="store_true", help=download)


def _report_download(sources: Sources) -> None:
    print(
        "ShipRSImageNet: the address, sizes and checksums are not known to this program\n"
        f"  needed: {_VOC}/ (JPEGImages, Annotations, ImageSets) and {_COCO}/\n"
        "  nothing is fetched by this command"
    )
    for name, pattern in (("images", "JPEGImages/*.bmp"), ("annotations", "Annotations/*.xml")):
        count = sum(1 for _ in (sources.folder / _VOC).glob(pattern))
        print(f"  {name} in {_VOC}: {count:,} ({IMAGES:,} are published)")


def _read_names(sources: Sources, level: int) -> tuple[tuple[str, ...], dict[str, set[str]]]:
    """Return the class names of a level, and the labels that the COCO files give by image."""
    names: tuple[str, ...] = ()
    labels: dict[str, set[str]] = {}
    for split in ("train", "val"):
        path = sources.folder / _COCO / f"ShipRSImageNet_bbox_{split}_level_{level}.json"
        if not path.is_file():
            continue
        classes, images = read_coco(sources, path)
        if names and classes != names:
            raise UserError(f"{path} has other categories than the file of the split train.")
        names = classes
        labels |= {PureWindowsPath(image.filename).stem: set(image.labels) for image in images}
    if not names:
        name = f"{_COCO}/ShipRSImageNet_bbox_train_level_{level}.json"
        sources.find(name, advice=f"the class names are there; {_ADVICE}")
    return names, labels


def _labels(content: bytes, level: int, names: tuple[str, ...], path: Path) -> list[str]:
    """Return the class name of every object; its number in the file counts from 1."""
    try:
        root = ET.fromstring(content)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path} cannot be read as XML: {error}.") from error
    labels = []
    for entry in root.iter("object"):
        text = entry.findtext(f"level_{level}") or ""
        number = parse_integer(text, str(path), f"level_{level}")
        if not 1 <= number <= len(names):
            raise UserError(f"{path}: level_{level} is {number}, not from 1 to {len(names)}.")
        labels.append(names[number - 1])
    return labels


def _compare(result: ConversionResult, published: Mapping[str, set[str]]) -> None:
    """Note where labels differ from those of the COCO files.

    Raises:
        UserError: If most do, so that the numbers mean other classes.
    """
    pairs = [(row, published.get(PurePosixPath(row.filename).stem)) for row in result.rows]
    both = [row for row, labels in pairs if labels is not None]
    differing = [row for row, labels in pairs if labels not in (None, set(row.labels))]
    if not differing:
        return
    counts = f"{len(differing):,} of {len(both):,} images"
    first = f"(the first: {differing[0].filename})"
    if 2 * len(differing) > len(both):
        raise UserError(
            f"The labels of {counts} differ between {_VOC} and {_COCO} {first}; the class numbers "
            f"do not fit."
        )
    result.notes.append(
        f"{_COCO} gives other labels for {counts} {first}; those of {_VOC} are kept."
    )


def read(options: argparse.Namespace, sources: Sources) -> ConversionResult:
    """Read the lists and the annotation of every image.

    Raises:
        UserError: If a file is missing or wrong, or a class number is out of range.
    """
    if options.download:
        _report_download(sources)
    level, voc = options.level, sources.folder / _VOC
    lists = {s: sources.find(f"{_VOC}/ImageSets/{s}.txt", advice=_ADVICE) for s in _SPLITS}
    names, published = _read_names(sources, level)
    label_source = f"object/level_{level} of the VOC annotations, names by {_COCO}"
    result = ConversionResult(voc / "JPEGImages", label_source)
    if len(names) != CLASSES[level]:
        result.notes.append(
            f"{_COCO} names {len(names)} classes of level {level}; {CLASSES[level]} are published."
        )
    instances = 0
    for split, path in lists.items():
        for line, text in tqdm(sources.lines(path), desc=split, disable=None, leave=False):
            stem = file_name(text, f"{path}, line {line}").removesuffix(".bmp")
            annotation = voc / "Annotations" / f"{stem}.xml"
            if not annotation.is_file():
                result.skipped.append((f"{stem}.bmp", "its annotation is not there"))
                continue
            content = sources.content(annotation, f"{_VOC}/Annotations/*.xml")
            labels = _labels(content, level, names, annotation)
            instances += len(labels)
            result.rows.append(Row(f"{stem}.bmp", tuple(sorted(set(labels))), split))
    _compare(result, published)
    if instances != INSTANCES:
        result.notes.append(f"There are {instances:,} instances; {INSTANCES:,} are published.")
    result.notes.append("The splits are the published lists.")
    return result
