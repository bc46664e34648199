"""FathomNet 2023 (FGVC10): a table of float category numbers, pictures to be fetched one by one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from helper_functions import cli
from helper_functions.prepare.coco import read_coco
from helper_functions.prepare.download import Job, fetch_all
from helper_functions.prepare.rows import Found, Row, check_rows, class_name, file_name
from helper_functions.prepare.sources import Sources, whole_number
from helper_functions.runtime.errors import UserError

HELP = "FathomNet 2023 (Kaggle), whose pictures --download fetches"
CUTS = True

TABLE, KEY = "train.csv", "category_key.csv"
COCO = "object_detection/train.json"
IMAGES = "images"
_ADVICE = "unpack the Kaggle download there"
_CUT = (
    "The labels of the published evaluation set are hidden, so the validation split is cut at "
    "random from the training pictures; pictures of one dive can stand in both splits."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """How the pictures are fetched."""
    parser.add_argument(
        "--download", action="store_true", help=f"first fetch the pictures to {IMAGES}/"
    )
    parser.add_argument(
        "--jobs", type=cli.number(int, 1, 32), default=4, help="downloads at a time (default: 4)"
    )
    parser.add_argument(
        "--timeout",
        type=cli.number(float, 0.01, 3600),
        default=30.0,
        help="seconds of silence after which a download is tried again (default: 30)",
    )
    parser.add_argument(
        "--retries", type=cli.number(int, 0, 20), default=5, help="of a download (default: 5)"
    )
    parser.add_argument(
        "--extension",
        metavar=".EXT",
        help=f"of the pictures that neither {COCO} nor {IMAGES}/ tells",
    )


def _categories(sources: Sources, path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for line, (number, text) in sources.table(path, ("id", "name")):
        where = f"{path}, line {line}"
        identity, name = whole_number(number, where, "the id"), class_name(text, where)
        if identity in names or name in names.values():
            raise UserError(f"{where}: the category {identity} or the name {name!r} comes twice.")
        names[identity] = name
    return names


def _labels(cell: str, names: dict[int, str], where: str) -> tuple[str, ...]:
    """The class names of a cell such as ``[1.0, 9.0]``."""
    try:
        numbers = json.loads(cell)
    except (ValueError, RecursionError):
        numbers = None
    if not isinstance(numbers, list):
        raise UserError(f"{where}: the categories {cell[:80]!r} are no list such as [1.0, 9.0].")
    labels = []
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)) or number not in names:
            raise UserError(f"{where}: {KEY} has no category {number!r}.")
        labels.append(names[int(number)])
    return tuple(dict.fromkeys(labels))


def _stem(filename: str) -> str:
    return filename.rpartition(".")[0] or filename


def _published_names(sources: Sources, options: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """File name and address of every picture in the annotation file, by its id."""
    if not (sources.folder / COCO).is_file() and not options.download:
        return {}
    path = sources.find(COCO, advice=f"--download needs it for the addresses; {_ADVICE}")
    pictures = {}
    for image in read_coco(sources, path, labels=False).images:
        if "/" in image.filename:
            raise UserError(f"{path}: the file name {image.filename!r} holds a slash.")
        pictures[_stem(image.filename)] = image.filename, image.url
    return pictures


def read(options: argparse.Namespace, sources: Sources) -> Found:
    """Read both tables, and fetch the pictures if that is asked for.

    Raises:
        UserError: If a table is missing or names an unknown category, or a picture's extension is
            not to be found.
        ConnectionError: If pictures could not be fetched for a reason that may pass.
    """
    table = sources.find(f"multilabel_classification/{TABLE}", TABLE, advice=_ADVICE)
    key = sources.find(f"multilabel_classification/{KEY}", KEY, advice=_ADVICE)
    names = _categories(sources, key)
    published = _published_names(sources, options)
    folder = sources.folder / IMAGES
    there = {_stem(path.name): path.name for path in sorted(folder.glob("[!.]*"))}
    found = Found(folder, f"categories in {sources.name(table)}, names in {sources.name(key)}")
    jobs = []
    for line, (identity, cell) in sources.table(table, ("id", "categories")):
        where = f"{table}, line {line}"
        identity = file_name(identity, where)
        labels = _labels(cell, names, where)
        filename, url = published.get(identity, ("", ""))
        filename = filename or there.get(identity, "")
        if not filename:
            if options.extension is None:
                raise UserError(
                    f"{where}: neither {COCO} nor {IMAGES}/ tells the extension of the picture "
                    f"{identity}; put them there, or give it by --extension."
                )
            filename = file_name(f"{identity}.{options.extension.removeprefix('.')}", where)
        found.rows.append(Row(filename, labels, None))
        jobs.append(Job(filename, url))
    check_rows(found.rows)  # two jobs for one picture would be in each other's way
    if options.download and not options.dry_run:
        failures = fetch_all(
            jobs,
            folder,
            jobs_at_once=options.jobs,
            timeout=options.timeout,
            retries=options.retries,
        )
        for failure in failures:
            print(f"{failure.filename} cannot be had: {failure.reason}.", file=sys.stderr)
    found.notes.append(_CUT)
    return found
