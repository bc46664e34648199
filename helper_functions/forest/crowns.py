"""Step two: place the crowns of each stand."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from helper_functions.forest.arrays import FloatArray, IntArray, tints
from helper_functions.forest.genera import CLASSES, CLEARED, GENERA
from helper_functions.forest.stands import Stands

_STUMP = np.array([176, 156, 124], dtype=np.float32)


class Crowns(NamedTuple):
    """The n crowns of a tile, shrubs of clearings included; (n,) each."""

    x: IntArray  # whole-pixel center
    y: IntArray
    genus: IntArray  # class index
    radius: FloatArray  # pixels
    height: FloatArray  # pixels from the ground to the crown's rim
    turn: FloatArray  # rotation of the outline in radians
    color: FloatArray  # (n, 3) sunlit RGB in 0..255


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


def _plant(rng: np.random.Generator, stands: Stands, stand: int, size: int) -> Crowns:
    """Place one stand's crowns, those with their center a little outside the tile included."""
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
    color = np.array([genus.color for genus in pair], dtype=np.float32)[second]
    genera = stands.genera[stand][second]
    stump = (genera == CLEARED) & (rng.random(count) < 0.6)
    color[stump] = _STUMP
    spread = np.where(genera == CLEARED, 0.35, 0.13)
    return Crowns(
        x=np.rint(points[:, 0]).astype(np.int64),
        y=np.rint(points[:, 1]).astype(np.int64),
        genus=genera,
        radius=(age * radius * np.exp(spread * rng.standard_normal(count))).astype(np.float32),
        height=(age * height * rng.uniform(0.82, 1.18, count)).astype(np.float32),
        turn=rng.uniform(0.0, 2.0 * np.pi, count).astype(np.float32),
        color=color * stands.tint[stand] * tints(rng, count, brightness=0.07, hue=0.025),
    )


def plant_all(rng: np.random.Generator, stands: Stands, size: int) -> Crowns:
    """Place the crowns of every stand."""
    planted = [_plant(rng, stands, stand, size) for stand in range(len(stands.seeds))]
    return Crowns(*map(np.concatenate, zip(*planted, strict=True)))
