"""The README's figures: the architecture, VDSM step by step, the curves of a run.

The architecture is SVG text laid out by hand; the others are drawn by matplotlib, without its
global state. The same input gives the same bytes.

    python -m helper_functions.figures --output images --log runs/demo/train/log.csv
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from helper_functions.cli import Parser, number, run
from helper_functions.errors import UserError
from helper_functions.files import make_folder, write_atomically, write_text
from helper_functions.forest import make_tile
from helper_functions.training_log import TrainingLog
from models.vdsm import (
    VARIANTS,
    edge_density,
    scale_channels,
    voted_edges,
    position_distance,
    superpixel_labels,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Okabe and Ito, "Color Universal Design" (2008): apart for every kind of colour vision.
PALETTE = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "yellow": "#F0E442",
}
INK = "#1F2933"
MUTED = "#5B6770"
PAPER = "#FFFFFF"

# ---- The architecture ----------------------------------------------------------------------------

SVG_SIZE = (1040, 632)
FONT = "-apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
LINE_HEIGHT = 17


class Box(NamedTuple):
    """A step of the model.

    Attributes:
        x: Left edge.
        y: Top edge.
        width: Of the box.
        height: Of the box.
        colour: Key of ``PALETTE``.
        name: First line, bold.
        lines: Further lines.
        dashed: Whether the step can be left out.
    """

    x: float
    y: float
    width: float
    height: float
    colour: str
    name: str
    lines: tuple[str, ...] = ()
    dashed: bool = False


class Arrow(NamedTuple):
    """A way through the model: horizontal and vertical pieces, with a tip at the last point.

    Attributes:
        points: Corners (x, y).
        dashed: Whether it is no flow of data.
        both: Whether the first point has a tip as well.
    """

    points: tuple[tuple[float, float], ...]
    dashed: bool = False
    both: bool = False


class Label(NamedTuple):
    """A line of text.

    Attributes:
        x: Where the text is anchored.
        y: Its base line.
        text: What it says.
        size: Of the font in pixels.
        anchor: start, middle or end.
        bold: Whether it is a heading.
        colour: Of the letters.
    """

    x: float
    y: float
    text: str
    size: float = 13
    anchor: str = "middle"
    bold: bool = False
    colour: str = INK


BOXES = (
    Box(140, 74, 120, 84, "blue", "Backbone", ("TResNet or any", "timm model")),
    Box(462, 86, 172, 60, "sky", "Global average pool", ("(B, C)",)),
    Box(706, 78, 132, 76, "orange", "WIC-Classifier", ("one KAN layer",)),
    Box(914, 86, 96, 60, "vermilion", "ASL", ("loss",)),
    Box(266, 278, 136, 84, "sky", "Adaptive pool", ("to sub_h x sub_w", "(optional)"), dashed=True),
    Box(430, 278, 100, 84, "green", "VDSM", ("superpixels",)),
    Box(558, 278, 120, 84, "green", "Region means", ("(R, C)",)),
    Box(706, 282, 132, 76, "orange", "WIC-Classifier", ("the same layer",)),
    Box(914, 290, 96, 60, "vermilion", "Local-NMS", ("loss",)),
)
ARROWS = (
    Arrow(((116, 116), (136, 116))),
    Arrow(((260, 116), (288, 116))),
    Arrow(((384, 116), (458, 116))),
    Arrow(((634, 116), (702, 116))),
    Arrow(((838, 116), (910, 116))),
    Arrow(((334, 164), (334, 274))),
    Arrow(((402, 320), (426, 320))),
    Arrow(((530, 320), (554, 320))),
    Arrow(((678, 320), (702, 320))),
    Arrow(((838, 320), (910, 320))),
    Arrow(((772, 158), (772, 278)), dashed=True, both=True),
    Arrow(((962, 146), (962, 179))),
    Arrow(((962, 290), (962, 209))),
)
LABELS = (
    Label(72, 46, "Image", bold=True),
    Label(72, 63, "(B, 3, size, size)", 11, colour=MUTED),
    Label(334, 46, "Feature map", bold=True),
    Label(334, 63, "(B, C, H, W)", 11, colour=MUTED),
    Label(874, 107, "logits", 12),
    Label(874, 133, "(B, K)", 11, colour=MUTED),
    Label(874, 311, "logits", 12),
    Label(874, 337, "(R, K)", 11, colour=MUTED),
    Label(762, 200, "shared weights", 12, "end", colour=MUTED),
    Label(940, 199, "training loss", 12, "end"),
    Label(962, 200, "+", 18, bold=True),
    Label(132, 300, "In evaluation only the", 12, colour=MUTED),
    Label(132, 318, "upper branch runs, and", 12, colour=MUTED),
    Label(132, 336, "the sigmoid of its logits", 12, colour=MUTED),
    Label(132, 354, "gives the scores.", 12, colour=MUTED),
)
TRAINING_ONLY = (250, 240, 770, 140)  # x, y, width, height
STEPS_TOP = 424
STEP_WIDTH = 162
ICON = 88  # side of a step's picture
# A 4 x 4 map of three regions, and how strong its cells are, for the pictures of the steps.
EXAMPLE = ("AABB", "AABB", "ACCB", "CCCC")
EXAMPLE_COLOURS = {"A": "orange", "B": "sky", "C": "green"}
EXAMPLE_SHADES = (
    (0.9, 0.7, 0.2, 0.1),
    (0.8, 1, 0.3, 0.2),
    (0.7, 0.4, 0.5, 0.0),
    (0.5, 0.5, 0.4, 0.6),
)
# Both cells (row, column) and the votes of every edge: 16 votes. The 16 - 3 densest edges, all but
# the diagonal one, make the three regions.
EXAMPLE_EDGES = (
    ((0, 0), (0, 1), 1),
    ((0, 0), (1, 0), 1),
    ((1, 0), (1, 1), 2),
    ((1, 0), (2, 0), 1),
    ((0, 2), (0, 3), 1),
    ((0, 3), (1, 3), 1),
    ((1, 2), (1, 3), 1),
    ((1, 3), (2, 3), 1),
    ((2, 1), (2, 2), 1),
    ((2, 1), (3, 1), 2),
    ((3, 0), (3, 1), 1),
    ((2, 2), (3, 2), 1),
    ((3, 2), (3, 3), 1),
    ((1, 1), (2, 2), 1),
)


def _tint(colour: str, share: float) -> str:
    """Mix ``share`` of a colour with white."""
    channels = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - channel)):02X}" for channel in channels)


def _svg_rect(
    x: float, y: float, width: float, height: float, fill: str, stroke: str, extra: str = ""
) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}" '
        f'stroke="{stroke}"{extra}/>'
    )


def _svg_line(
    start: tuple[float, float], end: tuple[float, float], colour: str, width: float
) -> str:
    (x1, y1), (x2, y2) = start, end
    return (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}" '
        f'stroke-width="{width:g}" stroke-linecap="round"/>'
    )


def _svg_circle(x: float, y: float, radius: float, fill: str, stroke: str = "none") -> str:
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}" stroke="{stroke}"/>'


def _svg_label(label: Label) -> str:
    weight = ' font-weight="600"' if label.bold else ""
    return (
        f'<text x="{label.x:g}" y="{label.y:g}" font-size="{label.size:g}" '
        f'text-anchor="{label.anchor}" fill="{label.colour}"{weight}>{escape(label.text)}</text>'
    )


def _svg_box(box: Box) -> Iterator[str]:
    """A box with its lines of text centred in it."""
    colour = PALETTE[box.colour]
    dash = ' stroke-dasharray="5 4"' if box.dashed else ""
    extra = f' rx="10" stroke-width="1.5"{dash}'
    yield _svg_rect(box.x, box.y, box.width, box.height, _tint(colour, 0.16), colour, extra)
    centre = box.x + box.width / 2
    first = box.y + box.height / 2 + 5 - LINE_HEIGHT * len(box.lines) / 2
    yield _svg_label(Label(centre, first, box.name, bold=True))
    for at, line in enumerate(box.lines, start=1):
        yield _svg_label(Label(centre, first + LINE_HEIGHT * at, line, 12))


def _svg_tip(tip: tuple[float, float], before: tuple[float, float]) -> str:
    """The triangle at an arrow's end; ``before`` is any point on its last piece."""
    (x, y), (from_x, from_y) = tip, before
    length = math.hypot(x - from_x, y - from_y)
    east, south = (x - from_x) / length, (y - from_y) / length
    corners = [(x, y)]
    corners += [(x - 8 * east + 4 * s * south, y - 8 * south - 4 * s * east) for s in (1, -1)]
    points = " ".join(f"{a:g},{b:g}" for a, b in corners)
    return f'<polygon points="{points}" fill="{MUTED}"/>'


def _svg_arrow(arrow: Arrow) -> Iterator[str]:
    points = " ".join(f"{x:g},{y:g}" for x, y in arrow.points)
    dash = ' stroke-dasharray="4 4"' if arrow.dashed else ""
    yield f'<polyline points="{points}" fill="none" stroke="{MUTED}" stroke-width="1.5"{dash}/>'
    yield _svg_tip(arrow.points[-1], arrow.points[-2])
    if arrow.both:
        yield _svg_tip(arrow.points[0], arrow.points[1])


def _svg_photo(x: float, y: float, side: float) -> Iterator[str]:
    """A small wood seen from above."""
    green, dark = PALETTE["green"], _tint(PALETTE["blue"], 0.75)
    yield _svg_rect(x, y, side, side, _tint(green, 0.35), green, ' rx="8" stroke-width="1.5"')
    crowns = ((17, 20, 12), (44, 17, 14), (69, 24, 11), (22, 50, 14), (52, 47, 12))
    for at_x, at_y, radius in crowns:
        yield _svg_circle(x + at_x, y + at_y, radius, _tint(green, 0.8), PAPER)
    for at_x, at_y, radius in ((72, 52, 9), (35, 73, 9), (56, 72, 9), (75, 74, 7), (14, 75, 7)):
        yield _svg_circle(x + at_x, y + at_y, radius, dark, PAPER)


def _svg_map(x: float, y: float, side: float) -> Iterator[str]:
    """A stack of channels, the front one as a grid of cells."""
    blue = PALETTE["blue"]
    for layer in (2, 1):
        shift = 8 * layer
        yield _svg_rect(x + shift, y - shift, side, side, _tint(blue, 0.1), _tint(blue, 0.6))
    cell = side / 4
    for row, shades in enumerate(EXAMPLE_SHADES):
        for column, shade in enumerate(shades):
            fill = _tint(blue, 0.1 + 0.4 * shade)
            yield _svg_rect(x + column * cell, y + row * cell, cell, cell, fill, PAPER)
    yield _svg_rect(x, y, side, side, "none", blue, ' stroke-width="1.5"')


def _svg_cells(x: float, y: float, fill: Callable[[int, int], str]) -> Iterator[str]:
    """The cells of a step's picture, each in the colour that ``fill(row, column)`` says."""
    cell = ICON / 4
    for row in range(4):
        for column in range(4):
            yield _svg_rect(
                x + column * cell, y + row * cell, cell, cell, fill(row, column), _tint(INK, 0.3)
            )


def _cell_centre(x: float, y: float, cell: tuple[int, int]) -> tuple[float, float]:
    return x + (cell[1] + 0.5) * ICON / 4, y + (cell[0] + 0.5) * ICON / 4


def _svg_edges(x: float, y: float, width: Callable[[float], float]) -> Iterator[str]:
    """The cells as dots, and edges between them whose width follows from their density."""
    yield from _svg_cells(x, y, lambda _row, _column: PAPER)
    for start, end, votes in EXAMPLE_EDGES:
        ends = _cell_centre(x, y, start), _cell_centre(x, y, end)
        yield _svg_line(*ends, PALETTE["blue"], width(votes / math.dist(start, end)))
    for row in range(4):
        for column in range(4):
            yield _svg_circle(*_cell_centre(x, y, (row, column)), 3, INK)


def _icon_scale(x: float, y: float) -> Iterator[str]:
    """Cells of one channel, from 0 to 1."""
    blue = PALETTE["blue"]
    yield from _svg_cells(x, y, lambda row, column: _tint(blue, EXAMPLE_SHADES[row][column]))


def _icon_affinity(x: float, y: float) -> Iterator[str]:
    """How alike every cell is to a marked one."""
    chosen = (1, 1)

    def fill(row: int, column: int) -> str:
        near = 1 - math.hypot(row - chosen[0], column - chosen[1]) / math.hypot(2, 2)
        alike = 0.45 if EXAMPLE[row][column] == EXAMPLE[chosen[0]][chosen[1]] else 0.0
        return _tint(PALETTE["orange"], min(1.0, 0.05 + alike + 0.45 * near))

    yield from _svg_cells(x, y, fill)
    cell = ICON / 4
    corner = (x + chosen[1] * cell, y + chosen[0] * cell)
    yield _svg_rect(*corner, cell, cell, PAPER, INK, ' stroke-width="2.5"')


def _icon_votes(x: float, y: float) -> Iterator[str]:
    """All edges that got a vote."""
    yield from _svg_edges(x, y, lambda _density: 1.5)


def _icon_density(x: float, y: float) -> Iterator[str]:
    """The edges by their density, without the least dense one."""
    yield from _svg_edges(x, y, lambda density: 2.6 * density if density >= 1 else 0)


def _icon_merge(x: float, y: float) -> Iterator[str]:
    """The cells in the colours of their superpixels."""
    yield from _svg_cells(
        x, y, lambda row, column: _tint(PALETTE[EXAMPLE_COLOURS[EXAMPLE[row][column]]], 0.75)
    )


def _icon_means(x: float, y: float) -> Iterator[str]:
    """One vector a superpixel."""
    for region, colour in enumerate(EXAMPLE_COLOURS.values()):
        for channel, shade in enumerate(EXAMPLE_SHADES[region]):
            fill = _tint(PALETTE[colour], 0.2 + 0.7 * shade)
            top = y + 4 + 30 * region
            yield _svg_rect(x + channel * ICON / 4, top, ICON / 4, 20, fill, PALETTE[colour])


class Step(NamedTuple):
    """A step of VDSM: its name, what it does in two lines, and its picture at a corner (x, y)."""

    name: str
    lines: tuple[str, str]
    icon: Callable[[float, float], Iterator[str]]


STEPS = (
    Step("Scale channels", ("each to [0, 1]", "over the grid"), _icon_scale),
    Step("Affinity", ("dot product, plus", "closeness on the grid"), _icon_affinity),
    Step("Every cell votes", ("for one edge", "between alike cells"), _icon_votes),
    Step("Densest edges", ("ranked by votes", "over distance"), _icon_density),
    Step("Merge", ("the densest edges", "join their cells"), _icon_merge),
    Step("Region means", ("of the raw features:", "one vector a region"), _icon_means),
)


def _svg_steps() -> Iterator[str]:
    """The row of VDSM's steps."""
    left = (SVG_SIZE[0] - STEP_WIDTH * len(STEPS)) / 2
    heading = "VDSM, the Voronoi density based superpixel module, step by step"
    yield _svg_label(Label(SVG_SIZE[0] / 2, STEPS_TOP, heading, 14, bold=True))
    for index, step in enumerate(STEPS):
        centre = left + STEP_WIDTH * (index + 0.5)
        yield from step.icon(centre - ICON / 2, STEPS_TOP + 24)
        below = STEPS_TOP + 24 + ICON + 24
        yield _svg_label(Label(centre, below, f"{index + 1}. {step.name}", bold=True))
        for row, line in enumerate(step.lines, start=1):
            yield _svg_label(Label(centre, below + LINE_HEIGHT * row, line, 12))


def _svg_training_frame() -> Iterator[str]:
    """The dashed frame round the branch that only training uses."""
    x, y, width, height = TRAINING_ONLY
    extra = ' rx="14" stroke-width="1.5" stroke-dasharray="7 5"'
    yield _svg_rect(x, y, width, height, _tint(MUTED, 0.06), _tint(MUTED, 0.7), extra)
    yield _svg_rect(x + 186, y - 12, 120, 24, PAPER, _tint(MUTED, 0.7), ' rx="12"')
    yield _svg_label(Label(x + 246, y + 5, "training only", bold=True, colour=MUTED))


def architecture_svg() -> str:
    """The picture of the model as SVG text, on a white panel of its own."""
    width, height = SVG_SIZE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" font-family="{FONT}">',
        "<title>The architecture of VoLUNet</title>",
        _svg_rect(1, 1, width - 2, height - 2, PAPER, "#D0D7DE", ' rx="16"'),
        *_svg_training_frame(),
        *_svg_photo(28, 72, 88),
        *_svg_map(292, 92, 68),
        *(part for arrow in ARROWS for part in _svg_arrow(arrow)),
        *(part for box in BOXES for part in _svg_box(box)),
        _svg_circle(962, 194, 15, _tint(PALETTE["vermilion"], 0.16), PALETTE["vermilion"]),
        *map(_svg_label, LABELS),
        *_svg_steps(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def draw_architecture(output: Path) -> None:
    """Write the picture of the model.

    Args:
        output: The SVG file.
    """
    write_text(output, architecture_svg())


# ---- VDSM on a tile ------------------------------------------------------------------------------

TILE_SEED = 3  # four stands, easy to tell apart
GRID = 7
MIN_SUPERPIXELS = 6
CHOSEN_CELL = (5, 2)  # row, column
PNG_COLOURS = 256
SETTLED = 20_000  # pixels: the palette is good once fewer of them change their colour
VOTES = (  # panel, variant, whose edge a cell votes for
    ("d", "corrected", "each cell for the two most like it"),
    ("e", "nearest", "each cell for itself and the most alike"),
)
CAPTION = (
    "The features are hand-made (colour, its spread, gradient energy at two scales), not a "
    f"network's. min_superpixels is {MIN_SUPERPIXELS}. Line width in (d), (e): density. "
    "Cells without a number: regions of their own."
)


def _gradient_energy(grey: Tensor) -> Tensor:
    """Length of the brightness gradient at every pixel, (1, height, width)."""
    east = F.pad(grey[:, :, 1:] - grey[:, :, :-1], (0, 1))
    south = F.pad(grey[:, 1:] - grey[:, :-1], (0, 0, 0, 1))
    return torch.hypot(east, south)


def cell_features(image: npt.NDArray[np.uint8], grid: int) -> Tensor:
    """A feature map without a network: eight hand-made features a cell, as ReLU channels.

    The features are the mean and the standard deviation of red, green and blue, and the gradient
    energy at two scales. Each gives two channels, how far the cell lies above and below the tile's
    mean, because VDSM expects channels that are 0 where a cell lacks something.

    Args:
        image: (height, width, 3) RGB.
        grid: Cells a side.

    Returns:
        float32 (1, 16, grid, grid).
    """
    rgb = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
    grey = rgb.mean(dim=0, keepdim=True)
    smooth = F.avg_pool2d(grey[None], 9, stride=1, padding=4)[0]
    pixels = torch.cat([rgb, rgb.square(), _gradient_energy(grey), _gradient_energy(smooth)])
    cells = F.adaptive_avg_pool2d(pixels[None], grid)
    mean, square, energy = cells[:, :3], cells[:, 3:6], cells[:, 6:]
    spread = (square - mean.square()).clamp(min=0).sqrt()
    features = torch.cat([mean, spread, energy], dim=1)
    centred = features - features.mean(dim=(2, 3), keepdim=True)
    return torch.cat([centred.clamp(min=0), (-centred).clamp(min=0)], dim=1)


def _affinity(features: Tensor, variant: str) -> tuple[Tensor, Tensor]:
    """VDSM's affinity of every two cells and their distance on the grid, both (N, N)."""
    distance = position_distance(features.shape[2], features.shape[3], variant)
    scaled = scale_channels(features)[0]
    return scaled @ scaled.T + (1 - distance), distance


def _density(features: Tensor, variant: str) -> FloatArray:
    """VDSM's edge density, (N, N) with the lower cell first."""
    affinity, distance = _affinity(features, variant)
    low, high = voted_edges(affinity[None], variant)
    cells = len(distance)
    return edge_density(low * cells + high, distance).view(cells, cells).double().numpy()


def _prepare_panel(axes: Any, title: str, subtitle: str) -> None:
    """Label a square panel whose unit is a cell."""
    axes.set(xlim=(0, GRID), ylim=(GRID, 0), xticks=[], yticks=[], aspect="equal")
    axes.text(0, -0.55, title, fontsize=12.5, fontweight="bold", color=INK)
    axes.text(0, -0.16, subtitle, fontsize=10, color=MUTED)
    for spine in axes.spines.values():
        spine.set_color(_tint(INK, 0.3))


def _show_tile(axes: Any, image: npt.NDArray[np.uint8], strength: float = 1.0) -> None:
    """Draw the tile, faded to ``strength``."""
    faded = 255 - strength * (255.0 - image)
    axes.imshow(faded.astype(np.uint8), extent=(0, GRID, GRID, 0), interpolation="antialiased")


def _draw_grid(axes: Any, colour: str) -> None:
    for line in range(1, GRID):
        axes.plot([0, GRID], [line, line], color=colour, linewidth=0.8)
        axes.plot([line, line], [0, GRID], color=colour, linewidth=0.8)


def _mark_cell(axes: Any, cell: tuple[int, int]) -> None:
    row, column = cell
    x = [column, column + 1, column + 1, column, column]
    y = [row, row, row + 1, row + 1, row]
    axes.plot(x, y, color=INK, linewidth=4.5, solid_joinstyle="miter")
    axes.plot(x, y, color=PALETTE["yellow"], linewidth=2.2, solid_joinstyle="miter")


def _draw_affinity(axes: Any, features: Tensor) -> None:
    """Heat of the chosen cell's affinity; the cell itself is out of reach."""
    row, column = CHOSEN_CELL
    heat = (
        _affinity(features, "corrected")[0][row * GRID + column].view(GRID, GRID).double().numpy()
    )
    heat[CHOSEN_CELL] = np.nan
    axes.imshow(heat, extent=(0, GRID, GRID, 0), cmap="cividis", interpolation="nearest")
    _draw_grid(axes, _tint(INK, 0.5))
    _mark_cell(axes, CHOSEN_CELL)


def _draw_votes(axes: Any, density: FloatArray) -> None:
    """Lines between cell centres, as wide as the edge is dense."""
    low, high = np.nonzero(density)
    width = density[low, high] / density.max()
    ends = np.stack([low, high], axis=1)
    points = np.stack([ends % GRID + 0.5, ends // GRID + 0.5], axis=2)
    axes.add_collection(
        LineCollection(
            points.tolist(), colors=PALETTE["blue"], linewidths=0.6 + 5.4 * width, zorder=3
        )
    )
    rows, columns = np.divmod(np.arange(GRID * GRID), GRID)
    axes.scatter(columns + 0.5, rows + 0.5, s=14, color=INK, zorder=4)


def _outlines(labels: IntArray) -> list[list[tuple[int, int]]]:
    """The sides of cells at which two regions meet."""
    upright = [
        [(column + 1, row), (column + 1, row + 1)]
        for row, column in np.argwhere(labels[:, 1:] != labels[:, :-1]).tolist()
    ]
    level = [
        [(column, row + 1), (column + 1, row + 1)]
        for row, column in np.argwhere(labels[1:] != labels[:-1]).tolist()
    ]
    return upright + level


def _draw_regions(axes: Any, labels: IntArray) -> None:
    """Colour and number the regions of two and more cells; outline all."""
    colours = list(PALETTE.values())
    sizes = np.bincount(labels.ravel())
    rank = np.cumsum(sizes > 1)  # the regions of several cells count from 1
    for (row, column), label in np.ndenumerate(labels):
        if sizes[label] > 1:
            colour = colours[(rank[label] - 1) % len(colours)]
            axes.fill(
                [column, column + 1, column + 1, column],
                [row, row, row + 1, row + 1],
                color=colour,
                alpha=0.5,
                linewidth=0,
            )
            axes.text(
                column + 0.5,
                row + 0.52,
                str(rank[label]),
                ha="center",
                va="center",
                fontsize=9,
                fontweight="bold",
                color=INK,
            )
    for colour, width in ((INK, 3.2), (PAPER, 1.4)):
        axes.add_collection(
            LineCollection(_outlines(labels), colors=colour, linewidths=width, capstyle="round")
        )


def _regions_subtitle(labels: IntArray) -> str:
    sizes = np.bincount(labels.ravel())
    return f"{len(sizes)} regions (single cells: {np.count_nonzero(sizes == 1)})"


def _draw_steps(panels: Sequence[Any], image: npt.NDArray[np.uint8], features: Tensor) -> None:
    """Tile, cells, affinity, and the votes of two variants."""
    tile, cells, affinity, *votes = panels
    _prepare_panel(
        tile, "(a) Tile", f"{image.shape[1]} x {image.shape[0]} pixels of procedural forest"
    )
    _show_tile(tile, image)
    _prepare_panel(cells, "(b) Cells", f"{GRID} x {GRID} cells of the feature map")
    _show_tile(cells, image)
    _draw_grid(cells, PAPER)
    _mark_cell(cells, CHOSEN_CELL)
    _prepare_panel(affinity, "(c) Affinity", "to the marked cell: yellow is high")
    _draw_affinity(affinity, features)
    for panel, (letter, variant, rule) in zip(votes, VOTES, strict=True):
        _prepare_panel(panel, f"({letter}) Votes: {variant}", rule)
        _show_tile(panel, image, 0.35)
        _draw_votes(panel, _density(features, variant))


def _draw_results(panels: Sequence[Any], image: npt.NDArray[np.uint8], features: Tensor) -> None:
    """The superpixels of every variant."""
    for panel, letter, variant in zip(panels, "fgh", VARIANTS, strict=True):
        labels = superpixel_labels(features, MIN_SUPERPIXELS, variant)[0].numpy()
        _prepare_panel(panel, f"({letter}) Superpixels: {variant}", _regions_subtitle(labels))
        _show_tile(panel, image, 0.6)
        _draw_regions(panel, labels)


def _vdsm_figure(seed: int) -> Any:
    """Eight panels in two rows."""
    image = make_tile(seed).image
    features = cell_features(image, GRID)
    figure = Figure(figsize=(14, 8.35), dpi=100, facecolor=PAPER)
    margins = {"left": 0.012, "right": 0.988, "top": 0.935, "bottom": 0.065}
    panels = figure.subplots(2, 4, gridspec_kw={**margins, "wspace": 0.1, "hspace": 0.17}).ravel()
    _draw_steps(panels[:5], image, features)
    _draw_results(panels[5:], image, features)
    figure.text(0.012, 0.02, CAPTION, fontsize=10, color=MUTED)
    return figure


def _png(figure: Any) -> bytes:
    """Render a figure, without date or version in the file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _fewer_colours(png: bytes) -> bytes:
    """The same picture with a palette of 256 colours, about a third of the size."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        small = picture.convert("RGB").quantize(PNG_COLOURS, kmeans=SETTLED)
        small.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def draw_vdsm(output: Path, seed: int = TILE_SEED) -> None:
    """Write VDSM step by step on a tile of the procedural forest.

    Args:
        output: The PNG file.
        seed: Of the tile.
    """
    png = _fewer_colours(_png(_vdsm_figure(seed)))
    write_atomically(output, lambda file: file.write(png))


# ---- The curves of a run -------------------------------------------------------------------------

CURVE_COLUMNS = ("epoch", "lr", "loss_per_label", "val_mAP")


def _number(row: Mapping[str, str | None], column: str, line: int, log: Path) -> float:
    """The number in a column of a log's row."""
    text = row[column]
    try:
        value = float(text or "")  # a torn row has None in its last columns
    except ValueError as error:
        found = f"has {text!r} as {column}" if text else f"lacks a value for {column}"
        raise UserError(f"The log {log} {found} in line {line}, where a number is due.") from error
    return value if math.isfinite(value) else math.nan


def read_curves(log: Path) -> dict[str, FloatArray]:
    """The columns of a run's log that the curves need.

    Args:
        log: The ``log.csv`` of a run.

    Returns:
        An array for each of ``CURVE_COLUMNS``, one entry an epoch; what is not finite is NaN.

    Raises:
        UserError: If the log is missing, empty or not a log.
    """
    if not log.is_file():
        raise UserError(f"The log {log} does not exist; train.py writes one in its output folder.")
    try:
        rows = TrainingLog(log).read()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The log {log} cannot be read as CSV: {error}.") from error
    if not rows:
        raise UserError(f"The log {log} holds no epoch yet; wait until train.py has finished one.")
    missing = [column for column in CURVE_COLUMNS if column not in rows[0]]
    if missing:
        raise UserError(f"The log {log} lacks the column {missing[0]}; give a log.csv of train.py.")
    curves = {
        column: np.array([_number(row, column, line, log) for line, row in enumerate(rows, 2)])
        for column in CURVE_COLUMNS
    }
    if np.isnan(curves["epoch"]).any():
        raise UserError(f"The log {log} has an epoch without a number; give a log.csv of train.py.")
    return curves


def _draw_curve(axes: Any, epochs: FloatArray, values: FloatArray, colour: str, name: str) -> None:
    """One panel: a line with a dot an epoch, as long as the dots are few."""
    dots = "o" if len(epochs) <= 40 else ""
    axes.plot(epochs, values, color=PALETTE[colour], linewidth=2, marker=dots, markersize=4)
    axes.set_ylabel(name, color=INK)
    axes.set_ylim(bottom=0, top=1.08 * np.nanmax(values, initial=1e-9))
    axes.grid(color=_tint(INK, 0.12), linewidth=0.8)
    axes.tick_params(colors=MUTED, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_tint(INK, 0.3))


def _mark_scores(axes: Any, epochs: FloatArray, scores: FloatArray, chance: float | None) -> None:
    """Ring the best epoch, the first of equals, dash the score of guessing, and name both."""
    marks = []
    if not np.isnan(scores).all():
        best = int(np.nanargmax(scores))
        ring = {"markersize": 10, "markeredgewidth": 2, "markerfacecolor": "none"}
        colour = PALETTE["vermilion"]
        axes.plot(epochs[best], scores[best], "o", markeredgecolor=colour, clip_on=False, **ring)
        marks.append(f"ringed: best, {scores[best]:.1f} % in epoch {epochs[best]:.0f}")
    if chance is not None:
        axes.axhline(chance, color=MUTED, linewidth=1.2, linestyle="--")
        axes.set_ylim(top=max(axes.get_ylim()[1], 1.08 * chance))
        marks.append(f"dashed: chance, {chance:.1f} %")
    axes.set_title("; ".join(marks), loc="right", fontsize=10, color=MUTED)


def draw_curves(log: Path, output: Path, chance: float | None = None) -> None:
    """Write the curves of a run: validation mAP, training loss and learning rate by epoch.

    Args:
        log: The ``log.csv`` of a run, from one epoch on.
        output: The PNG file.
        chance: mAP of guessing in percent, drawn as a base line.

    Raises:
        UserError: If the log is missing, empty or not a log.
    """
    curves = read_curves(log)
    epochs = curves["epoch"] + 1  # the log counts from 0, people and train.py's lines from 1
    layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.1)
    figure = Figure(figsize=(9, 6.6), dpi=100, facecolor=PAPER, layout=layout)
    score, loss, rate = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [4, 4, 2]})
    score.set_title("Training curves", loc="left", fontsize=12, fontweight="bold", color=INK)
    _draw_curve(score, epochs, curves["val_mAP"], "blue", "validation mAP (%)")
    _mark_scores(score, epochs, curves["val_mAP"], chance)
    _draw_curve(loss, epochs, curves["loss_per_label"], "orange", "training ASL\n(nats per label)")
    _draw_curve(rate, epochs, curves["lr"], "green", "learning\nrate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
    rate.set_xlabel("epoch", color=INK)
    rate.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    rate.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
    figure.align_ylabels()
    png = _png(figure)
    write_atomically(output, lambda file: file.write(png))


# ---- The command ---------------------------------------------------------------------------------


def make_figures(folder: Path, log: Path, chance: float | None = None) -> None:
    """Write every figure of the README; the curves only if the log is there.

    Args:
        folder: Where the pictures go.
        log: The ``log.csv`` of the demo.
        chance: See ``draw_curves``.

    Raises:
        UserError: If the folder cannot be made or the log is not a log.
    """
    make_folder(folder)
    draw_architecture(folder / "architecture.svg")
    draw_vdsm(folder / "vdsm.png")
    if log.exists():
        draw_curves(log, folder / "demo_curve.png", chance)
    else:
        print(f"There is no log {log}, so demo_curve.png was left out; make demo writes that log.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = Parser(
        prog="python -m helper_functions.figures", description="Draw the figures of the README."
    )
    parser.add_argument(
        "--output", type=Path, default=Path("images"), help="folder to write to (default: images)"
    )
    parser.add_argument(
        "--log",
        type=Path,
        default=Path("runs/demo/train/log.csv"),
        help="log of a run, for its curves (default: runs/demo/train/log.csv)",
    )
    parser.add_argument(
        "--chance", type=number(float, 0, 100), help="mAP of guessing in percent, a base line"
    )
    options = parser.parse_args(arguments)
    make_figures(options.output, options.log, options.chance)


if __name__ == "__main__":
    run(main)
