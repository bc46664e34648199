"""Region maps of a trained model, each below the classes that its image truly shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.ndimage
import torch
from matplotlib.figure import Figure
from PIL import Image

from helper_functions.checkpoints.checkpoint import read_checkpoint
from helper_functions.data.images import read_image
from helper_functions.data.masks import IndexArray, MaskFolder
from helper_functions.data.splits import read_split_table
from helper_functions.data.transforms import EvalTransform
from helper_functions.results.overlays import color, draw_labels, draw_texts
from helper_functions.results.style import INK, MUTED, PAPER, tint, write_png
from helper_functions.runtime.errors import UserError
from helper_functions.tasks.classify.region_maps import RegionMap, region_maps, region_predictions
from models import VoLUNet

COLUMNS = 4
LABELS = 3  # classes that an image shows at least
_SIDE = 640  # of an image of a panel, in pixels
_LEAST = 0.02  # share of an image that a class needs to be named


def choose_images(data: Path) -> list[str]:
    """Return the first validation images in a folder of the forest that show several classes.

    Raises:
        UserError: If the folder's CSV cannot be read or there is no such image.
    """
    table = read_split_table(data / "splits.csv")
    chosen = [row.filename for row in table.split("val") if len(row.labels) >= LABELS][:COLUMNS]
    if not chosen:
        raise UserError(
            f"No validation image in {table.path} has {LABELS} labels; give the folder of "
            "python -m helper_functions.forest."
        )
    return chosen


def _class_colors(mask: IndexArray, region_map: RegionMap, num_classes: int) -> list[str | None]:
    """Give every class of an image a color, the same in truth and prediction; others have none."""
    area = np.bincount(mask.ravel(), minlength=num_classes + 1)[:num_classes] / mask.size
    shares = region_map.cells / region_map.labels.size
    area = area + np.bincount(region_map.classes, shares, num_classes)
    rank = np.argsort(np.argsort(-area, kind="stable"), kind="stable").tolist()
    return [color(rank[k]) if area[k] else None for k in range(num_classes)]


def _draw_truth(
    image: Image.Image, mask: IndexArray, colors: list[str | None], names: list[str]
) -> Image.Image:
    """Draw the classes of the pixels, each named in its largest part."""
    area = np.bincount(mask.ravel(), minlength=len(names) + 1)
    texts = [name if area[k] > _LEAST * mask.size else "" for k, name in enumerate(names)]
    drawn = draw_labels(image, mask, colors, outlines=False)
    draw_texts(drawn, mask, texts, _SIDE / 24, largest=True)
    return drawn


def join_neighbors(region_map: RegionMap) -> RegionMap:
    """Join neighbors of one class to one region, with the highest of their scores."""
    cells = region_map.classes[region_map.labels]
    labels = np.zeros_like(region_map.labels)
    classes: list[int] = []
    scores: list[float] = []
    for k in np.unique(cells).tolist():
        parts, count = scipy.ndimage.label(cells == k)
        for part in range(1, count + 1):
            labels[parts == part] = len(classes)
            classes.append(k)
            scores.append(region_map.scores[region_map.labels[parts == part]].max())
    return RegionMap(labels, np.array(classes), np.array(scores, np.float32))


def _draw_prediction(
    image: Image.Image, region_map: RegionMap, colors: list[str | None], names: list[str]
) -> Image.Image:
    """Draw the regions, those of one class that touch as one, with class and score."""
    region_map = join_neighbors(region_map)
    classes = region_map.classes.tolist()
    drawn = draw_labels(image, region_map.labels, [colors[k] for k in classes])
    scored = zip(classes, region_map.scores, strict=True)
    texts = [f"{names[k]}\n{score:.2f}" for k, score in scored]
    draw_texts(drawn, region_map.labels, texts, _SIDE / 29, largest=True)
    return drawn


def draw_region_maps(checkpoint_path: Path, data: Path, output: Path) -> None:
    """Write region maps of some validation images of the built-in forest.

    Args:
        checkpoint_path: A checkpoint that was trained on them.
        data: The folder that ``helper_functions.forest`` wrote.
        output: The PNG file.

    Raises:
        UserError: If the checkpoint, an image or a mask is missing or damaged.
    """
    # The region maps
    checkpoint = read_checkpoint(checkpoint_path)
    info = checkpoint["info"]
    names: list[str] = info["classes"]
    chosen = choose_images(data)
    masks = MaskFolder(data / "masks", names)
    images = [read_image(data / "images" / name) for name in chosen]
    transform = EvalTransform(info["image_size"], info["mean"], info["std"])
    pixels = torch.stack([transform(image, None)[0] for image in images])
    model = checkpoint.model()
    assert isinstance(model, VoLUNet)
    maps = region_maps(region_predictions(model.score_regions(transform.normalize(pixels))))

    # The figure: truth above, prediction below
    figure = Figure(figsize=(14, 7.75), dpi=100, facecolor=PAPER)
    margins = {"left": 0.012, "right": 0.988, "top": 0.945, "bottom": 0.05}
    panels = figure.subplots(2, len(chosen), squeeze=False, gridspec_kw={**margins, "wspace": 0.05})
    for axes, name, image, region_map in zip(panels.T, chosen, images, maps, strict=True):
        enlarged = image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        mask = masks.read(name)
        colors = _class_colors(mask, region_map, len(names))
        axes[0].imshow(_draw_truth(enlarged, mask, colors, names))
        axes[1].imshow(_draw_prediction(enlarged, region_map, colors, names))
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_color(tint(INK, 0.3))
    predicted = "What the regions predict, with the highest score"
    headings = (("What is there", 0.955), (predicted, 0.487))
    for heading, height in headings:
        figure.text(0.012, height, heading, fontsize=12.5, fontweight="bold", color=INK)
    caption = (
        f"The first {len(chosen)} validation images with {LABELS} labels or more. The model was "
        "trained with labels of images, without masks. Colors are those of the classes in an image."
    )
    figure.text(0.012, 0.015, caption, fontsize=10, color=MUTED)
    write_png(figure, output, colors=256)
