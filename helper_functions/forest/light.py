"""Step four: light and color the canopy, then photograph it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from helper_functions.forest.arrays import (
    BoolArray,
    ByteArray,
    FloatArray,
    IntArray,
    smooth_noise,
    tints,
)
from helper_functions.forest.canopy import Canopy
from helper_functions.forest.crowns import Crowns
from helper_functions.forest.genera import CLEARED, GENERA

_GRASS = np.array([136, 142, 88], dtype=np.float32)
_SOIL = np.array([142, 122, 94], dtype=np.float32)
_UNDERSTORY = np.array([66, 70, 46], dtype=np.float32)


class _Sun(NamedTuple):
    """Unit vector towards the sun: along x, along y (which grows downwards), upwards."""

    east: float
    south: float
    up: float


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
    """Share (size, size) of direct sun at each pixel: 0 in a cast shadow, 1 in the open."""
    level = math.hypot(sun.east, sun.south)
    drop = sun.up / level  # by how much the ray rises a pixel
    # A running maximum along the ray, built by doubling its length: 64 pixels in six steps.
    horizon = heights
    for length in (1, 2, 4, 8, 16, 32):
        dx, dy = round(length * sun.east / level), round(length * sun.south / level)
        horizon = np.maximum(horizon, _shifted(horizon, dx, dy) - np.float32(length * drop))
    return np.asarray(1.0 - np.clip((horizon - heights) / 3.0, 0.0, 1.0))


def _facing(heights: FloatArray, sun: _Sun) -> FloatArray:
    """Light (size, size) a surface takes from the sun: Lambert's cosine, softened as by foliage."""
    slope_y, slope_x = (np.clip(slope, -2.2, 2.2) for slope in np.gradient(heights))
    cosine = sun.up - sun.east * slope_x - sun.south * slope_y
    cosine /= np.sqrt(1.0 + slope_x**2 + slope_y**2)
    return np.asarray(np.maximum(0.2 + 0.8 * cosine, 0.0))


def _ground_color(cleared: BoolArray, patches: FloatArray, tufts: FloatArray) -> FloatArray:
    """Color of n ground pixels, (3, n): dark understory, or grass and soil of a clearing.

    Args:
        cleared: (n,) whether the pixel lies in a clearing.
        patches: (n,) share of grass there, before it is clipped to 0..1.
        tufts: (n,) factor on the brightness.
    """
    clearing = _SOIL[:, None] + np.clip(patches, 0.0, 1.0) * (_GRASS - _SOIL)[:, None]
    color = np.where(cleared, clearing, _UNDERSTORY[:, None])
    return np.asarray(color * tufts, dtype=np.float32)


def _per_pixel(classes: IntArray, attribute: str) -> FloatArray:
    """One number of the genus table at every pixel of a class map."""
    table = [getattr(genus, attribute) for genus in GENERA.values()]
    return np.array(table, dtype=np.float32)[classes]


def light_scene(
    rng: np.random.Generator, canopy: Canopy, crowns: Crowns, classes: IntArray, ground: IntArray
) -> FloatArray:
    """Color the canopy and the ground and light them.

    Classes are those of each pixel, ground those of its stand, (size, size) both; the radiance is
    (3, size, size), roughly 0..255.
    """
    size = len(classes)
    covered = canopy.height > 0.0
    leaf, small, large = (smooth_noise(rng, size, sigma) for sigma in (0.6, 1.7, 3.4))
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

    patches = 0.5 + 0.6 * smooth_noise(rng, size, 12.0) + rng.normal(0.0, 0.5)
    tufts = 1.0 + 0.07 * small + 0.05 * large
    gaps = ~covered
    color = crowns.color.T.take(canopy.owner, axis=1)
    color[:, gaps] = _ground_color(ground[gaps] == CLEARED, patches[gaps], tufts[gaps])
    return np.asarray(color * light, dtype=np.float32)


def expose(rng: np.random.Generator, radiance: FloatArray) -> ByteArray:
    """Photograph the (3, size, size) scene as uint8 (size, size, 3): haze, blur, sensor noise."""
    tile_tint = tints(rng, 1, brightness=0.10, hue=0.03).reshape(3, 1, 1)
    haze = np.array([0.9, 1.0, 1.15], dtype=np.float32) * np.float32(rng.uniform(4.0, 20.0))
    blur = rng.uniform(0.35, 0.75)
    image = gaussian_filter(radiance * tile_tint, blur, axes=(1, 2), truncate=2.0)
    image += haze.reshape(3, 1, 1)
    noise = rng.random(image.shape, dtype=np.float32) - np.float32(0.5)
    image += np.float32(rng.uniform(5.0, 14.0)) * noise
    pixels = np.clip(image, 0.0, 255.0).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))
