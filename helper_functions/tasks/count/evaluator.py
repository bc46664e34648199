"""Evaluation of counts and positions: MAE and its kin, GAME, matched points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from helper_functions.data.points import to_point_map
from helper_functions.metrics.counting import (
    bias,
    game,
    match_points,
    mean_absolute_error,
    normalized_absolute_error,
    root_mean_squared_error,
)
from helper_functions.tasks.base import Evaluator, Predictions, Table
from helper_functions.tasks.count.flags import CountingSettings

LEVELS = range(4)  # of GAME
FloatArray = npt.NDArray[np.floating]


class ImageCounts(NamedTuple):
    """What is known of one image after its prediction.

    Attributes:
        name: File name.
        predicted: Objects of each class, (K,).
        true: Likewise.
        matched: Of each class, predicted points that a true one belongs to.
        game: By level.
    """

    name: str
    predicted: npt.NDArray[np.int64]
    true: npt.NDArray[np.int64]
    matched: npt.NDArray[np.int64]
    game: list[float]


class CountEvaluator(Evaluator):
    """Compares predicted with true points, image by image.

    Args:
        classes: K names.
        settings: Radius of a match, cells of GAME.
    """

    def __init__(self, classes: Sequence[str], settings: CountingSettings) -> None:
        self.classes = list(classes)
        self.settings = settings
        self.images: list[ImageCounts] = []

    def update(self, predictions: Predictions, targets: Any, names: Sequence[str]) -> None:
        """Add a batch; see ``Count.predict``."""
        columns = (predictions["points"], predictions["sizes"], targets, names)
        for points, size, target, name in zip(*columns, strict=True):
            height, width = (int(side) for side in size)
            self.images.append(self._compare(points, target.numpy(), height, width, name))

    def _compare(
        self, points: FloatArray, true: FloatArray, height: int, width: int, name: str
    ) -> ImageCounts:
        radius = self.settings.match_radius
        matched = [
            len(match_points(points[points[:, 3] == k, :2], true[true[:, 2] == k, :2], radius))
            for k in range(len(self.classes))
        ]
        exact = self.settings.game_cells == "exact"
        variant: Literal["corrected", "released"] = "corrected" if exact else "released"
        # True points by their nearest pixel, predicted ones truncated, as released.
        maps = [
            (to_point_map(xy, np.zeros(len(xy), np.int64), height, width) > 0).astype(np.uint8)
            for xy in (np.trunc(points[:, :2]), true[:, :2])
        ]
        return ImageCounts(
            name,
            np.bincount(points[:, 3].astype(np.int64), minlength=len(self.classes)),
            np.bincount(true[:, 2].astype(np.int64), minlength=len(self.classes)),
            np.array(matched, np.int64),
            [game(maps[0], maps[1], level, variant) for level in LEVELS],
        )

    def merge(self, shares: Sequence[Self]) -> Self:
        """Return one evaluator of all images; image i was seen by process i modulo n."""
        merged = type(self)(self.classes, self.settings)
        total = sum(len(share.images) for share in shares)
        merged.images = [shares[i % len(shares)].images[i // len(shares)] for i in range(total)]
        return merged

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """Predicted counts, (N, K)."""
        return np.array([image.predicted for image in self.images]).reshape(-1, len(self.classes))

    @property
    def true(self) -> npt.NDArray[np.int64]:
        """True counts, (N, K)."""
        return np.array([image.true for image in self.images]).reshape(-1, len(self.classes))

    def compute(self) -> dict[str, float]:
        """Return errors of the counts of all classes together, and percentages of positions."""
        predicted, true = self.predicted.sum(axis=1), self.true.sum(axis=1)
        games = np.array([image.game for image in self.images])
        matched = sum(int(image.matched.sum()) for image in self.images)
        found, known = int(predicted.sum()), int(true.sum())
        return {
            "MAE": mean_absolute_error(predicted, true),
            "RMSE": root_mean_squared_error(predicted, true),
            "NAE": normalized_absolute_error(predicted, true),
            "bias": bias(predicted, true),
            **{f"GAME_{level}": float(games[:, level].mean()) for level in LEVELS},
            **_shares(matched, found, known),
        }

    def metrics(self) -> dict[str, Any]:
        """Return everything that ``metrics.json`` tells."""
        classes: dict[str, Any] = {}
        if len(self.classes) > 1:
            errors = np.abs(self.predicted - self.true).mean(axis=0)
            classes = {
                "MAE_per_class": dict(zip(self.classes, errors.tolist(), strict=True)),
                "mean_MAE_per_class": float(errors.mean()),
            }
        return {
            **self.compute(),
            **classes,
            "match_radius": self.settings.match_radius,
            "game_cells": self.settings.game_cells,
            "objects": int(self.true.sum()),
            "num_images": len(self.images),
            "classes": self.classes,
        }

    def tables(self) -> dict[str, Table]:
        """Return a table of the images and, of several classes, one of the classes."""
        images = self.images
        table: Table = {
            "filename": [image.name for image in images],
            "count": self.predicted.sum(axis=1).tolist(),
            "true": self.true.sum(axis=1).tolist(),
            "matched": [int(image.matched.sum()) for image in images],
            **{f"GAME_{level}": [image.game[level] for image in images] for level in LEVELS},
        }
        if len(self.classes) == 1:
            return {"per_image.csv": table}
        matched = np.array([image.matched for image in images]).sum(axis=0)
        found, known = self.predicted.sum(axis=0), self.true.sum(axis=0)
        columns = (numbers.tolist() for numbers in (matched, found, known))
        shares = [_shares(*numbers) for numbers in zip(*columns, strict=True)]
        per_class: Table = {
            "class": self.classes,
            "count": found.tolist(),
            "true": known.tolist(),
            "MAE": np.abs(self.predicted - self.true).mean(axis=0).tolist(),
            **{key: [share[key] for share in shares] for key in ("precision", "recall", "F1")},
        }
        return {"per_image.csv": table, "per_class.csv": per_class}


def _shares(matched: int, found: int, known: int) -> dict[str, float]:
    """Return precision, recall and F1 of points in percent; with nothing to find, 100."""
    return {
        "precision": 100 * matched / found if found else 100.0 * (known == 0),
        "recall": 100 * matched / known if known else 100.0,
        "F1": 200 * matched / (found + known) if found + known else 100.0,
    }
