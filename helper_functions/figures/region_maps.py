"""Region maps of a trained model, each below the classes that its picture truly shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image

from helper_functions.checkpoints.checkpoint import read_checkpoint
from helper_functions.data.dataset import ImageDataset, NoTargets, make_loader
from helper_functions.data.images import read_image
from helper_functions.data.masks import IndexArray, MaskFolder
from helper_functions.data.splits import read_split_table
from helper_functions.data.transforms import EvalTransform
from helper_functions.figures.vdsm import outlines
from helper_functions.results.overlays import mark_places
from helper_functions.results.style import INK, MUTED, PALETTE, PAPER, tint, write_png
from helper_functions.runtime.errors import UserError
from helper_functions.tasks.classify.region_maps import RegionMap, find_region_maps

COLUMNS = 4
LABELS = 3  # classes that a picture shows at least
_STRENGTH = 0.42  # of a class's colour
_LEAST = 0.02  # share of a picture that a class needs to be named

Pixels = npt.NDArray[np.uint8]


def choose_pictures(data: Path) -> list[str]:
    """The first validation pictures that show several classes.

    Args:
        data: Folder of ``helper_functions.forest``.

    Raises:
        UserError: If the folder's CSV cannot be read or there is no such picture.
    """
    table = read_split_table(data / "splits.csv")
    chosen = [row.filename for row in table.split("val") if len(row.labels) >= LABELS][:COLUMNS]
    if not chosen:
        raise UserError(
            f"No validation picture in {table.path} has {LABELS} labels; give the folder of "
            "python -m helper_functions.forest."
        )
    return chosen


def _colours(mask: IndexArray, found: RegionMap, num_classes: int) -> dict[int, str]:
    """A colour for every class of a picture, the same in truth and prediction."""
    area = np.bincount(mask.ravel(), minlength=num_classes + 1)[:num_classes] / mask.size
    area = area + np.bincount(found.classes, found.cells / found.labels.size, num_classes)
    palette = list(PALETTE.values())
    ranked = [int(k) for k in np.argsort(-area, kind="stable") if area[k]]
    return {k: palette[rank % len(palette)] for rank, k in enumerate(ranked)}


def _tinted(picture: Image.Image, classes: IndexArray, colours: dict[int, str]) -> Pixels:
    """A picture whose pixels carry the colours of their classes; others stay as they are."""
    pixels = np.asarray(picture, np.float32).copy()
    rows = np.arange(picture.height) * classes.shape[0] // picture.height
    columns = np.arange(picture.width) * classes.shape[1] // picture.width
    spread = classes[rows[:, None], columns]
    for k, colour in colours.items():
        fill = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)], np.float32)
        inside = spread == k
        pixels[inside] = (1 - _STRENGTH) * pixels[inside] + _STRENGTH * fill
    return pixels.round().astype(np.uint8)


def _panel(axes: Any, pixels: Pixels, cells: tuple[int, int]) -> None:
    """Fill a panel, whose units are cells, with a picture."""
    rows, columns = cells
    axes.imshow(pixels, extent=(0, columns, rows, 0), interpolation="antialiased")
    axes.set(xlim=(0, columns), ylim=(rows, 0), xticks=[], yticks=[])
    axes.spines[:].set_color(tint(INK, 0.3))


def _largest_part(inside: npt.NDArray[np.bool_]) -> IndexArray:
    """1 in the largest connected part of some pixels, else 0."""
    parts, _ = scipy.ndimage.label(inside)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest: IndexArray = (parts == sizes.argmax()).astype(np.intp)
    return largest


def _write(axes: Any, place: tuple[float, float], text: str, size: float) -> None:
    """Text that can be read on any ground."""
    stroke = [withStroke(linewidth=2.6, foreground=INK)]
    style = {"ha": "center", "va": "center", "color": PAPER, "fontweight": "bold"}
    axes.text(*place, text, fontsize=size, path_effects=stroke, **style)


def _draw_truth(
    axes: Any, picture: Image.Image, mask: IndexArray, colours: dict[int, str], names: list[str]
) -> None:
    """The classes of the pixels, each named where it is at home."""
    _panel(axes, _tinted(picture, mask, colours), (mask.shape[0], mask.shape[1]))
    for k in colours:
        if np.count_nonzero(mask == k) > _LEAST * mask.size:
            _write(axes, mark_places(_largest_part(mask == k), 1)[0], names[k], 9.5)


def _draw_prediction(
    axes: Any, picture: Image.Image, found: RegionMap, colours: dict[int, str], names: list[str]
) -> None:
    """The regions, each with its class and score."""
    rows, columns = found.labels.shape
    _panel(axes, _tinted(picture, found.classes[found.labels], colours), (rows, columns))
    for colour, width in ((INK, 3.2), (PAPER, 1.4)):
        lines = LineCollection(
            outlines(found.labels), colors=colour, linewidths=width, capstyle="round"
        )
        axes.add_collection(lines)
    for region, (k, score) in enumerate(zip(found.classes, found.scores, strict=True)):
        for place in mark_places(found.labels, region):
            _write(axes, place, f"{names[k]}\n{score:.2f}", 8)


def draw_region_maps(checkpoint_path: Path, data: Path, output: Path) -> None:
    """Write region maps of some validation pictures of the built-in forest.

    Args:
        checkpoint_path: A checkpoint that was trained on them.
        data: The folder that ``helper_functions.forest`` wrote.
        output: The PNG file.

    Raises:
        UserError: If the checkpoint, a picture or a mask is missing or damaged.
    """
    checkpoint = read_checkpoint(checkpoint_path)
    info = checkpoint["info"]
    chosen = choose_pictures(data)
    masks = MaskFolder(data / "masks", info["classes"])
    paths = [data / "images" / name for name in chosen]
    transform = EvalTransform(info["image_size"], info["mean"], info["std"])
    dataset = ImageDataset(paths, NoTargets(len(paths)), transform)
    loader = make_loader(dataset, batch_size=COLUMNS, workers=0)
    maps = find_region_maps(checkpoint.model(), loader, torch.device("cpu"))
    figure = Figure(figsize=(14, 7.75), dpi=100, facecolor=PAPER)
    margins = {"left": 0.012, "right": 0.988, "top": 0.945, "bottom": 0.05}
    panels = figure.subplots(2, len(chosen), squeeze=False, gridspec_kw={**margins, "wspace": 0.05})
    for column, (name, path, found) in enumerate(zip(chosen, paths, maps, strict=True)):
        picture, mask = read_image(path), masks.read(name)
        colours = _colours(mask, found, len(info["classes"]))
        _draw_truth(panels[0, column], picture, mask, colours, info["classes"])
        _draw_prediction(panels[1, column], picture, found, colours, info["classes"])
    heads = (("What is there", 0.955), ("What the regions predict, with the score", 0.487))
    for head, height in heads:
        figure.text(0.012, height, head, fontsize=12.5, fontweight="bold", color=INK)
    caption = (
        f"The first {len(chosen)} validation pictures with {LABELS} labels or more. The model was "
        "trained with labels of whole pictures, without masks. Colours are those of the classes "
        "in a picture."
    )
    figure.text(0.012, 0.015, caption, fontsize=10, color=MUTED)
    write_png(figure, output, colours=256)
