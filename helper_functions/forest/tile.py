"""One tile, from its seed to its image, mask, trees and labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from helper_functions.forest.arrays import ByteArray, FloatArray
from helper_functions.forest.canopy import Canopy, class_map, raise_canopy
from helper_functions.forest.crowns import Crowns, plant_all
from helper_functions.forest.genera import CLASSES, CLEARED
from helper_functions.forest.light import expose, light_scene
from helper_functions.forest.stands import lay_out_stands
from helper_functions.runtime.errors import UserError

TILE_SIZE = 304
SMALLEST_SIZE = 32
MIN_AREA_SHARE = 0.07
SEED_STREAM = 0x466F72  # keeps these draws apart from other users of the same seed


class ForestTile(NamedTuple):
    """One tile and everything known about it.

    Ground between two crowns belongs to the nearer one. `crowns` holds the trees whose center is
    seen from above; a clearing's shrubs and stumps are no trees.
    """

    image: ByteArray  # (size, size, 3) RGB
    mask: ByteArray  # (size, size) index into CLASSES
    crowns: FloatArray  # (n, 3) rows of (x, y, class index), in pixels
    labels: tuple[str, ...]  # the classes that cover more than MIN_AREA_SHARE of the tile, sorted


def _visible_trees(crowns: Crowns, mask: ByteArray, canopy: Canopy) -> FloatArray:
    """Rows (x, y, class index) of the trees that are on top at their own center."""
    size = len(mask)
    within = (crowns.x >= 0) & (crowns.x < size) & (crowns.y >= 0) & (crowns.y < size)
    tree = np.nonzero(within & (crowns.genus != CLEARED))[0]
    seen = tree[canopy.owner[crowns.y[tree], crowns.x[tree]] == tree]
    rows = np.stack([crowns.x[seen], crowns.y[seen], crowns.genus[seen]], axis=1)
    return rows.astype(np.float32)


def make_tile(seed: int, size: int = TILE_SIZE) -> ForestTile:
    """Draw one tile of `size` pixels of 20 cm a side; the same arguments give the same tile.

    Raises:
        UserError: the seed is negative or the size is too small.
    """
    if seed < 0:
        raise UserError(f"The seed must be 0 or more, not {seed}.")
    if size < SMALLEST_SIZE:
        raise UserError(f"A forest tile needs at least {SMALLEST_SIZE} pixels a side, not {size}.")
    rng = np.random.default_rng([seed, SEED_STREAM])
    stands = lay_out_stands(rng, size)
    crowns = plant_all(rng, stands, size)
    canopy = raise_canopy(crowns, size)
    axis = np.arange(size, dtype=np.float32)
    ground = stands.genera[:, 0][stands.at(axis[None, :], axis[:, None])]
    classes = class_map(canopy, crowns, ground)
    image = expose(rng, light_scene(rng, canopy, crowns, classes, ground))
    mask = classes.astype(np.uint8)
    shares = np.bincount(mask.ravel(), minlength=len(CLASSES)) / mask.size
    labels = tuple(CLASSES[index] for index in np.flatnonzero(shares > MIN_AREA_SHARE))
    return ForestTile(image, mask, _visible_trees(crowns, mask, canopy), labels)
