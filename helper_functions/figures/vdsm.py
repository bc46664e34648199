"""VDSM step by step, on a tile of the procedural forest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from helper_functions.forest import make_tile
from helper_functions.results.overlays import color, draw_labels, draw_texts
from helper_functions.results.style import INK, MUTED, PALETTE, PAPER, tint, write_png
from models.vdsm import (
    VARIANTS,
    cell_affinity,
    edge_density,
    edge_votes,
    position_distance,
    superpixel_labels,
    voted_edges,
)

FloatArray = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

TILE_SEED = 3  # four stands, easy to tell apart
GRID = 7
MIN_SUPERPIXELS = 6
CHOSEN_CELL = (5, 2)  # row, column
_SIDE = 640  # of the images of regions, in pixels
VOTES = (  # panel, variant, whose edge a cell votes for
    ("d", "corrected", "each cell for the two most like it"),
    ("e", "nearest", "each cell for itself and the most alike"),
)
CAPTION = (
    "The features are hand-made (color, its spread, gradient energy at two scales), not a "
    f"network's. min_superpixels is {MIN_SUPERPIXELS}. Line width in (d), (e): density. "
    "Cells without a color: regions of their own."
)


def _gradient_energy(gray: Tensor) -> Tensor:
    """Compute the length of the brightness gradient at every pixel, (1, height, width)."""
    east, south = F.pad(gray.diff(dim=2), (0, 1)), F.pad(gray.diff(dim=1), (0, 0, 0, 1))
    return torch.hypot(east, south)


def cell_features(image: Pixels, grid: int) -> Tensor:
    """Compute a feature map float32 (1, 16, grid, grid) of RGB (height, width, 3) by hand.

    The features are the mean and the standard deviation of red, green and blue, and the gradient
    energy at two scales. Each gives two channels, how far the cell lies above and below the tile's
    mean, because VDSM expects channels that are 0 where a cell lacks something.
    """
    rgb = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
    gray = rgb.mean(dim=0, keepdim=True)
    smooth = F.avg_pool2d(gray[None], 9, stride=1, padding=4)[0]
    pixels = torch.cat([rgb, rgb.square(), _gradient_energy(gray), _gradient_energy(smooth)])
    cells = F.adaptive_avg_pool2d(pixels[None], grid)
    mean, square, energy = cells[:, :3], cells[:, 3:6], cells[:, 6:]
    spread = (square - mean.square()).clamp(min=0).sqrt()
    features = torch.cat([mean, spread, energy], dim=1)
    centered = features - features.mean(dim=(2, 3), keepdim=True)
    return torch.cat([centered.clamp(min=0), (-centered).clamp(min=0)], dim=1)


def _affinity(features: Tensor, variant: str) -> tuple[Tensor, Tensor]:
    """Compute VDSM's affinity of every two cells and their distance on the grid, both (N, N)."""
    distance = position_distance(features.shape[2], features.shape[3], variant)
    return cell_affinity(features.flatten(2), 1 - distance)[0], distance


def _density(features: Tensor, variant: str) -> FloatArray:
    """Compute VDSM's edge density, (N, N) with the lower cell first."""
    affinity, distance = _affinity(features, variant)
    low, high = voted_edges(affinity[None], variant)
    density = edge_density(low * len(distance) + high, edge_votes(distance))
    return density.view_as(distance).double().numpy()


def _show(
    axes: Any, title: str, subtitle: str, image: Any, interpolation: str = "antialiased"
) -> None:
    """Fill a square panel, whose unit is a cell, with an image under two lines of text."""
    axes.set(xlim=(0, GRID), ylim=(GRID, 0), xticks=[], yticks=[], aspect="equal")
    axes.text(0, -0.55, title, fontsize=12.5, fontweight="bold", color=INK)
    axes.text(0, -0.16, subtitle, fontsize=10, color=MUTED)
    axes.spines[:].set_color(tint(INK, 0.3))
    axes.imshow(image, extent=(0, GRID, GRID, 0), cmap="cividis", interpolation=interpolation)


def _faded(image: Pixels, strength: float) -> Pixels:
    return (255 - strength * (255.0 - image)).astype(np.uint8)


def _draw_grid(axes: Any, color: str) -> None:
    """Draw the borders of the cells and mark the chosen one."""
    for line in range(1, GRID):
        axes.plot([0, GRID], [line, line], color=color, linewidth=0.8)
        axes.plot([line, line], [0, GRID], color=color, linewidth=0.8)
    y, x = CHOSEN_CELL
    for color, width in ((INK, 4.5), (PALETTE["yellow"], 2.2)):
        style = {"color": color, "linewidth": width, "solid_joinstyle": "miter"}
        axes.plot([x, x + 1, x + 1, x, x], [y, y, y + 1, y + 1, y], **style)


def _draw_votes(axes: Any, density: FloatArray) -> None:
    """Lines between cell centers, as wide as the edge is dense."""
    ends = np.argwhere(density)
    width = 0.6 + 5.4 * density[density > 0] / density.max()
    points = np.stack([ends % GRID + 0.5, ends // GRID + 0.5], axis=2).tolist()
    lines = LineCollection(points, colors=PALETTE["blue"], linewidths=width, zorder=3)
    axes.add_collection(lines)
    rows, columns = np.indices((GRID, GRID)) + 0.5
    axes.scatter(columns, rows, s=14, color=INK, zorder=4)


def _draw_regions(image: Pixels, labels: npt.NDArray[np.int64]) -> Image.Image:
    """Color and number the regions of two and more cells; outline all."""
    large = np.bincount(labels.ravel()) > 1
    ranks = (large * np.cumsum(large)).tolist()  # 1, 2, ... for these regions, 0 for single cells
    enlarged = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    drawn = draw_labels(enlarged, labels, [color(k - 1) if k else None for k in ranks])
    draw_texts(drawn, labels, [str(k or "") for k in ranks], _SIDE / 18)
    return drawn


def draw_vdsm(output: Path) -> None:
    """Write VDSM step by step as PNG: tile, cells, affinity, votes, each variant's superpixels."""
    image = make_tile(TILE_SEED).image
    features = cell_features(image, GRID)
    figure = Figure(figsize=(14, 8.35), dpi=100, facecolor=PAPER)
    margins = {"left": 0.012, "right": 0.988, "top": 0.935, "bottom": 0.065}
    panels = figure.subplots(2, 4, gridspec_kw={**margins, "wspace": 0.1, "hspace": 0.17}).ravel()

    # The tile, its cells, and their affinity to the chosen one, which itself has none
    pixels = f"{image.shape[1]} x {image.shape[0]} pixels of procedural forest"
    _show(panels[0], "(a) Tile", pixels, image)
    _show(panels[1], "(b) Cells", f"{GRID} x {GRID} cells of the feature map", image)
    _draw_grid(panels[1], PAPER)
    affinity, _ = _affinity(features, "corrected")
    heat = affinity.view(GRID, GRID, GRID, GRID)[CHOSEN_CELL].double().numpy()
    heat[CHOSEN_CELL] = np.nan
    _show(panels[2], "(c) Affinity", "to the marked cell: yellow is high", heat, "nearest")
    _draw_grid(panels[2], tint(INK, 0.5))

    # The votes and the superpixels
    for panel, (letter, variant, rule) in zip(panels[3:5], VOTES, strict=True):
        _show(panel, f"({letter}) Votes: {variant}", rule, _faded(image, 0.35))
        _draw_votes(panel, _density(features, variant))
    for panel, letter, variant in zip(panels[5:], "fgh", VARIANTS, strict=True):
        labels = superpixel_labels(features, MIN_SUPERPIXELS, variant)[0].numpy()
        sizes = np.bincount(labels.ravel())
        subtitle = f"{len(sizes)} regions (single cells: {np.count_nonzero(sizes == 1)})"
        drawn = _draw_regions(_faded(image, 0.6), labels)
        _show(panel, f"({letter}) Superpixels: {variant}", subtitle, drawn)
    figure.text(0.012, 0.02, CAPTION, fontsize=10, color=MUTED)
    write_png(figure, output, colors=256)
