"""The picture of the model: SVG text laid out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from helper_functions.results.style import INK, MUTED, PALETTE, PAPER, tint
from helper_functions.runtime.files import write_text

WIDTH, HEIGHT = 1040, 632
FONT = "-apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
LINE_HEIGHT = 17

Point = tuple[float, float]


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
    lines: tuple[str, ...]
    dashed: bool = False


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

ICON = 88  # side of a step's picture
CELL = ICON / 4
# A 4 x 4 map of three regions, and how strong its cells are, for the pictures of the steps.
EXAMPLE = ("AABB", "AABB", "ACCB", "CCCC")
EXAMPLE_COLOURS = {"A": PALETTE["orange"], "B": PALETTE["sky"], "C": PALETTE["green"]}
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


def _rect(
    x: float, y: float, width: float, height: float, fill: str, stroke: str, extra: str = ""
) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}" '
        f'stroke="{stroke}"{extra}/>'
    )


def _circle(x: float, y: float, radius: float, fill: str, stroke: str = "none") -> str:
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}" stroke="{stroke}"/>'


def _text(
    x: float,
    y: float,
    text: str,
    size: float = 13,
    anchor: str = "middle",
    bold: bool = False,
    colour: str = INK,
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}" '
        f'fill="{colour}"{weight}>{escape(text)}</text>'
    )


def _box(box: Box) -> Iterator[str]:
    """A box with its lines of text centred in it."""
    colour = PALETTE[box.colour]
    dash = ' stroke-dasharray="5 4"' if box.dashed else ""
    extra = f' rx="10" stroke-width="1.5"{dash}'
    yield _rect(box.x, box.y, box.width, box.height, tint(colour, 0.16), colour, extra)
    centre = box.x + box.width / 2
    first = box.y + box.height / 2 + 5 - LINE_HEIGHT * len(box.lines) / 2
    yield _text(centre, first, box.name, bold=True)
    for at, line in enumerate(box.lines, start=1):
        yield _text(centre, first + LINE_HEIGHT * at, line, 12)


def _tip(tip: Point, start: Point) -> str:
    """The triangle at the end of an arrow that comes from ``start``."""
    (x, y), length = tip, math.dist(tip, start)
    east, south = (x - start[0]) / length, (y - start[1]) / length
    left, right = ((x - 8 * east + side * south, y - 8 * south - side * east) for side in (4, -4))
    points = " ".join(f"{a:g},{b:g}" for a, b in (tip, left, right))
    return f'<polygon points="{points}" fill="{MUTED}"/>'


def _arrow(start: Point, end: Point, mutual: bool = False) -> Iterator[str]:
    """A straight arrow; a mutual one is dashed, for it is no flow of data, and has two tips."""
    points = " ".join(f"{x:g},{y:g}" for x, y in (start, end))
    dash = ' stroke-dasharray="4 4"' if mutual else ""
    yield f'<polyline points="{points}" fill="none" stroke="{MUTED}" stroke-width="1.5"{dash}/>'
    yield _tip(end, start)
    if mutual:
        yield _tip(start, end)


def _arrows() -> Iterator[str]:
    yield from _arrow((116, 116), (136, 116))
    yield from _arrow((260, 116), (288, 116))
    yield from _arrow((384, 116), (458, 116))
    yield from _arrow((634, 116), (702, 116))
    yield from _arrow((838, 116), (910, 116))
    yield from _arrow((334, 164), (334, 274))
    yield from _arrow((402, 320), (426, 320))
    yield from _arrow((530, 320), (554, 320))
    yield from _arrow((678, 320), (702, 320))
    yield from _arrow((838, 320), (910, 320))
    yield from _arrow((772, 158), (772, 278), mutual=True)
    yield from _arrow((962, 146), (962, 179))
    yield from _arrow((962, 290), (962, 209))


def _labels() -> Iterator[str]:
    yield _text(72, 46, "Image", bold=True)
    yield _text(72, 63, "(B, 3, size, size)", 11, colour=MUTED)
    yield _text(334, 46, "Feature map", bold=True)
    yield _text(334, 63, "(B, C, H, W)", 11, colour=MUTED)
    yield _text(874, 107, "logits", 12)
    yield _text(874, 133, "(B, K)", 11, colour=MUTED)
    yield _text(874, 311, "logits", 12)
    yield _text(874, 337, "(R, K)", 11, colour=MUTED)
    yield _text(762, 200, "shared weights", 12, "end", colour=MUTED)
    yield _text(940, 199, "training loss", 12, "end")
    yield _text(962, 200, "+", 18, bold=True)
    yield _text(132, 300, "In evaluation only the", 12, colour=MUTED)
    yield _text(132, 318, "upper branch runs, and", 12, colour=MUTED)
    yield _text(132, 336, "the sigmoid of its logits", 12, colour=MUTED)
    yield _text(132, 354, "gives the scores.", 12, colour=MUTED)


def _training_frame() -> Iterator[str]:
    """The dashed frame round the branch that only training uses."""
    extra = ' rx="14" stroke-width="1.5" stroke-dasharray="7 5"'
    yield _rect(250, 240, 770, 140, tint(MUTED, 0.06), tint(MUTED, 0.7), extra)
    yield _rect(436, 228, 120, 24, PAPER, tint(MUTED, 0.7), ' rx="12"')
    yield _text(496, 245, "training only", bold=True, colour=MUTED)


def _photo(x: float, y: float) -> Iterator[str]:
    """A small wood seen from above."""
    green = PALETTE["green"]
    light, dark = tint(green, 0.8), tint(PALETTE["blue"], 0.75)
    yield _rect(x, y, 88, 88, tint(green, 0.35), green, ' rx="8" stroke-width="1.5"')
    for at_x, at_y, radius in (
        (17, 20, 12),
        (44, 17, 14),
        (69, 24, 11),
        (22, 50, 14),
        (52, 47, 12),
    ):
        yield _circle(x + at_x, y + at_y, radius, light, PAPER)
    for at_x, at_y, radius in ((72, 52, 9), (35, 73, 9), (56, 72, 9), (75, 74, 7), (14, 75, 7)):
        yield _circle(x + at_x, y + at_y, radius, dark, PAPER)


def _cells(
    x: float,
    y: float,
    fill: Callable[[int, int], str],
    side: float = CELL,
    stroke: str = tint(INK, 0.3),
) -> Iterator[str]:
    """The cells of the example, each in the colour that ``fill(row, column)`` says."""
    for row, column in product(range(4), repeat=2):
        yield _rect(x + column * side, y + row * side, side, side, fill(row, column), stroke)


def _feature_map(x: float, y: float) -> Iterator[str]:
    """A stack of channels, the front one as a grid of cells."""
    blue = PALETTE["blue"]
    for shift in (16, 8):
        yield _rect(x + shift, y - shift, 68, 68, tint(blue, 0.1), tint(blue, 0.6))
    yield from _cells(
        x, y, lambda row, column: tint(blue, 0.1 + 0.4 * EXAMPLE_SHADES[row][column]), 17, PAPER
    )
    yield _rect(x, y, 68, 68, "none", blue, ' stroke-width="1.5"')


def _edges(x: float, y: float, width: Callable[[float], float]) -> Iterator[str]:
    """The cells as dots, and edges between them whose width follows from their density."""
    yield from _cells(x, y, lambda _row, _column: PAPER)
    centres = {
        (row, column): (x + (column + 0.5) * CELL, y + (row + 0.5) * CELL)
        for row, column in product(range(4), repeat=2)
    }
    for start, end, votes in EXAMPLE_EDGES:
        (x1, y1), (x2, y2) = centres[start], centres[end]
        yield (
            f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{PALETTE["blue"]}" '
            f'stroke-width="{width(votes / math.dist(start, end)):g}" stroke-linecap="round"/>'
        )
    for centre in centres.values():
        yield _circle(*centre, 3, INK)


def _icon_scale(x: float, y: float) -> Iterator[str]:
    """Cells of one channel, from 0 to 1."""
    return _cells(x, y, lambda row, column: tint(PALETTE["blue"], EXAMPLE_SHADES[row][column]))


def _icon_affinity(x: float, y: float) -> Iterator[str]:
    """How alike every cell is to the marked one, in row and column 1."""

    def fill(row: int, column: int) -> str:
        near = 1 - math.dist((row, column), (1, 1)) / math.hypot(2, 2)
        alike = EXAMPLE[row][column] == EXAMPLE[1][1]
        return tint(PALETTE["orange"], 0.05 + 0.45 * alike + 0.45 * near)

    yield from _cells(x, y, fill)
    yield _rect(x + CELL, y + CELL, CELL, CELL, PAPER, INK, ' stroke-width="2.5"')


def _icon_votes(x: float, y: float) -> Iterator[str]:
    """All edges that got a vote."""
    return _edges(x, y, lambda _density: 1.5)


def _icon_density(x: float, y: float) -> Iterator[str]:
    """The edges by their density, without the least dense one."""
    return _edges(x, y, lambda density: 2.6 * density if density >= 1 else 0)


def _icon_merge(x: float, y: float) -> Iterator[str]:
    """The cells in the colours of their superpixels."""
    return _cells(x, y, lambda row, column: tint(EXAMPLE_COLOURS[EXAMPLE[row][column]], 0.75))


def _icon_means(x: float, y: float) -> Iterator[str]:
    """One vector a superpixel."""
    for region, colour in enumerate(EXAMPLE_COLOURS.values()):
        for channel, shade in enumerate(EXAMPLE_SHADES[region]):
            fill = tint(colour, 0.2 + 0.7 * shade)
            yield _rect(x + channel * CELL, y + 4 + 30 * region, CELL, 20, fill, colour)


STEPS = (  # name, what it does in two lines, its picture
    ("Scale channels", "each to [0, 1]", "over the grid", _icon_scale),
    ("Affinity", "dot product, plus", "closeness on the grid", _icon_affinity),
    ("Every cell votes", "for one edge", "between alike cells", _icon_votes),
    ("Densest edges", "ranked by votes", "over distance", _icon_density),
    ("Merge", "the densest edges", "join their cells", _icon_merge),
    ("Region means", "of the raw features:", "one vector a region", _icon_means),
)


def _steps(top: float, width: float = 162) -> Iterator[str]:
    """The row of VDSM's steps, each ``width`` wide."""
    heading = "VDSM, the Voronoi density based superpixel module, step by step"
    yield _text(WIDTH / 2, top, heading, 14, bold=True)
    for index, (name, first, second, icon) in enumerate(STEPS):
        centre = WIDTH / 2 + width * (index + 0.5 - len(STEPS) / 2)
        yield from icon(centre - ICON / 2, top + 24)
        below = top + 24 + ICON + 24
        yield _text(centre, below, f"{index + 1}. {name}", bold=True)
        yield _text(centre, below + LINE_HEIGHT, first, 12)
        yield _text(centre, below + 2 * LINE_HEIGHT, second, 12)


def architecture_svg() -> str:
    """The picture of the model as SVG text, on a white panel of its own."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" font-family="{FONT}">',
        "<title>The architecture of VoLUNet</title>",
        _rect(1, 1, WIDTH - 2, HEIGHT - 2, PAPER, "#D0D7DE", ' rx="16"'),
        *_training_frame(),
        *_photo(28, 72),
        *_feature_map(292, 92),
        *_arrows(),
        *(part for box in BOXES for part in _box(box)),
        _circle(962, 194, 15, tint(PALETTE["vermilion"], 0.16), PALETTE["vermilion"]),
        *_labels(),
        *_steps(424),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def draw_architecture(output: Path) -> None:
    """Write the picture of the model.

    Args:
        output: The SVG file.
    """
    write_text(output, architecture_svg())
