"""The regions of images with the one class that each of them predicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import DataLoader

from helper_functions.results.overlays import (
    LegendEntry,
    color,
    draw_labels,
    draw_texts,
    font,
    letter,
    resize,
)
from helper_functions.runtime.errors import UserError
from helper_functions.training.step import autocast
from models import RegionScores, VoLUNet


class RegionMap(NamedTuple):
    """What an image's regions predict.

    Attributes:
        labels: (h, w), the region of every cell, 0..n-1.
        classes: (n,), the top class of each region.
        scores: (n,), its probability.
    """

    labels: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    @property
    def cells(self) -> npt.NDArray[np.int64]:
        """Number of cells of each region, (n,)."""
        return np.bincount(self.labels.ravel(), minlength=len(self.classes))


def split_region_maps(scores: RegionScores, temperature: float = 1.0) -> list[RegionMap]:
    """Split the region scores of a batch into the maps of its B images.

    Args:
        scores: Of the batch.
        temperature: The probabilities are ``sigmoid(logit / temperature)``.
    """
    best, classes = scores.region_logits.float().max(dim=1)
    probabilities = (best / temperature).sigmoid()
    sizes = (scores.labels.flatten(1).amax(dim=1) + 1).tolist()
    parts = zip(
        scores.labels.cpu(),
        torch.split(classes.cpu(), sizes),
        torch.split(probabilities.cpu(), sizes),
        strict=True,
    )
    return [RegionMap(*(part.numpy() for part in image)) for image in parts]


@torch.inference_mode()
def find_region_maps(
    model: VoLUNet,
    loader: DataLoader[Any],
    device: torch.device,
    amp: torch.dtype | None = None,
    *,
    grid: tuple[int, int] | None = None,
    temperature: float = 1.0,
) -> Iterator[RegionMap]:
    """Yield the region map of every image, in the order of the data set, batch after batch.

    Args:
        model: On the device.
        loader: Batches of images.
        device: Where the model is.
        amp: Autocast type or ``None``.
        grid: Rows and columns of the cells that superpixels are found on; ``None``: as trained.
        temperature: Of the probabilities.

    Raises:
        UserError: If an image cannot be read.
    """
    model.eval()
    for batch in loader:
        if batch.failures:
            raise UserError(batch.failures[0])
        with autocast(device, amp):
            scores = model.score_regions(batch.to(device).images, grid)
        yield from split_region_maps(scores, temperature)


def _describe(scores: Sequence[float]) -> str:
    """List the scores of a class's regions, the highest first; of many give the range."""
    if len(scores) > 4:
        return f"{scores[-1]:.2f} to {scores[0]:.2f} in {len(scores)} regions"
    return ", ".join(f"{score:.2f}" for score in scores)


def region_legend(region_map: RegionMap, classes: Sequence[str]) -> dict[int, LegendEntry]:
    """Give each class that an image's regions predict a letter and a color.

    Args:
        region_map: The region map.
        classes: K names.

    Returns:
        An entry for each class index, by the share of the cells that its regions take.
    """
    area = np.bincount(region_map.classes, region_map.cells)
    present = np.unique(region_map.classes)
    order = present[np.argsort(-area[present], kind="stable")].tolist()
    scores = {k: sorted(region_map.scores[region_map.classes == k])[::-1] for k in order}
    return {
        k: LegendEntry(letter(rank), color(rank), classes[k], _describe(scores[k]))
        for rank, k in enumerate(order)
    }


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
    if with_scores:
        scored = [
            f"{text} {score:.2f}" for text, score in zip(texts, region_map.scores, strict=True)
        ]
        # The letters alone where a cell is too narrow for both.
        width = max(map(font(round(size), bold=True).getlength, scored))
        texts = scored if width <= 0.95 * drawn.width / columns else texts
    draw_texts(drawn, region_map.labels, texts, size)
    return drawn
