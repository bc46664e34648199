"""The files of an image's region map: an overlay, the regions of its pixels, and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from helper_functions.results.overlays import spread_to_pixels, write_image
from helper_functions.runtime.files import make_folder, output_names, write_atomically
from helper_functions.tasks.classify.region_maps import RegionMap, overlay_regions

FOLDER = "regions"
ENDINGS = (".overlay.png", ".labels.png", ".json")


def label_image(region_map: RegionMap, height: int, width: int) -> Image.Image:
    """Return the region of every pixel as a gray image: 8 bits, 16 for more than 256 regions."""
    labels = spread_to_pixels(region_map.labels, height, width)
    return Image.fromarray(labels.astype(np.uint8 if len(region_map.classes) <= 256 else np.uint16))


def to_json(
    region_map: RegionMap, filename: str, size: tuple[int, int], classes: Sequence[str]
) -> dict[str, object]:
    """Return the region map of an image as plain data; its size is width and height in pixels."""
    columns = (region_map.classes.tolist(), region_map.scores.tolist(), region_map.cells.tolist())
    return {
        "filename": filename,
        "width": size[0],
        "height": size[1],
        "grid": list(region_map.labels.shape),
        "labels": region_map.labels.tolist(),
        "regions": [
            {"region": region, "class": classes[k], "score": round(score, 6), "cells": cells}
            for region, (k, score, cells) in enumerate(zip(*columns, strict=True))
        ],
    }


def write_region_map(
    target: Path,
    filename: str,
    image: Image.Image,
    region_map: RegionMap,
    classes: Sequence[str],
) -> None:
    """Write the files of an image: a target's path, followed by each of ``ENDINGS``."""
    make_folder(target.parent)
    overlay, labels, data = (target.with_name(target.name + ending) for ending in ENDINGS)
    write_image(overlay, overlay_regions(image, region_map, classes))
    write_image(labels, label_image(region_map, image.height, image.width))
    content = json.dumps(to_json(region_map, filename, image.size, classes)) + "\n"
    write_atomically(data, lambda file: file.write(content.encode()), sync=False)


def write_region_maps(
    output: Path,
    filenames: Sequence[str],
    paths: Sequence[Path],
    maps: Iterable[RegionMap],
    classes: Sequence[str],
    read: Callable[[Path], Image.Image],
) -> None:
    """Write the region map of every image into the folder ``regions`` as the maps come in.

    The files are named by ``output_names``, so that none leaves the folder or replaces another.

    Args:
        output: Folder of the results.
        filenames: N names of images.
        paths: Their N files.
        maps: Their N region maps.
        classes: K names.
        read: Decodes an image.

    Raises:
        ImageError: If an image cannot be read.
    """
    bar = tqdm(filenames, desc="region maps", disable=None, leave=False)
    targets = output_names(filenames, *ENDINGS)
    for filename, target, path, region_map in zip(bar, targets, paths, maps, strict=True):
        write_region_map(output / FOLDER / target, filename, read(path), region_map, classes)
    print(f"The region maps of {len(filenames)} images are in {output / FOLDER}.")
