"""The regions of images with the one class that each of them predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from helper_functions.results.overlays import (
    LegendEntry,
    color,
    draw_labels,
    draw_legend,
    draw_texts,
    font,
    letter,
    resize,
)
from models import RegionScores


class RegionMap(NamedTuple):
    """What an image's regions predict."""

    labels: npt.NDArray[np.int64]  # (h, w), the region of every cell, 0..n-1
    classes: npt.NDArray[np.int64]  # (n,), the top class of each region
    scores: npt.NDArray[np.float32]  # (n,), its probability

    @property
    def cells(self) -> npt.NDArray[np.int64]:
        """Number of cells of each region, (n,)."""
        return np.bincount(self.labels.ravel(), minlength=len(self.classes))


def region_predictions(scores: RegionScores) -> dict[str, Any]:
    """Return the regions of B images as values of ``Predictions``.

    Returns:
        ``region_labels`` (B, h, w), the region of every cell, 0..n-1 in each image;
        ``region_classes`` and ``region_logits``, lists of B arrays (n,): the top class of each
        region and the logit of that class.
    """
    logits, classes = scores.region_logits.float().max(dim=1)
    sizes = (scores.labels.flatten(1).amax(dim=1) + 1).tolist()
    return {
        "region_labels": scores.labels.cpu().numpy(),
        "region_classes": [part.numpy() for part in torch.split(classes.cpu(), sizes)],
        "region_logits": [part.numpy() for part in torch.split(logits.cpu(), sizes)],
    }


def region_maps(predictions: dict[str, Any], temperature: float = 1.0) -> list[RegionMap]:
    """Return the region maps of B images from ``region_predictions``.

    The probabilities are ``sigmoid(logit / temperature)``.
    """
    columns = (predictions[f"region_{name}"] for name in ("labels", "classes", "logits"))
    return [
        RegionMap(labels, classes, (torch.from_numpy(logits) / temperature).sigmoid().numpy())
        for labels, classes, logits in zip(*columns, strict=True)
    ]


def region_legend(region_map: RegionMap, classes: Sequence[str]) -> dict[int, LegendEntry]:
    """Give each class that an image's regions predict a letter, a color and the regions' scores.

    Returns:
        An entry for each class index, by the share of the cells that its regions take.
    """
    area = np.bincount(region_map.classes, region_map.cells)
    present = np.unique(region_map.classes)
    legend = {}
    for rank, k in enumerate(present[np.argsort(-area[present], kind="stable")].tolist()):
        scores = sorted(region_map.scores[region_map.classes == k], reverse=True)
        detail = ", ".join(f"{score:.2f}" for score in scores)
        if len(scores) > 4:
            detail = f"{scores[-1]:.2f} to {scores[0]:.2f} in {len(scores)} regions"
        legend[k] = LegendEntry(letter(rank), color(rank), classes[k], detail)
    return legend


def draw_region_map(
    image: Image.Image,
    region_map: RegionMap,
    legend: dict[int, LegendEntry],
    side: int = 1280,
    *,
    with_scores: bool = True,
) -> Image.Image:
    """Color and outline an image's regions, and mark each with letter and score.

    Args:
        image: RGB, upright.
        region_map: Its region map.
        legend: Of ``region_legend``.
        side: Longest side of the result in pixels; small images are enlarged to half of it.
        with_scores: Leave out the scores to have larger letters.
    """
    entries = [legend[k] for k in region_map.classes.tolist()]
    drawn = draw_labels(resize(image, side), region_map.labels, [entry.color for entry in entries])
    rows, columns = region_map.labels.shape
    cell = min(drawn.width / columns, drawn.height / rows)
    size = max(9, min(max(drawn.size) / (26 if with_scores else 10), 0.8 * cell))
    texts = [entry.letter for entry in entries]
    scores = [f"{score:.2f}" for score in region_map.scores]
    scored = list(map(" ".join, zip(texts, scores, strict=True)))
    # The letters alone where a cell is too narrow for both.
    width = max(map(font(round(size), bold=True).getlength, scored))
    if with_scores and width <= 0.95 * drawn.width / columns:
        texts = scored
    draw_texts(drawn, region_map.labels, texts, size)
    return drawn


def overlay_regions(
    image: Image.Image, region_map: RegionMap, classes: Sequence[str], side: int = 1280
) -> Image.Image:
    """Return an image with its regions drawn over it, and their classes beside it."""
    legend = region_legend(region_map, classes)
    return draw_legend(draw_region_map(image, region_map, legend, side), list(legend.values()))
