"""Step three: raise the canopy, one height map in which the higher crown wins each pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from helper_functions.forest.arrays import FloatArray, IntArray
from helper_functions.forest.crowns import Crowns
from helper_functions.forest.genera import CLASSES, CLEARED, GENERA, Genus

CROWN_REACH = 1.3  # how far from its center, in crown radii, a crown claims the ground
SIZE_GROUPS = 4  # into how many groups of like size a genus's crowns are split for drawing


class Canopy(NamedTuple):
    """The crowns seen from above, (size, size) each."""

    height: FloatArray  # pixels above the ground; 0 between crowns
    owner: IntArray  # crown on top or, between crowns, the nearest one; -1 where none is near
    rim: FloatArray  # distance to that crown's center: 0 at the tip, 1 at the rim


def _outline(genus: Genus, angle: FloatArray, turn: FloatArray) -> FloatArray:
    """Outline (crowns, points) in crown radii; angle is (points,), turn (crowns, 1)."""
    half_lobe = 0.5 * genus.lobes * angle + turn
    wave = 1.0 - np.abs(np.sin(half_lobe)) if genus.pointed else np.abs(np.cos(half_lobe))
    oval = 0.07 * np.cos(2.0 * angle + 3.0 * turn)
    return np.asarray(1.0 + genus.lobing * (wave - 0.5) + oval, dtype=np.float32)


def _samples(
    crowns: Crowns, members: IntArray, pad: int, width: int
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Every pixel that a group of crowns reaches.

    Args:
        crowns: all crowns of the tile.
        members: (m,) indices of the group's crowns, all of one genus.
        pad: margin round the tile in pixels, wide enough for every crown.
        width: side of the padded tile in pixels.

    Returns:
        Four arrays, one entry a crown and pixel: the crown's index, the pixel's flat index in the
        padded tile, the distance to the center in outline radii, and the crown's height there.
        Beyond the rim the height is minus the distance, so that any crown beats the ground and the
        nearer crown wins the ground.
    """
    genus = GENERA[CLASSES[crowns.genus[members[0]]]]
    radius = crowns.radius[members, None]
    reach = math.ceil(CROWN_REACH * float(radius.max()))
    side = np.arange(-reach, reach + 1)
    dx, dy = (grid.ravel() for grid in np.meshgrid(side, side))
    disc = dx**2 + dy**2 <= reach**2
    dx, dy = dx[disc], dy[disc]
    angle = np.arctan2(dy, dx).astype(np.float32)
    rim = np.hypot(dx, dy).astype(np.float32) / radius
    rim /= _outline(genus, angle, crowns.turn[members, None])

    near = rim < CROWN_REACH
    crown = np.repeat(members, np.count_nonzero(near, axis=1))
    chosen = np.flatnonzero(near)
    center = (crowns.y[members, None] + pad) * width + crowns.x[members, None] + pad
    pixel = (center + dy * width + dx).take(chosen)
    rim = rim.take(chosen)
    dome = crowns.height[crown] + genus.depth * crowns.radius[crown] * (1 - rim**genus.fullness)
    height = np.where(rim <= 1.0, dome, -rim)
    return crown, pixel, np.asarray(rim), np.asarray(height, dtype=np.float32)


def _alike(crowns: Crowns) -> Iterator[IntArray]:
    """Groups of crowns of one genus and like size: they share one window of pixels."""
    for index in np.unique(crowns.genus):
        members = np.flatnonzero(crowns.genus == index)
        members = members[np.argsort(crowns.radius[members], kind="stable")]
        yield from np.array_split(members, min(SIZE_GROUPS, len(members)))


def _padding(crowns: Crowns, size: int) -> int:
    """Width of a margin round the tile that holds every crown whole."""
    low = min(crowns.x.min(initial=0), crowns.y.min(initial=0))
    high = max(crowns.x.max(initial=0), crowns.y.max(initial=0))
    overshoot = max(-int(low), int(high) - size + 1, 0)
    return overshoot + math.ceil(CROWN_REACH * float(crowns.radius.max(initial=0.0)))


def raise_canopy(crowns: Crowns, size: int) -> Canopy:
    """Draw the crowns, a group at a time: the highest crown wins each pixel."""
    pad = _padding(crowns, size)
    width = size + 2 * pad
    top = np.full(width**2, -np.inf, dtype=np.float32)
    owner = np.full(width**2, -1, dtype=np.int64)
    rims = np.full(width**2, CROWN_REACH, dtype=np.float32)
    for members in _alike(crowns):
        crown, pixel, rim, height = _samples(crowns, members, pad, width)
        np.maximum.at(top, pixel, height)
        won = np.flatnonzero(height == top[pixel])
        owner[pixel[won]] = crown[won]
        rims[pixel[won]] = rim[won]
    tile = (slice(pad, pad + size), slice(pad, pad + size))
    square = (width, width)
    height = np.maximum(top.reshape(square)[tile], 0.0)
    return Canopy(height, owner.reshape(square)[tile], rims.reshape(square)[tile])


def class_map(canopy: Canopy, crowns: Crowns, ground: IntArray) -> IntArray:
    """Class index of each pixel, (size, size): of the crown on top or nearest.

    Where no crown is near, and on all open ground of a clearing, it is that of the stand: `ground`
    (size, size), the first genus of a mixed one.
    """
    nearest = np.append(crowns.genus, -1)[canopy.owner]
    bare = (canopy.owner < 0) | ((canopy.height <= 0.0) & (ground == CLEARED))
    # A clearing's shrub does not claim the forest floor of the stand beside it.
    bare |= (canopy.height <= 0.0) & (nearest == CLEARED)
    return np.where(bare, ground, nearest)
