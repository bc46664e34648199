"""ShanghaiTech, part A or B: crowds, and the heads in MATLAB files."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from helper_functions import cli
from helper_functions.prepare.mat_files import read_mat
from helper_functions.prepare.point_rows import Point, PointResult, add_outside_flag
from helper_functions.prepare.rows import Row
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError

HELP = "ShanghaiTech part A or B, heads of crowds"
CUTS = False  # val is the end of the training part

PARTS = {part: (f"part_{part}", f"part_{part}_final") for part in ("A", "B")}
TRUTH = ("ground-truth", "ground_truth")
_ADVICE = "unpack the download there"
_NAME = re.compile(r"IMG_(\d{1,9})\.jpg", re.IGNORECASE)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the part and of the validation split."""
    parser.add_argument("--part", choices=PARTS, help="default: the one that is there")
    count = "as validation, the last training images by number (default: 50)"
    parser.add_argument("--val-images", type=cli.number(int, 1, 10_000), default=50, help=count)
    add_outside_flag(parser, "clamp")


def _part_folder(options: argparse.Namespace, sources: Sources) -> Path:
    """Return the folder of the part: the one asked for, the only one, or the raw folder itself."""
    parts = (options.part,) if options.part else tuple(PARTS)
    names = [name for part in parts for name in PARTS[part]]
    folders = [
        folder
        for folder in (*map(sources.folder.joinpath, names), sources.folder)
        if (folder / "train_data" / "images").is_dir()
    ]
    if not folders:
        raise UserError(f"{sources.folder} holds no {names[0]}/train_data/images; {_ADVICE}.")
    if len(folders) > 1:
        found = " and ".join(folder.name for folder in folders)
        raise UserError(f"{sources.folder} holds {found}; choose one by --part.")
    return folders[0]


def _numbered_images(folder: Path) -> list[str]:
    """Return the names of the images, ``IMG_N.jpg``, by number."""
    found = [
        (int(match[1]), path.name)
        for path in folder.glob("*")
        if (match := _NAME.fullmatch(path.name))
    ]
    if not found:
        raise UserError(f"{folder} holds no IMG_N.jpg; {_ADVICE}.")
    return [name for _, name in sorted(found)]


def _locations(value: Any, path: Path) -> list[list[float]]:
    """Return x and y of every head in ``image_info``, in MATLAB's coordinates."""
    # A cell that holds a struct, whose first field is the matrix
    while isinstance(value, (list, dict)) and len(value) > 0:
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    advice = "image_info should hold a matrix of x and y, one row a head"
    if not isinstance(value, np.ndarray):
        raise UserError(f"{path}: {advice}.")
    if value.size == 0:
        return []
    if value.ndim != 2 or value.shape[1] != 2:
        raise UserError(f"{path}: {advice}, not {' x '.join(map(str, value.shape))} numbers.")
    if not np.isfinite(value).all():
        row = int(np.argmin(np.isfinite(value).all(axis=1))) + 1
        raise UserError(f"{path}: row {row} of the locations is not finite.")
    locations: list[list[float]] = value.astype(float).tolist()
    return locations


def read(options: argparse.Namespace, sources: Sources) -> PointResult:
    """List the images of both parts and read their heads.

    Raises:
        UserError: If a file is missing or wrong, or too few images are there to cut validation.
    """
    folder = _part_folder(options, sources)
    result = PointResult(folder, "the heads in image_info; there are no classes")
    for subset in ("train", "test"):
        below = folder / f"{subset}_data"
        if subset == "test" and not below.is_dir():
            result.notes.append("There is no test_data, hence no split test.")
            continue
        names = _numbered_images(below / "images")
        in_training = len(names)
        if subset == "train":
            in_training -= options.val_images
            if in_training < 1:
                raise UserError(
                    f"{below / 'images'} holds {len(names)} images; choose a --val-images below "
                    f"that, to leave some for training."
                )
        truth = next((below / name for name in TRUTH if (below / name).is_dir()), below / TRUTH[0])
        for index, name in enumerate(tqdm(names, desc=subset, disable=None, leave=False)):
            filename = f"{subset}_data/images/{name}"
            path = truth / f"GT_{Path(name).stem}.mat"
            if not path.is_file():
                result.skipped.append((filename, "its ground truth is not there"))
                continue
            group = f"{sources.name(truth)}/*.mat"
            value = read_mat(sources.content(path, group), path, "image_info")
            result.points[filename] = [
                # The center of MATLAB's first pixel is (1, 1).
                Point(x - 1, y - 1, None, f"{path}, row {row} of the locations")
                for row, (x, y) in enumerate(_locations(value, path), 1)
            ]
            split = subset if index < in_training else "val"
            result.rows.append(Row(filename, (), split))
    result.notes.append(
        f"The split val is the last {options.val_images} training images by number; the authors "
        f"of LCFCN took the last 50 in the order of the file system."
    )
    return result
