"""Procedural aerial tiles of mixed forest, for the demo, the tests and people without data.

A tile imitates the aerial part of TreeSatAI: 304 x 304 RGB pixels of 20 cm, cut into forest stands,
one or two tree genera a stand, some stands cleared. Genera differ a little in colour, crown size,
crown form and texture; light, season and sensor differ from tile to tile, as much as genera do.

A tile is drawn in four steps: lay out the stands, place the crowns, raise the canopy (one height
map in which the higher crown wins each pixel), then light and colour that map.

    python -m helper_functions.forest --output data/forest --tiles 400 --seed 0
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter
from tqdm import tqdm

from helper_functions.errors import UserError

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

GENERATOR_VERSION = 1
TILE_SIZE = 304
SMALLEST_SIZE = 32
MIN_AREA_SHARE = 0.07
MAX_TILES = 100_000  # the file names hold five digits, and the seeds are this far apart

# At most MAX_STANDS x 2 genera share a tile, so the largest share is at least 1/12, above
# MIN_AREA_SHARE: every tile has a label.
MAX_STANDS = 6
STAND_COUNT_WEIGHTS = (0.2, 0.26, 0.22, 0.16, 0.1, 0.06)
MIXED_STANDS = 0.3  # share of the wooded stands that hold a second genus

CROWN_REACH = 1.3  # how far from its centre, in crown radii, a crown claims the ground
SIZE_GROUPS = 4  # into how many groups of like size a genus's crowns are split for drawing
SEED_STREAM = 0x466F72  # keeps these draws apart from other users of the same seed


@dataclass(frozen=True)
class Genus:
    """What a genus looks like from above; lengths are pixels of 20 cm.

    Attributes:
        colour: sunlit crown colour, RGB in 0..255.
        spacing: distance between neighbouring crown centres.
        closure: crown diameter over spacing; above 1 the crowns interlock.
        height: height of the crown's rim above the ground.
        depth: height of the tip above the rim, in crown radii.
        fullness: exponent of the crown's profile: 1 is a cone, 2 a dome, 3 a flat-topped dome.
        lobes: number of lobes (or branches) round the outline.
        lobing: depth of the outline's lobes, as a share of the radius.
        pointed: whether the lobes are pointed (a conifer's star) or round (a broadleaf's clumps).
        clumps: height of the foliage clumps, in pixels.
        clump_size: 0 for small clumps, 1 for large ones, mixed in between.
        leaf: contrast of the finest texture.
        tip: how much brighter the tip is than the rest of the crown.
    """

    colour: tuple[float, float, float]
    spacing: float
    closure: float
    height: float
    depth: float
    fullness: float
    lobes: int
    lobing: float
    pointed: bool
    clumps: float
    clump_size: float
    leaf: float
    tip: float


# How common a genus is among the stands.
FREQUENCY: dict[str, float] = {
    "Abies": 0.045,
    "Acer": 0.055,
    "Alnus": 0.05,
    "Betula": 0.06,
    "Cleared": 0.09,
    "Fagus": 0.125,
    "Fraxinus": 0.045,
    "Larix": 0.06,
    "Picea": 0.13,
    "Pinus": 0.16,
    "Populus": 0.025,
    "Prunus": 0.022,
    "Pseudotsuga": 0.055,
    "Quercus": 0.145,
    "Tilia": 0.025,
}

# fmt: off
# Genera with neighbouring looks, such as Picea and Abies or Quercus and Fagus, differ little on
# purpose: that is what makes the classes fine-grained. Columns follow the attributes of Genus.
GENERA: dict[str, Genus] = {
    "Abies":       Genus((66, 92, 70),   19, 1.20, 26, 1.75, 1.2, 13, .13, True,  .5,  .2, .06, .2),
    "Acer":        Genus((118, 138, 68), 28, 1.18, 34, .75,  2.2, 5,  .14, False, 1.9, .5, .08, 0),
    "Alnus":       Genus((88, 112, 64),  20, 1.16, 28, .90,  1.8, 4,  .10, False, 1.2, .2, .10, 0),
    "Betula":      Genus((122, 142, 86), 19, 1.08, 30, .95,  1.7, 5,  .16, False, 1.0, .1, .13, 0),
    "Cleared":     Genus((112, 122, 70), 34, .24,  1,  1.10, 2.0, 4,  .15, False, .6,  .1, .10, 0),
    "Fagus":       Genus((104, 130, 62), 35, 1.24, 38, .65,  2.5, 6,  .12, False, 1.9, .8, .06, 0),
    "Fraxinus":    Genus((120, 138, 84), 27, 1.10, 36, .85,  2.0, 6,  .22, False, 1.5, .4, .12, 0),
    "Larix":       Genus((108, 128, 78), 21, 1.14, 30, 1.25, 1.4, 11, .14, True,  .7,  .2, .11, .1),
    "Picea":       Genus((68, 92, 62),   17, 1.20, 26, 1.80, 1.1, 12, .16, True,  .5,  .1, .07, .3),
    "Pinus":       Genus((94, 112, 76),  21, 1.10, 30, 1.05, 1.6, 7,  .16, False, 1.4, .3, .10, 0),
    "Populus":     Genus((124, 142, 94), 25, 1.12, 40, 1.15, 1.8, 5,  .14, False, 1.3, .2, .14, 0),
    "Prunus":      Genus((110, 126, 76), 22, 1.14, 28, .80,  2.1, 4,  .12, False, 1.4, .4, .09, 0),
    "Pseudotsuga": Genus((76, 100, 62),  22, 1.20, 28, 1.60, 1.2, 13, .17, True,  .8,  .3, .08, .2),
    "Quercus":     Genus((108, 126, 66), 33, 1.16, 34, .70,  2.2, 7,  .20, False, 2.4, .6, .09, 0),
    "Tilia":       Genus((114, 138, 74), 27, 1.20, 35, .95,  1.9, 5,  .10, False, 1.7, .4, .07, 0),
}
# fmt: on

CLASSES: tuple[str, ...] = tuple(GENERA)
_CLEARED = CLASSES.index("Cleared")
_WOODED = np.array([index for index in range(len(CLASSES)) if index != _CLEARED])
_WEIGHTS = np.array([FREQUENCY[name] for name in CLASSES]) / sum(FREQUENCY.values())

_STUMP = np.array([176, 156, 124], dtype=np.float32)
_GRASS = np.array([136, 142, 88], dtype=np.float32)
_SOIL = np.array([142, 122, 94], dtype=np.float32)
_UNDERSTORY = np.array([66, 70, 46], dtype=np.float32)


@dataclass(frozen=True)
class ForestTile:
    """One tile and everything known about it.

    Attributes:
        image: (size, size, 3) uint8, RGB.
        mask: (size, size) uint8, index into CLASSES of the class at each pixel; ground between two
            crowns belongs to the nearer one.
        crowns: (n, 3) float32, rows of (x, y, class index) for each tree whose centre is seen from
            above, in pixels; a clearing's shrubs and stumps are no trees.
        labels: the classes that cover more than MIN_AREA_SHARE of the tile, sorted.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    crowns: FloatArray
    labels: tuple[str, ...]


@dataclass(frozen=True)
class _Stands:
    """The tile's stands: Voronoi cells of `seeds` in coordinates bent by sine waves.

    Attributes:
        seeds: (stands, 2) cell centres (x, y) in pixels.
        waves: (2, waves, 3) amplitude, wave number and phase of the bend in x and in y.
        genera: (stands, 2) class indices; both are the same in a pure stand.
        proportion: (stands,) share of the crowns that are of the first genus.
        age: (stands,) factor on every length of a crown.
        tint: (stands, 3) factor on the colour of the crowns.
    """

    seeds: FloatArray
    waves: FloatArray
    genera: IntArray
    proportion: FloatArray
    age: FloatArray
    tint: FloatArray

    def at(self, x: FloatArray, y: FloatArray) -> IntArray:
        """Index of the stand at each point; x and y broadcast against each other."""
        bent_x = x + _wave_sum(self.waves[0], y)
        bent_y = y + _wave_sum(self.waves[1], x)
        shape = np.broadcast_shapes(x.shape, y.shape)
        least = np.full(shape, np.inf, dtype=np.float32)
        nearest = np.zeros(shape, dtype=np.int64)
        for stand, (seed_x, seed_y) in enumerate(self.seeds):
            distance = (bent_x - seed_x) ** 2 + (bent_y - seed_y) ** 2
            nearest[distance < least] = stand
            least = np.minimum(least, distance)
        return nearest


@dataclass(frozen=True)
class _Crowns:
    """All crowns of a tile, shrubs of clearings included, one entry a crown.

    Attributes:
        x: (n,) whole-pixel centre.
        y: (n,) whole-pixel centre.
        genus: (n,) class index.
        radius: (n,) pixels.
        height: (n,) pixels from the ground to the crown's rim.
        turn: (n,) rotation of the outline in radians.
        colour: (n, 3) sunlit RGB in 0..255.
    """

    x: IntArray
    y: IntArray
    genus: IntArray
    radius: FloatArray
    height: FloatArray
    turn: FloatArray
    colour: FloatArray


@dataclass(frozen=True)
class _Canopy:
    """The crowns seen from above, per pixel.

    Attributes:
        height: (size, size) pixels above the ground; 0 between crowns.
        owner: (size, size) index of the crown on top or, between crowns, of the nearest one; -1
            where none is near.
        rim: (size, size) distance to that crown's centre: 0 at the tip, 1 at the rim.
    """

    height: FloatArray
    owner: IntArray
    rim: FloatArray


@dataclass(frozen=True)
class _Sun:
    """Direction of the light.

    Attributes:
        east: share of the light's direction towards the sun along x.
        south: the same along y, which grows downwards.
        up: the same upwards.
    """

    east: float
    south: float
    up: float


def _wave_sum(waves: FloatArray, along: FloatArray) -> FloatArray:
    """Sum of sine waves (rows of amplitude, wave number, phase) at positions `along`."""
    bend = np.zeros_like(along)
    for amplitude, number, phase in waves:
        bend += amplitude * np.sin(number * along + phase)
    return bend


def _smooth_noise(rng: np.random.Generator, size: int, sigma: float) -> FloatArray:
    """Noise (size, size) of mean 0 and variance 1, smooth over about `sigma` pixels."""
    coarsening = max(1, int(sigma // 2))
    coarse_size = -(-size // coarsening) + 4
    noise = rng.random((coarse_size, coarse_size), dtype=np.float32)
    noise = gaussian_filter(noise, sigma / coarsening, truncate=2.5, mode="wrap")
    if coarsening > 1:
        noise = noise.repeat(coarsening, axis=0).repeat(coarsening, axis=1)
        noise = uniform_filter(noise, coarsening)
    noise = noise[:size, :size]
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float32)


def _tints(rng: np.random.Generator, count: int, brightness: float, hue: float) -> FloatArray:
    """Colour factors (count, 3) round 1, with log-spread `brightness` and `hue` per channel."""
    logs = rng.normal(0.0, brightness, (count, 1)) + rng.normal(0.0, hue, (count, 3))
    return np.exp(logs).astype(np.float32)


def _lay_out_stands(rng: np.random.Generator, size: int) -> _Stands:
    """Draw the number, place, genera, age and tint of a tile's stands."""
    count = int(rng.choice(MAX_STANDS, p=STAND_COUNT_WEIGHTS)) + 1
    genera = np.repeat(rng.choice(len(CLASSES), size=(count, 1), p=_WEIGHTS), 2, axis=1)
    mixed = (rng.random(count) < MIXED_STANDS) & (genera[:, 0] != _CLEARED)
    weights = _WEIGHTS[_WOODED] / _WEIGHTS[_WOODED].sum()
    genera[:, 1] = np.where(mixed, rng.choice(_WOODED, size=count, p=weights), genera[:, 0])
    lengths = rng.uniform(25.0, 140.0, (2, 3))
    waves = np.stack(
        [0.06 * lengths, 2.0 * np.pi / lengths, rng.uniform(0.0, 2.0 * np.pi, (2, 3))], axis=-1
    )
    return _Stands(
        seeds=rng.uniform(0.0, size, (count, 2)).astype(np.float32),
        waves=waves.astype(np.float32),
        genera=genera,
        proportion=rng.uniform(0.35, 0.65, count).astype(np.float32),
        age=rng.uniform(0.8, 1.22, count).astype(np.float32),
        tint=_tints(rng, count, brightness=0.06, hue=0.025),
    )


def _lattice(rng: np.random.Generator, size: int, spacing: float, jitter: float) -> FloatArray:
    """Points (n, 2) of a turned triangular lattice over the tile, each moved by up to `jitter`."""
    reach = size * 0.75 + spacing  # half the diagonal and a crown more
    rows = np.arange(-reach, reach, spacing * math.sqrt(0.75))
    columns = np.arange(-reach, reach, spacing)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    x[1::2] += spacing / 2.0
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    points += rng.uniform(-jitter, jitter, points.shape) * spacing
    angle = rng.uniform(0.0, np.pi)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return np.asarray(points @ turn + size / 2.0, dtype=np.float32)


def _plant(rng: np.random.Generator, stands: _Stands, stand: int, size: int) -> _Crowns:
    """Place one stand's crowns, those with their centre a little outside the tile included."""
    pair = [GENERA[CLASSES[index]] for index in stands.genera[stand]]
    share, age = float(stands.proportion[stand]), float(stands.age[stand])
    spacing = age * (share * pair[0].spacing + (1.0 - share) * pair[1].spacing)
    points = _lattice(rng, size, spacing, jitter=float(rng.uniform(0.15, 0.36)))
    near = np.all((points > -spacing) & (points < size + spacing), axis=1)
    points = points[near]
    points = points[stands.at(points[:, 0], points[:, 1]) == stand]
    count = len(points)

    second = (rng.random(count) >= share).astype(np.int64)
    radius = np.array([genus.closure * genus.spacing / 2.0 for genus in pair])[second]
    height = np.array([genus.height for genus in pair])[second]
    colour = np.array([genus.colour for genus in pair], dtype=np.float32)[second]
    genera = stands.genera[stand][second]
    stump = (genera == _CLEARED) & (rng.random(count) < 0.6)
    colour[stump] = _STUMP
    spread = np.where(genera == _CLEARED, 0.35, 0.13)
    return _Crowns(
        x=np.rint(points[:, 0]).astype(np.int64),
        y=np.rint(points[:, 1]).astype(np.int64),
        genus=genera,
        radius=(age * radius * np.exp(spread * rng.standard_normal(count))).astype(np.float32),
        height=(age * height * rng.uniform(0.82, 1.18, count)).astype(np.float32),
        turn=rng.uniform(0.0, 2.0 * np.pi, count).astype(np.float32),
        colour=colour * stands.tint[stand] * _tints(rng, count, brightness=0.07, hue=0.025),
    )


def _plant_all(rng: np.random.Generator, stands: _Stands, size: int) -> _Crowns:
    """Place the crowns of every stand."""
    planted = [_plant(rng, stands, stand, size) for stand in range(len(stands.seeds))]
    return _Crowns(
        x=np.concatenate([crowns.x for crowns in planted]),
        y=np.concatenate([crowns.y for crowns in planted]),
        genus=np.concatenate([crowns.genus for crowns in planted]),
        radius=np.concatenate([crowns.radius for crowns in planted]),
        height=np.concatenate([crowns.height for crowns in planted]),
        turn=np.concatenate([crowns.turn for crowns in planted]),
        colour=np.concatenate([crowns.colour for crowns in planted]),
    )


def _outline(genus: Genus, angle: FloatArray, turn: FloatArray) -> FloatArray:
    """Outline (crowns, points) in crown radii; angle is (points,), turn (crowns, 1)."""
    half_lobe = 0.5 * genus.lobes * angle + turn
    wave = 1.0 - np.abs(np.sin(half_lobe)) if genus.pointed else np.abs(np.cos(half_lobe))
    oval = 0.07 * np.cos(2.0 * angle + 3.0 * turn)
    return np.asarray(1.0 + genus.lobing * (wave - 0.5) + oval, dtype=np.float32)


def _samples(
    crowns: _Crowns, members: IntArray, genus: Genus, pad: int, width: int
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Every pixel that a group of crowns reaches.

    Args:
        crowns: all crowns of the tile.
        members: (m,) indices of the group's crowns, all of one genus.
        genus: how to draw them.
        pad: margin round the tile in pixels, wide enough for every crown.
        width: side of the padded tile in pixels.

    Returns:
        Four arrays, one entry a crown and pixel: the crown's index, the pixel's flat index in the
        padded tile, the distance to the centre in outline radii, and the crown's height there.
        Beyond the rim the height is minus the distance, so that any crown beats the ground and the
        nearer crown wins the ground.
    """
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
    centre = (crowns.y[members, None] + pad) * width + crowns.x[members, None] + pad
    pixel = (centre + dy * width + dx).take(chosen)
    rim = rim.take(chosen)
    dome = crowns.height[crown] + genus.depth * crowns.radius[crown] * (1 - rim**genus.fullness)
    height = np.where(rim <= 1.0, dome, -rim)
    return crown, pixel, np.asarray(rim), np.asarray(height, dtype=np.float32)


def _alike(crowns: _Crowns) -> Iterator[tuple[Genus, IntArray]]:
    """Groups of crowns of one genus and like size: they share one window of pixels."""
    for index in np.unique(crowns.genus):
        members = np.flatnonzero(crowns.genus == index)
        members = members[np.argsort(crowns.radius[members], kind="stable")]
        for group in np.array_split(members, min(SIZE_GROUPS, len(members))):
            yield GENERA[CLASSES[index]], group


def _padding(crowns: _Crowns, size: int) -> int:
    """Width of a margin round the tile that holds every crown whole."""
    low = min(crowns.x.min(initial=0), crowns.y.min(initial=0))
    high = max(crowns.x.max(initial=0), crowns.y.max(initial=0))
    overshoot = max(-int(low), int(high) - size + 1, 0)
    return overshoot + math.ceil(CROWN_REACH * float(crowns.radius.max(initial=0.0)))


def _raise_canopy(crowns: _Crowns, size: int) -> _Canopy:
    """Draw the crowns, a group at a time: the highest crown wins each pixel."""
    pad = _padding(crowns, size)
    width = size + 2 * pad
    top = np.full(width**2, -np.inf, dtype=np.float32)
    owner = np.full(width**2, -1, dtype=np.int64)
    rims = np.full(width**2, CROWN_REACH, dtype=np.float32)
    for genus, members in _alike(crowns):
        crown, pixel, rim, height = _samples(crowns, members, genus, pad, width)
        np.maximum.at(top, pixel, height)
        won = np.flatnonzero(height == top[pixel])
        owner[pixel[won]] = crown[won]
        rims[pixel[won]] = rim[won]
    tile = (slice(pad, pad + size), slice(pad, pad + size))
    square = (width, width)
    return _Canopy(
        height=np.maximum(top.reshape(square)[tile], 0.0),
        owner=owner.reshape(square)[tile],
        rim=rims.reshape(square)[tile],
    )


def _class_map(canopy: _Canopy, crowns: _Crowns, ground: IntArray) -> IntArray:
    """Class index of each pixel.

    Args:
        canopy: the crowns seen from above.
        crowns: all crowns of the tile.
        ground: (size, size) class of the stand at each pixel, its first genus if it is mixed.

    Returns:
        (size, size) the class of the crown on top or nearest; the stand's where no crown is near
        and on all open ground of a clearing.
    """
    nearest = np.append(crowns.genus, -1)[canopy.owner]
    bare = (canopy.owner < 0) | ((canopy.height <= 0.0) & (ground == _CLEARED))
    # A clearing's shrub does not claim the forest floor of the stand beside it.
    bare |= (canopy.height <= 0.0) & (nearest == _CLEARED)
    return np.where(bare, ground, nearest)


def _draw_sun(rng: np.random.Generator) -> _Sun:
    """Draw a late-morning to early-afternoon sun, from the southern half of the sky."""
    azimuth = rng.uniform(0.15 * np.pi, 0.85 * np.pi)
    elevation = rng.uniform(0.22 * np.pi, 0.33 * np.pi)
    level = math.cos(elevation)
    return _Sun(level * math.cos(azimuth), level * math.sin(azimuth), math.sin(elevation))


def _shifted(heights: FloatArray, dx: int, dy: int) -> FloatArray:
    """The map seen (dx, dy) pixels away from each pixel; the border repeats outwards."""
    rows = np.clip(np.arange(heights.shape[0]) + dy, 0, heights.shape[0] - 1)
    columns = np.clip(np.arange(heights.shape[1]) + dx, 0, heights.shape[1] - 1)
    return np.asarray(heights.take(rows, axis=0).take(columns, axis=1))


def _sunlit(heights: FloatArray, sun: _Sun) -> FloatArray:
    """Share (size, size) of direct sun at each pixel: 0 in a cast shadow, 1 in the open.

    The horizon towards the sun is a running maximum along the ray; it is built by doubling its
    length, 64 pixels in six steps.
    """
    level = math.hypot(sun.east, sun.south)
    drop = sun.up / level  # by how much the ray rises a pixel
    horizon = heights
    for length in (1, 2, 4, 8, 16, 32):
        dx, dy = round(length * sun.east / level), round(length * sun.south / level)
        horizon = np.maximum(horizon, _shifted(horizon, dx, dy) - np.float32(length * drop))
    return np.asarray(1.0 - np.clip((horizon - heights) / 3.0, 0.0, 1.0))


def _facing(heights: FloatArray, sun: _Sun) -> FloatArray:
    """Light (size, size) a surface takes from the sun: 1 face on, still some on the far side.

    Foliage lets light through, so Lambert's cosine is softened.
    """
    slope_y, slope_x = (np.clip(slope, -2.2, 2.2) for slope in np.gradient(heights))
    cosine = sun.up - sun.east * slope_x - sun.south * slope_y
    cosine /= np.sqrt(1.0 + slope_x**2 + slope_y**2)
    return np.asarray(np.maximum(0.2 + 0.8 * cosine, 0.0))


def _ground_colour(cleared: BoolArray, patches: FloatArray, tufts: FloatArray) -> FloatArray:
    """Colour of the ground: dark understory, or the grass and soil of a clearing.

    Args:
        cleared: (n,) whether the pixel lies in a clearing.
        patches: (n,) share of grass there, before it is clipped to 0..1.
        tufts: (n,) factor on the brightness.

    Returns:
        (3, n) RGB, roughly 0..255.
    """
    clearing = _SOIL[:, None] + np.clip(patches, 0.0, 1.0) * (_GRASS - _SOIL)[:, None]
    colour = np.where(cleared, clearing, _UNDERSTORY[:, None])
    return np.asarray(colour * tufts, dtype=np.float32)


def _per_pixel(classes: IntArray, attribute: str) -> FloatArray:
    """One number of the genus table at every pixel of a class map."""
    table = [getattr(genus, attribute) for genus in GENERA.values()]
    return np.array(table, dtype=np.float32)[classes]


def _light(
    rng: np.random.Generator, canopy: _Canopy, crowns: _Crowns, classes: IntArray, ground: IntArray
) -> FloatArray:
    """Colour the canopy and the ground and light them.

    Args:
        rng: source of the foliage's texture and of the sun.
        canopy: the crowns seen from above.
        crowns: all crowns of the tile.
        classes: (size, size) class of each pixel.
        ground: (size, size) class of the stand at each pixel.

    Returns:
        (3, size, size) radiance, roughly 0..255; numpy is much faster with the channels in front.
    """
    size = len(classes)
    covered = canopy.height > 0.0
    leaf, small, large = (_smooth_noise(rng, size, sigma) for sigma in (0.6, 1.7, 3.4))
    # Folded noise has rounded tops and sharp creases, like foliage clumps.
    mix = _per_pixel(classes, "clump_size")
    clumps = (1.0 - mix) * np.abs(small) + 1.6 * mix * np.abs(large)
    relief = _per_pixel(classes, "clumps") * clumps
    heights = canopy.height + np.where(covered, relief, 0.0).astype(np.float32)

    sun = _draw_sun(rng)
    sky = np.where(covered, 0.44 - 0.18 * np.minimum(canopy.rim, 1.0) ** 2, 0.28)
    light = sky + 0.88 * _sunlit(heights, sun) * _facing(heights, sun)
    light *= 1.0 + _per_pixel(classes, "leaf") * leaf
    light *= 1.0 + _per_pixel(classes, "tip") * np.maximum(1.0 - 2.0 * canopy.rim, 0.0)

    patches = 0.5 + 0.6 * _smooth_noise(rng, size, 12.0) + rng.normal(0.0, 0.5)
    tufts = 1.0 + 0.07 * small + 0.05 * large
    gaps = ~covered
    colour = crowns.colour.T.take(canopy.owner, axis=1)
    colour[:, gaps] = _ground_colour(ground[gaps] == _CLEARED, patches[gaps], tufts[gaps])
    return np.asarray(colour * light, dtype=np.float32)


def _expose(rng: np.random.Generator, radiance: FloatArray) -> npt.NDArray[np.uint8]:
    """Photograph the (3, size, size) scene: season, exposure, haze, lens blur, sensor noise.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    tile_tint = _tints(rng, 1, brightness=0.10, hue=0.03).reshape(3, 1, 1)
    haze = np.array([0.9, 1.0, 1.15], dtype=np.float32) * np.float32(rng.uniform(4.0, 20.0))
    blur = rng.uniform(0.35, 0.75)
    image = gaussian_filter(radiance * tile_tint, blur, axes=(1, 2), truncate=2.0)
    image += haze.reshape(3, 1, 1)
    noise = rng.random(image.shape, dtype=np.float32) - np.float32(0.5)
    image += np.float32(rng.uniform(5.0, 14.0)) * noise
    pixels = np.clip(image, 0.0, 255.0).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _labels(mask: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    """Classes that cover more than MIN_AREA_SHARE of the mask, in the order of CLASSES."""
    shares = np.bincount(mask.ravel(), minlength=len(CLASSES)) / mask.size
    return tuple(
        name for name, share in zip(CLASSES, shares, strict=True) if share > MIN_AREA_SHARE
    )


def _visible_trees(crowns: _Crowns, mask: npt.NDArray[np.uint8], canopy: _Canopy) -> FloatArray:
    """Rows (x, y, class index) of the trees that are on top at their own centre."""
    size = len(mask)
    within = (crowns.x >= 0) & (crowns.x < size) & (crowns.y >= 0) & (crowns.y < size)
    tree = np.nonzero(within & (crowns.genus != _CLEARED))[0]
    seen = tree[canopy.owner[crowns.y[tree], crowns.x[tree]] == tree]
    rows = np.stack([crowns.x[seen], crowns.y[seen], crowns.genus[seen]], axis=1)
    return rows.astype(np.float32)


def make_tile(seed: int, size: int = TILE_SIZE) -> ForestTile:
    """Draw one tile; the same seed and size always give the same tile.

    Args:
        seed: any whole number from 0.
        size: side of the tile in pixels of 20 cm; crowns keep their size, so a smaller tile shows
            less forest.

    Raises:
        UserError: the seed is negative or the size is too small.
    """
    if seed < 0:
        raise UserError(f"The seed must be 0 or more, not {seed}.")
    if size < SMALLEST_SIZE:
        raise UserError(f"A forest tile needs at least {SMALLEST_SIZE} pixels a side, not {size}.")
    rng = np.random.default_rng([seed, SEED_STREAM])
    stands = _lay_out_stands(rng, size)
    crowns = _plant_all(rng, stands, size)
    canopy = _raise_canopy(crowns, size)
    axis = np.arange(size, dtype=np.float32)
    ground = stands.genera[:, 0][stands.at(axis[None, :], axis[:, None])]
    classes = _class_map(canopy, crowns, ground)
    image = _expose(rng, _light(rng, canopy, crowns, classes, ground))
    mask = classes.astype(np.uint8)
    return ForestTile(image, mask, _visible_trees(crowns, mask, canopy), _labels(mask))


def split_tiles(
    labels: Sequence[Sequence[str]], val_fraction: float, rng: np.random.Generator
) -> list[str]:
    """Divide tiles into "train" and "val" so that rare classes are in both.

    Tiles go to val one by one. Each time the tile is taken that robs train of the fewest classes,
    then brings val the most classes it lacks, then keeps the classes' shares in val most even.

    Args:
        labels: the classes of each tile.
        val_fraction: share of the tiles in val, between 0 and 1; both parts get a tile where there
            are two.
        rng: decides between equally good tiles.

    Returns:
        "train" or "val" for each tile.
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
    """Refuse numbers no data set can be made from."""
    if not 1 <= tiles <= MAX_TILES:
        raise UserError(f"The number of tiles must be from 1 to {MAX_TILES}, not {tiles}.")
    if seed < 0:
        raise UserError(f"The seed must be 0 or more, not {seed}.")
    if not 0.0 < val_fraction < 1.0:
        raise UserError(f"The val fraction must lie between 0 and 1, not at {val_fraction}.")


def _is_complete(folder: Path, settings: dict[str, float]) -> bool:
    """Whether the folder already holds exactly this data set.

    Raises:
        UserError: it holds another data set, which would be overwritten.
    """
    manifest = folder / "forest.json"
    if not manifest.exists():
        if (folder / "splits.csv").exists():
            raise UserError(
                f"The folder {folder} holds a splits.csv but no finished forest; "
                "choose another folder or delete that file."
            )
        return False
    if manifest.read_bytes() != _manifest(settings):
        raise UserError(
            f"The folder {folder} holds a forest made with other settings; "
            "choose another folder or delete it."
        )
    names = [_tile_name(index) for index in range(int(settings["tiles"]))]
    parts = [folder / kind / name for kind in ("images", "masks") for name in names]
    return all(path.exists() for path in [*parts, folder / "crowns.csv", folder / "splits.csv"])


def _manifest(settings: dict[str, float]) -> bytes:
    return (json.dumps(settings, indent=2) + "\n").encode()


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _write_tiles(folder: Path, tiles: int, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Write the images and masks.

    Returns:
        The labels of each tile, and the rows of crowns.csv.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    labels: list[list[str]] = []
    crowns: list[list[str]] = []
    for index in tqdm(range(tiles), desc="forest tiles", unit="tile"):
        tile = make_tile(seed * MAX_TILES + index)
        name = _tile_name(index)
        Image.fromarray(tile.image).save(folder / "images" / name, compress_level=1)
        Image.fromarray(tile.mask).save(folder / "masks" / name, compress_level=1)
        labels.append(list(tile.labels))
        crowns += [[name, f"{x:.0f}", f"{y:.0f}", CLASSES[int(c)]] for x, y, c in tile.crowns]
    return labels, crowns


def write_dataset(folder: Path, tiles: int, seed: int = 0, val_fraction: float = 0.25) -> None:
    """Write a data set of forest tiles, unless the folder already holds this very one.

    The folder gets images/, masks/ (8-bit class indices), crowns.csv (filename,x,y,class),
    splits.csv (filename,label,split) and, last, forest.json with the settings.

    Args:
        folder: where to write; made if it is missing.
        tiles: number of tiles.
        seed: another seed gives another forest.
        val_fraction: share of the tiles in the val split.

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
            return
        labels, crowns = _write_tiles(folder, tiles, seed)
        splits = split_tiles(labels, val_fraction, np.random.default_rng([seed, SEED_STREAM]))
        rows = [
            [_tile_name(index), str(row), split]
            for index, (row, split) in enumerate(zip(labels, splits, strict=True))
        ]
        _write_csv(folder / "crowns.csv", ("filename", "x", "y", "class"), crowns)
        _write_csv(folder / "splits.csv", ("filename", "label", "split"), rows)
        (folder / "forest.json").write_bytes(_manifest(settings))
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"The forest cannot be written to {folder}: {reason}.") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m helper_functions.forest",
        description="Write a data set of procedural aerial forest tiles.",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--tiles", type=int, default=400, help="number of tiles (default 400)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the forest (default 0)")
    options = parser.parse_args(arguments)
    try:
        write_dataset(options.output, options.tiles, options.seed)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
