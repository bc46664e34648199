"""TreeSatAI: aerial tiles, and the share of their area that each genus covers."""

from __future__ import annotations

import argparse
import hashlib
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

from helper_functions import cli
from helper_functions.data.bands import PAPER, RGB, TRUE_COLOR
from helper_functions.prepare.rows import ConversionResult, Row, check_name, file_name
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError

HELP = "TreeSatAI (Zenodo 6780578), or the aerial tiles of its time-series edition"
CUTS = True

LABELS = "TreeSatBA_v9_60m_multi_labels.json"
LISTS = {"train": "train_filenames.lst", "test": "test_filenames.lst"}
FOLDERS = ("aerial/60m", "aerial")  # the second is that of the time-series edition
TILES = 50_381
GENERA = {
    *("Abies", "Acer", "Alnus", "Betula", "Cleared", "Fagus", "Fraxinus", "Larix"),
    *("Picea", "Pinus", "Populus", "Prunus", "Pseudotsuga", "Quercus", "Tilia"),
}
# Tiles hold infrared, green, blue and red, in this order; numbered from 1 as in GIS programs.
BANDS = {PAPER: (1, 2, 3), RGB: TRUE_COLOR}

_ADVICE = "download it from Zenodo record 6780578 (--download tells more)"
_CUT = (
    "The validation split is cut at random from the published training list; neighboring tiles "
    "leak between the splits. The published test list is the split test."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the labels, of the bands that a run should read, and of the download."""
    area = "a genus counts above this share of the area; 0: any area (default: 0.07)"
    parser.add_argument("--min-area", type=cli.number(float, 0, 1), default=0.07, help=area)
    bands = (
        "for the manifest and the command that is printed: paper, the first three bands "
        "(infrared, green, blue); rgb, true color (default: paper)"
    )
    parser.add_argument("--bands", choices=sorted(BANDS), default=PAPER, help=bands)
    download = "tell what to download, and check what is there"
    parser.add_argument("--download", action="store_true", help=download)


def _report_download(sources: Sources) -> None:
    print(
        "TreeSatAI: https://zenodo.org/records/6780578\n"
        "  needed: aerial_60m_<species>.zip (unpack them to aerial/60m), labels/"
        f"{LABELS}, {LISTS['train']}, {LISTS['test']}\n"
        "  sizes and checksums are not known to this program: compare with the page of the record\n"
        "  nothing is fetched by this command"
    )
    for path in sorted(sources.folder.glob("aerial_60m_*.zip")):
        print(f"  {_check_archive(path)}")
    folder = _tile_folder(sources)
    if folder is not None:
        count = sum(1 for _ in folder.glob("*.tif"))
        print(f"  tiles in {sources.name(folder)}: {count:,} ({TILES:,} are published)")


def _check_archive(path: Path) -> str:
    """Return a line on a ZIP archive whose files agree with their checksums."""
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            count = sum(not member.is_dir() for member in archive.infolist())
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(damaged)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} is damaged ({error}); download it again.") from error
    size = path.stat().st_size
    return f"{path.name}: intact, {count:,} files, {size:,} bytes, SHA-256 {digest}"


def _tile_folder(sources: Sources) -> Path | None:
    folders = (sources.folder / name for name in FOLDERS)
    return next((folder for folder in folders if any(folder.glob("*.tif"))), None)


def _lists(sources: Sources) -> dict[str, str]:
    """Return the list, "train" or "test", that names each tile."""
    listed: dict[str, str] = {}
    for split, name in LISTS.items():
        path = sources.find(name, f"labels/{name}", f"split/{name}", advice=_ADVICE)
        for line, text in sources.lines(path):
            where = f"{path}, line {line}"
            # No suffix is guessed: "Alnus_spec._5_..." holds a dot of its own.
            tile = file_name(text if text.endswith(".tif") else f"{text}.tif", where)
            if tile in listed:
                again = f"{tile!r} is listed a second time, after the {listed[tile]} list"
                raise UserError(f"{where}: {again}; a tile belongs to one split.")
            listed[tile] = split
    return listed


def _genera(entries: Any, min_area: float, where: str) -> tuple[str, ...]:
    """Return the genera that cover more than a share of a tile."""
    if not isinstance(entries, list):
        raise UserError(f"{where}: the labels are no list of [genus, area share].")
    genera = set()
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            raise UserError(f"{where}: {str(entry)[:80]!r} is not [genus, area share].")
        genus, share = entry
        number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not number or not (math.isfinite(share) and 0 <= share <= 1.001):
            raise UserError(f"{where}: the area share {str(share)[:40]!r} is not from 0 to 1.")
        if share > min_area:
            genera.add(check_name(genus, where))
    return tuple(sorted(genera))


def read(options: argparse.Namespace, sources: Sources) -> ConversionResult:
    """Read label file and lists.

    Raises:
        UserError: If one is missing or wrong.
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
    above = f"genera with an area share above {options.min_area:g} in {LABELS}"
    label_source = f"{above}, not the species of the file names"
    result = ConversionResult(folder or sources.folder / FOLDERS[0], label_source)

    # Labels and split of every tile.
    cut = options.val_fraction is not None
    splits = {"train": None if cut else "train", "test": "test" if cut else "val"}
    unknown: set[str] = set()
    unlabeled = dict.fromkeys(listed)
    for key, entries in labels.items():
        tile = file_name(key, str(labels_path))
        genera = _genera(entries, options.min_area, f"{labels_path}, {tile[:80]!r}")
        unknown.update(set(genera) - GENERA)
        unlabeled.pop(tile, None)
        if tile not in listed:
            result.skipped.append((tile, "neither list names it"))
        elif not genera:
            reason = f"no genus covers more than {options.min_area:g} of it"
            result.skipped.append((tile, reason))
        else:
            result.rows.append(Row(tile, genera, splits[listed[tile]]))
    result.skipped += [(tile, "it has no labels") for tile in unlabeled]

    # What whoever trains on the rows should know.
    if unknown:
        names = ", ".join(sorted(unknown)[:20])
        result.notes.append(f"These labels are none of the 15 published genera: {names}.")
    bands = ", ".join(map(str, BANDS[options.bands]))
    result.notes += [
        f"Bands {bands} of infrared, green, blue, red are to be read (--bands {options.bands}).",
        _CUT if cut else "The published test list is the split val; there is no split test.",
    ]
    return result
