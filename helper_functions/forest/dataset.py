"""A folder of tiles with their masks, crowns and splits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from helper_functions.forest.genera import CLASSES
from helper_functions.forest.tile import SEED_STREAM, make_tile
from helper_functions.results.tables import write_table
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import write_text

GENERATOR_VERSION = 1
MAX_TILES = 100_000  # the file names hold five digits, and the seeds are this far apart


def split_tiles(
    labels: Sequence[Sequence[str]], val_fraction: float, rng: np.random.Generator
) -> list[str]:
    """Divide tiles into "train" and "val" so that rare classes are in both.

    Tiles go to val one by one. Each time the tile is taken that robs train of the fewest classes,
    then brings val the most classes it lacks, then keeps the classes' shares in val most even.

    Args:
        labels: the classes of each tile.
        val_fraction: share of the tiles in val; both parts get a tile where there are two.
        rng: decides between equally good tiles.
    """
    tiles = len(labels)
    names = sorted({name for row in labels for name in row})
    has = np.array([[name in row for name in names] for row in labels], dtype=np.float64)
    has = has[order := rng.permutation(tiles)]
    count = has.sum(axis=0)
    in_val = np.zeros(tiles, dtype=bool)
    for taken in range(min(max(round(val_fraction * tiles), 1), tiles - 1)):
        val_count = has[in_val].sum(axis=0)
        owed = count * (taken + 1) / tiles - val_count
        # By how much a tile lowers the sum over classes of owed ** 2 / count; always below 100.
        evenness = has @ ((2.0 * owed - 1.0) / count)
        gained = has @ (val_count == 0)
        robbed = has @ (count - val_count == 1)
        score = evenness + 1e2 * gained - 1e4 * robbed
        score[in_val] = -np.inf
        in_val[np.argmax(score)] = True
    splits = np.empty(tiles, dtype=object)
    splits[order] = np.where(in_val, "val", "train")
    return [str(split) for split in splits]


def _tile_name(index: int) -> str:
    return f"tile_{index:05d}.png"


def _check_settings(tiles: int, seed: int, val_fraction: float) -> None:
    if not 1 <= tiles <= MAX_TILES:
        raise UserError(f"The number of tiles must be from 1 to {MAX_TILES}, not {tiles}.")
    if seed < 0:
        raise UserError(f"The seed must be 0 or more, not {seed}.")
    if not 0.0 < val_fraction < 1.0:
        raise UserError(f"The val fraction must lie between 0 and 1, not at {val_fraction}.")


def _is_complete(folder: Path, settings: dict[str, float]) -> bool:
    """Whether the folder holds exactly this data set; another one raises ``UserError``."""
    manifest = folder / "forest.json"
    if not manifest.exists():
        if (folder / "splits.csv").exists():
            holds = f"The folder {folder} holds a splits.csv but no finished forest"
            raise UserError(f"{holds}; choose another folder or delete that file.")
        return False
    if manifest.read_bytes() != _manifest(settings):
        holds = f"The folder {folder} holds a forest made with other settings"
        raise UserError(f"{holds}; choose another folder or delete it.")
    names = [_tile_name(index) for index in range(int(settings["tiles"]))]
    parts = [folder / part / name for part in ("images", "masks") for name in names]
    return all(path.exists() for path in [*parts, folder / "crowns.csv", folder / "splits.csv"])


def _manifest(settings: dict[str, float]) -> bytes:
    return (json.dumps(settings, indent=2) + "\n").encode()


def _write_texts(folder: Path, *, only_missing: bool) -> None:
    """Write the files that forests of earlier versions lack.

    ``points.csv`` holds the rows of ``crowns.csv`` under the column names of ``--points-path``.
    """
    classes, points = folder / "masks" / "classes.json", folder / "points.csv"
    if not (only_missing and classes.exists()):
        write_text(classes, json.dumps(CLASSES, indent=2) + "\n")
    if not (only_missing and points.exists()):
        _, rows = (folder / "crowns.csv").read_text(encoding="utf-8").split("\n", 1)
        write_text(points, f"filename,x,y,label\n{rows}")


def _write_tiles(folder: Path, tiles: int, seed: int) -> list[tuple[str, ...]]:
    """Write the images, the masks and crowns.csv; return the labels of each tile."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    labels: list[tuple[str, ...]] = []
    crowns: dict[str, list[Any]] = {"filename": [], "x": [], "y": [], "class": []}
    for index in tqdm(range(tiles), desc="forest tiles", unit="tile", disable=None):
        tile = make_tile(seed * MAX_TILES + index)
        name = _tile_name(index)
        Image.fromarray(tile.image).save(folder / "images" / name, compress_level=1)
        Image.fromarray(tile.mask).save(folder / "masks" / name, compress_level=1)
        labels.append(tile.labels)
        x, y, genus = tile.crowns.astype(int).T
        crowns["filename"] += [name] * len(x)
        crowns["x"] += x.tolist()
        crowns["y"] += y.tolist()
        crowns["class"] += [CLASSES[index] for index in genus]
    write_table(folder / "crowns.csv", crowns)
    return labels


def write_dataset(folder: Path, tiles: int, seed: int = 0, val_fraction: float = 0.25) -> None:
    """Write a data set of forest tiles, unless the folder already holds this very one.

    The folder gets images/, masks/ (8-bit class indices, and their names in classes.json),
    points.csv (filename,x,y,label: one point a crown, its label the genus; pixels, with (0, 0) the
    center of the top-left one), crowns.csv (the same as filename,x,y,class), splits.csv
    (filename,label,split) and, last, forest.json with the settings.

    Raises:
        UserError: a setting is out of range, the folder holds other data or cannot be written.
    """
    _check_settings(tiles, seed, val_fraction)
    settings = {
        "generator": GENERATOR_VERSION,
        "tiles": tiles,
        "seed": seed,
        "val_fraction": val_fraction,
    }
    try:
        if _is_complete(folder, settings):
            _write_texts(folder, only_missing=True)
            return
        labels = _write_tiles(folder, tiles, seed)
        _write_texts(folder, only_missing=False)
        splits = {
            "filename": [_tile_name(index) for index in range(tiles)],
            "label": [str(list(names)) for names in labels],
            "split": split_tiles(labels, val_fraction, np.random.default_rng([seed, SEED_STREAM])),
        }
        write_table(folder / "splits.csv", splits)
        (folder / "forest.json").write_bytes(_manifest(settings))
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"The forest cannot be written to {folder}: {reason}.") from error
