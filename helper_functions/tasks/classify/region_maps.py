"""The regions of pictures with the one class that each of them predicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from helper_functions.runtime.errors import UserError
from helper_functions.training.step import autocast
from models import RegionScores, VoLUNet


class RegionMap(NamedTuple):
    """What a picture's regions predict.

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
    """The region maps of a batch of B pictures.

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
    return [RegionMap(*(part.numpy() for part in picture)) for picture in parts]


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
    """The region map of every picture, in the order of the data set, batch after batch.

    Args:
        model: On the device.
        loader: Batches of pictures.
        device: Where the model is.
        amp: Autocast type or ``None``.
        grid: Rows and columns of the cells that superpixels are found on; ``None``: as trained.
        temperature: Of the probabilities.

    Raises:
        UserError: If a picture cannot be read.
    """
    model.eval()
    for batch in loader:
        if batch.failures:
            raise UserError(batch.failures[0])
        with autocast(device, amp):
            scores = model.score_regions(batch.to(device).images, grid)
        yield from split_region_maps(scores, temperature)
