"""TreeSatAI: aerial tiles, and the share of their area that each genus covers."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from helper_functions import cli
from helper_functions.data.bands import PAPER, RGB, TRUE_COLOUR
from helper_functions.prepare.archives import check_archives, count_line
from helper_functions.prepare.rows import Dropped, Found, Row, class_name, file_name
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError

HELP = "TreeSatAI (Zenodo 6780578), or the aerial tiles of its time-series edition"
CUTS = True

LABELS = "TreeSatBA_v9_60m_multi_labels.json"
LISTS = {"train": "train_filenames.lst", "test": "test_filenames.lst"}
FOLDERS = ("aerial/60m", "aerial")  # the second is that of the time-series edition
TILES = 50_381
GENERA = frozenset(
    (
        *("Abies", "Acer", "Alnus", "Betula", "Cleared", "Fagus", "Fraxinus", "Larix"),
        *("Picea", "Pinus", "Populus", "Prunus", "Pseudotsuga", "Quercus", "Tilia"),
    )
)
# Tiles hold infrared, green, blue and red, in this order; numbered from 1 as in GIS programs.
BANDS = {PAPER: (1, 2, 3), RGB: TRUE_COLOUR}

_ADVICE = "download it from Zenodo record 6780578 (--download tells more)"
_CUT = (
    "The validation split is cut at random from the published training list; neighbouring tiles "
    "leak between the splits. The published test list is the split test."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Which labels count, and which bands a run should read."""
    parser.add_argument(
        "--min-area",
        type=cli.number(float, 0, 1),
        default=0.07,
        help="a genus counts above this share of the area; 0: any area (default: 0.07)",
    )
    parser.add_argument(
        "--bands",
        choices=sorted(BANDS),
        default=PAPER,
        help="for the manifest and the command that is printed: paper, the first three bands "
        "(infrared, green, blue); rgb, true colour (default: paper)",
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="tell what to download from where, and check what is there",
    )


def _report_download(sources: Sources) -> None:
    """Say what to download, and check what has been."""
    print(
        "TreeSatAI: https://zenodo.org/records/6780578\n"
        "  needed: aerial_60m_<species>.zip (unpack them to aerial/60m), labels/"
        f"{LABELS}, {LISTS['train']}, {LISTS['test']}\n"
        "  sizes and checksums are not known to this program: compare with the page of the record\n"
        "  nothing is fetched by this command"
    )
    for line in check_archives(sorted(sources.folder.glob("aerial_60m_*.zip"))):
        print(f"  {line}")
    folder = _tile_folder(sources)
    if folder is not None:
        count = sum(1 for _ in folder.glob("*.tif"))
        print(f"  {count_line(f'tiles in {sources.name(folder)}', count, TILES)}")


def _tile_folder(sources: Sources) -> Path | None:
    folders = (sources.folder / name for name in FOLDERS)
    return next((f for f in folders if next(f.glob("*.tif"), None) is not None), None)


def _lists(sources: Sources) -> dict[str, str]:
    """The list, "train" or "test", that names a tile."""
    listed: dict[str, str] = {}
    for split, name in LISTS.items():
        path = sources.find(name, f"labels/{name}", f"split/{name}", advice=_ADVICE)
        for line, text in sources.lines(path):
            where = f"{path}, line {line}"
            # No suffix is guessed: "Alnus_spec._5_..." holds a dot of its own.
            tile = file_name(text if text.endswith(".tif") else f"{text}.tif", where)
            if tile in listed:
                raise UserError(
                    f"{where}: {tile!r} is listed a second time, after the {listed[tile]} list; a "
                    f"tile belongs to one split."
                )
            listed[tile] = split
    return listed


def _genera(entries: Any, min_area: float, where: str) -> tuple[str, ...]:
    """The genera that cover more than a share of a tile."""
    if not isinstance(entries, list):
        raise UserError(f"{where}: the labels are no list of [genus, area share].")
    genera = []
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            raise UserError(f"{where}: {str(entry)[:80]!r} is not [genus, area share].")
        share = entry[1]
        number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not number or not (math.isfinite(share) and 0 <= share <= 1.001):
            raise UserError(f"{where}: the area share {str(share)[:40]!r} is not from 0 to 1.")
        if share > min_area:
            genera.append(class_name(entry[0], where))
    return tuple(sorted(set(genera)))


def read(options: argparse.Namespace, sources: Sources) -> Found:
    """Read label file and lists.

    Raises:
        UserError: If one is missing or wrong, or a tile is in both lists.
    """
    if options.download:
        _report_download(sources)
    labels_path = sources.find(f"labels/{LABELS}", LABELS, advice=_ADVICE)
    labels = sources.json(labels_path)
    if not isinstance(labels, dict):
        raise UserError(f"{labels_path} is no object of file names and labels.")
    listed = _lists(sources)
    folder = _tile_folder(sources)
    if folder is None and not options.keep_missing:
        raise UserError(
            f"{sources.folder} holds no tile in {FOLDERS[0]} or {FOLDERS[1]}; unpack "
            f"aerial_60m_*.zip there (or give --keep-missing to convert the labels alone)."
        )
    threshold = f"{options.min_area:g}"
    found = Found(
        folder or sources.folder / FOLDERS[0],
        f"genera with an area share above {threshold} in {LABELS}, not the species of the file "
        f"names",
    )
    cut = options.val_fraction is not None
    splits = {"train": None if cut else "train", "test": "test" if cut else "val"}
    tiles = {file_name(tile, str(labels_path)): entries for tile, entries in labels.items()}
    unknown: set[str] = set()
    for tile, entries in tiles.items():
        genera = _genera(entries, options.min_area, f"{labels_path}, {tile[:80]!r}")
        unknown.update(set(genera) - GENERA)
        if tile not in listed:
            found.dropped.append(Dropped(tile, "neither list names it"))
        elif not genera:
            found.dropped.append(Dropped(tile, f"no genus covers more than {threshold} of it"))
        else:
            found.rows.append(Row(tile, genera, splits[listed[tile]]))
    found.dropped += [Dropped(tile, "it has no labels") for tile in listed if tile not in tiles]
    if unknown:
        found.notes.append(
            f"These labels are none of the 15 published genera: {', '.join(sorted(unknown)[:20])}."
        )
    bands = ", ".join(map(str, BANDS[options.bands]))
    found.notes.append(
        f"Bands {bands} of infrared, green, blue, red are to be read (--bands {options.bands})."
    )
    found.notes.append(
        _CUT if cut else "The published test list is the split val; there is no split test."
    )
    return found
