"""FathomNet 2023 (FGVC10): a table of float category numbers, images to be fetched one by one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from helper_functions import cli
from helper_functions.data.flags import InputSettings, make_image_format
from helper_functions.prepare.coco import read_coco
from helper_functions.prepare.download import fetch_all
from helper_functions.prepare.rows import ConversionResult, Row, check_name, file_name
from helper_functions.prepare.sources import Sources, parse_integer
from helper_functions.runtime.errors import UserError

HELP = "FathomNet 2023 (Kaggle), whose images --download fetches"
CUTS = True

TABLE, KEY = "train.csv", "category_key.csv"
COCO = "object_detection/train.json"
IMAGES = "images"
_ADVICE = "unpack the Kaggle download there"
_CUT = (
    "The labels of the published evaluation set are hidden, so the validation split is cut at "
    "random from the training images; images of one dive can stand in both splits."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the download."""
    add = parser.add_argument
    add("--download", action="store_true", help=f"first fetch the images to {IMAGES}/")
    add("--jobs", type=cli.number(int, 1, 32), default=4, help="downloads at a time (default: 4)")
    silence = "seconds of silence after which a download is tried again (default: 30)"
    add("--timeout", type=cli.number(float, 0.01, 3600), default=30.0, help=silence)
    add("--retries", type=cli.number(int, 0, 20), default=5, help="of a download (default: 5)")
    cli.add_flags(parser, "options", InputSettings, ("max_megapixels",))
    extension = f"of the images that neither {COCO} nor {IMAGES}/ tells"
    add("--extension", metavar=".EXT", help=extension)


def _categories(sources: Sources, path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for line, (number, text) in sources.columns(path, ("id", "name")):
        where = f"{path}, line {line}"
        identity, name = parse_integer(number, where, "the id"), check_name(text, where)
        if identity in names or name in names.values():
            raise UserError(f"{where}: the category {identity} or the name {name!r} comes twice.")
        names[identity] = name
    return names


def _labels(cell: str, names: dict[int, str], where: str) -> tuple[str, ...]:
    """Return the class names of a cell such as ``[1.0, 9.0]``."""
    try:
        numbers = json.loads(cell)
    except (ValueError, RecursionError):
        numbers = None
    if not isinstance(numbers, list):
        raise UserError(f"{where}: the categories {cell[:80]!r} are no list such as [1.0, 9.0].")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)) or number not in names:
            raise UserError(f"{where}: {KEY} has no category {number!r}.")
    return tuple(dict.fromkeys(names[int(number)] for number in numbers))


def _stem(filename: str) -> str:
    return filename.rpartition(".")[0] or filename


def _published_images(sources: Sources, options: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Return file name and address of every image in the annotation file, by its id."""
    if not (sources.folder / COCO).is_file() and not options.download:
        return {}
    path = sources.find(COCO, advice=f"--download needs it for the addresses; {_ADVICE}")
    images = {}
    for image in read_coco(sources, path, labels=False)[1]:
        if "/" in image.filename or "\\" in image.filename:
            raise UserError(f"{path}: the file name {image.filename!r} holds a slash.")
        images[_stem(image.filename)] = image.filename, image.url
    return images


def read(options: argparse.Namespace, sources: Sources) -> ConversionResult:
    """Read both tables, and fetch the images if that is asked for.

    Raises:
        UserError: If a table is missing or wrong, or an image's extension is not known.
        ConnectionError: If images could not be fetched but may be later.
    """
    table = sources.find(f"multilabel_classification/{TABLE}", TABLE, advice=_ADVICE)
    key = sources.find(f"multilabel_classification/{KEY}", KEY, advice=_ADVICE)
    names = _categories(sources, key)
    published = _published_images(sources, options)
    folder = sources.folder / IMAGES
    present = {_stem(path.name): path.name for path in sorted(folder.glob("[!.]*"))}

    label_source = f"categories in {sources.name(table)}, names in {sources.name(key)}"
    result = ConversionResult(folder, label_source)
    urls = {}
    for line, (identity, cell) in sources.columns(table, ("id", "categories")):
        where = f"{table}, line {line}"
        identity = file_name(identity, where)
        labels = _labels(cell, names, where)
        filename, url = published.get(identity, ("", ""))
        filename = filename or present.get(identity, "")
        if not filename:
            if options.extension is None:
                raise UserError(
                    f"{where}: neither {COCO} nor {IMAGES}/ tells the extension of the image "
                    f"{identity!r}; give it by --extension."
                )
            filename = file_name(f"{identity}.{options.extension.removeprefix('.')}", where)
        result.rows.append(Row(filename, labels, None))
        urls[filename] = url
    result.notes.append(_CUT)

    if options.download and not options.dry_run:
        failed = fetch_all(
            urls,
            folder,
            jobs=options.jobs,
            timeout=options.timeout,
            retries=options.retries,
            image_format=make_image_format(None, None, options.max_megapixels),
        )
        for filename, reason in failed.items():
            print(f"{filename} cannot be had: {reason}.", file=sys.stderr)
    return result
