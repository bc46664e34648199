"""Step one: lay out the stands, areas of one age and of one genus or two."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from helper_functions.forest.arrays import FloatArray, IntArray, tints
from helper_functions.forest.genera import CLASSES, CLEARED, FREQUENCY

# At most MAX_STANDS x 2 genera share a tile, so the largest share is at least 1/12, above
# MIN_AREA_SHARE: every tile has a label.
MAX_STANDS = 6
STAND_COUNT_WEIGHTS = (0.2, 0.26, 0.22, 0.16, 0.1, 0.06)
MIXED_STANDS = 0.3  # share of the wooded stands that hold a second genus

_WOODED = np.array([index for index in range(len(CLASSES)) if index != CLEARED])
_WEIGHTS = np.array(list(FREQUENCY.values())) / sum(FREQUENCY.values())


class Stands(NamedTuple):
    """The tile's stands: Voronoi cells of `seeds` in coordinates bent by sine waves."""

    seeds: FloatArray  # (stands, 2) cell centers (x, y) in pixels
    waves: FloatArray  # (2, waves, 3) amplitude, wave number and phase of the bend in x and in y
    genera: IntArray  # (stands, 2) class indices; both are the same in a pure stand
    proportion: FloatArray  # (stands,) share of the crowns that are of the first genus
    age: FloatArray  # (stands,) factor on every length of a crown
    tint: FloatArray  # (stands, 3) factor on the color of the crowns

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


def _wave_sum(waves: FloatArray, along: FloatArray) -> FloatArray:
    """Sum of sine waves (rows of amplitude, wave number, phase) at positions `along`."""
    bend = np.zeros_like(along)
    for amplitude, number, phase in waves:
        bend += amplitude * np.sin(number * along + phase)
    return bend


def lay_out_stands(rng: np.random.Generator, size: int) -> Stands:
    """Draw the number, place, genera, age and tint of a tile's stands."""
    count = int(rng.choice(MAX_STANDS, p=STAND_COUNT_WEIGHTS)) + 1
    genera = np.repeat(rng.choice(len(CLASSES), size=(count, 1), p=_WEIGHTS), 2, axis=1)
    mixed = (rng.random(count) < MIXED_STANDS) & (genera[:, 0] != CLEARED)
    weights = _WEIGHTS[_WOODED] / _WEIGHTS[_WOODED].sum()
    genera[:, 1] = np.where(mixed, rng.choice(_WOODED, size=count, p=weights), genera[:, 0])
    lengths = rng.uniform(25.0, 140.0, (2, 3))
    waves = np.stack(
        [0.06 * lengths, 2.0 * np.pi / lengths, rng.uniform(0.0, 2.0 * np.pi, (2, 3))], axis=-1
    )
    return Stands(
        seeds=rng.uniform(0.0, size, (count, 2)).astype(np.float32),
        waves=waves.astype(np.float32),
        genera=genera,
        proportion=rng.uniform(0.35, 0.65, count).astype(np.float32),
        age=rng.uniform(0.8, 1.22, count).astype(np.float32),
        tint=tints(rng, count, brightness=0.06, hue=0.025),
    )
