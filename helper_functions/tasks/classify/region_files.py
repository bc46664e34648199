"""The files of a picture's region map: an overlay, the regions of its pixels, and JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath

import numpy as np
from PIL import Image
from tqdm import tqdm

from helper_functions.results.overlays import draw_legend, legend, overlay
from helper_functions.runtime.files import make_folder, write_atomically
from helper_functions.tasks.classify.region_maps import RegionMap
from helper_functions.tasks.classify.regions import spread_to_pixels

FOLDER = "regions"


def write_png(path: Path, picture: Image.Image) -> None:
    """Write a picture as PNG; what was there stays until the new one is whole."""
    png = io.BytesIO()
    picture.save(png, "PNG")
    write_atomically(path, lambda file: file.write(png.getvalue()), sync=False)


def label_picture(found: RegionMap, height: int, width: int) -> Image.Image:
    """The region of every pixel as a grey picture: 8 bits, 16 for more than 256 regions."""
    labels = spread_to_pixels(found.labels, height, width)
    return Image.fromarray(labels.astype(np.uint8 if len(found.classes) <= 256 else np.uint16))


def to_json(
    found: RegionMap, filename: str, size: tuple[int, int], classes: Sequence[str]
) -> dict[str, object]:
    """A region map as plain data.

    Args:
        found: The region map.
        filename: Its picture.
        size: Width and height of the picture in pixels.
        classes: K names.
    """
    cells = found.cells.tolist()
    return {
        "filename": filename,
        "width": size[0],
        "height": size[1],
        "grid": list(found.labels.shape),
        "labels": found.labels.tolist(),
        "regions": [
            {
                "region": region,
                "class": classes[index],
                "score": round(score, 6),
                "cells": cells[region],
            }
            for region, (index, score) in enumerate(
                zip(found.classes.tolist(), found.scores.tolist(), strict=True)
            )
        ],
    }


def place_inside(folder: Path, filename: str) -> Path:
    """A place for a picture's files that never leaves a folder: without root and ``..``."""
    name = PurePath(filename)
    return folder.joinpath(*(part for part in name.parts if part not in (name.anchor, "..")))


def write_region_map(
    folder: Path, filename: str, image: Image.Image, found: RegionMap, classes: Sequence[str]
) -> None:
    """Write ``FILENAME.overlay.png``, ``FILENAME.labels.png`` and ``FILENAME.json``.

    Args:
        folder: Where to; subfolders in the file name are made.
        filename: Name of the picture.
        image: The picture, RGB.
        found: Its region map.
        classes: K names.
    """
    target = place_inside(folder, filename)
    make_folder(target.parent)
    drawn = draw_legend(overlay(image, found, classes), legend(found, classes))
    write_png(target.with_name(f"{target.name}.overlay.png"), drawn)
    labels = label_picture(found, image.height, image.width)
    write_png(target.with_name(f"{target.name}.labels.png"), labels)
    content = json.dumps(to_json(found, filename, image.size, classes)) + "\n"
    path = target.with_name(f"{target.name}.json")
    write_atomically(path, lambda file: file.write(content.encode()), sync=False)


def write_region_maps(
    output: Path,
    filenames: Sequence[str],
    pictures: Sequence[Path],
    maps: Iterable[RegionMap],
    classes: Sequence[str],
    read: Callable[[Path], Image.Image],
) -> None:
    """Write the region map of every picture into the folder ``regions`` as the maps come in.

    Args:
        output: Folder of the results.
        filenames: N names.
        pictures: Their N files.
        maps: Their N region maps.
        classes: K names.
        read: Decodes a picture.

    Raises:
        ImageError: If a picture cannot be read.
    """
    parts = zip(filenames, pictures, maps, strict=True)
    for filename, picture, found in tqdm(
        parts, desc="region maps", total=len(filenames), disable=None, leave=False
    ):
        write_region_map(output / FOLDER, filename, read(picture), found, classes)
    print(f"The region maps of {len(filenames)} pictures are in {output / FOLDER}.")
