"""Evaluation of multi-label scores: mAP and its kin, thresholds, calibration, regions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from helper_functions.data.masks import MaskFolder
from helper_functions.metrics.calibration import reliability
from helper_functions.metrics.multilabel import (
    average_precision_per_class,
    baselines,
    multilabel_metrics,
    precision_recall_f1,
)
from helper_functions.metrics.thresholds import OperatingPoint, tune
from helper_functions.tasks.base import Evaluator, Predictions, Table
from helper_functions.tasks.classify.flags import DecisionSettings
from helper_functions.tasks.classify.regions import region_metrics


class ClassifyEvaluator(Evaluator):
    """Collects scores and targets of N images and K classes.

    Args:
        classes: K names.
        length: How many images to expect; rows beyond it are an error.
        decisions: How scores become decisions.
        masks: Pixel masks to compare the regions' classes with.
    """

    def __init__(
        self,
        classes: Sequence[str],
        length: int,
        decisions: DecisionSettings,
        masks: MaskFolder | None = None,
    ) -> None:
        self.classes = list(classes)
        self.decisions = decisions
        self.masks = masks
        self.names: list[str] = []
        # At once: the scores of a large set fit into memory, but not twice.
        self._scores = np.empty((length, len(classes)), np.float32)
        self._targets = np.empty((length, len(classes)), np.uint8)
        self._others: list[Predictions] = []  # everything beside the scores

    def update(self, predictions: Predictions, targets: Any, names: Sequence[str]) -> None:
        """Add a batch; see ``Classify.predict``."""
        rows = slice(len(self.names), len(self.names) + len(names))
        self._scores[rows] = predictions["scores"]
        self._targets[rows] = targets.numpy()
        self.names += names
        self._others.append({key: v for key, v in predictions.items() if key != "scores"})

    def merge(self, shares: Sequence[Self]) -> Self:
        """Return one evaluator of all images; image i was seen by process i modulo n."""
        if len(shares) == 1:
            return self
        total = sum(len(share.names) for share in shares)
        merged = type(self)(self.classes, total, self.decisions, self.masks)
        merged.names = [""] * total
        for rank, share in enumerate(shares):
            merged._scores[rank :: len(shares)] = share.scores
            merged._targets[rank :: len(shares)] = share.targets
            merged.names[rank :: len(shares)] = share.names
            merged._others += share._others
        return merged

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """Probabilities as the model gives them, (N, K)."""
        return self._scores[: len(self.names)]

    @property
    def targets(self) -> npt.NDArray[np.uint8]:
        """0 or 1, (N, K)."""
        return self._targets[: len(self.names)]

    @cached_property
    def point(self) -> OperatingPoint:
        """Temperature and thresholds, fitted if that is asked for."""
        decisions = self.decisions
        return tune(
            decisions.point, self.targets, self.scores, decisions.rule, decisions.fit_temperature
        )

    @cached_property
    def scaled_scores(self) -> npt.NDArray[np.float32]:
        """Probabilities at the temperature, (N, K)."""
        return self.point.scale(self.scores)

    @cached_property
    def per_class_ap(self) -> npt.NDArray[np.float64]:
        """Average precision of each class, 0 to 1, (K,)."""
        return average_precision_per_class(self.targets, self.scores)

    def compute(self) -> dict[str, float]:
        """Return mAP, precision, recall and F1 at 0.5, and the spline grid's coverage, percent."""
        coverage: dict[str, float] = {}
        for key in ("outside_grid", "outside_knots"):
            shares = [batch[key] for batch in self._others if key in batch]
            if shares:
                coverage[key] = 100 * float(np.concatenate(shares).mean())
        return {
            "mAP": 100 * float(self.per_class_ap.mean()),
            **precision_recall_f1(self.targets, self.scores),
            **coverage,
        }

    def scalars(self) -> dict[str, float]:
        """Return the average precision of every class, percent."""
        pairs = zip(self.classes, self.per_class_ap, strict=True)
        return {f"AP/{name}": 100 * float(ap) for name, ap in pairs}

    @cached_property
    def _report(self) -> tuple[dict[str, Any], Table]:
        metrics, per_class = multilabel_metrics(
            self.targets, self.scaled_scores, self.point.threshold
        )
        return metrics, {"class": self.classes, **per_class}

    def metrics(self) -> dict[str, Any]:
        """Return everything that ``metrics.json`` tells of scores, thresholds and regions."""
        return {
            **self._report[0],
            "temperature": self.point.temperature,
            "ECE": 100 * reliability(self.targets, self.scaled_scores).error,
            **baselines(self.targets),
            **self._region_metrics(),
            "classes": self.classes,
        }

    def tables(self) -> dict[str, Table]:
        """Return the table of the classes."""
        return {"per_class.csv": self._report[1]}

    def _region_metrics(self) -> dict[str, Any]:
        """Compare the regions' classes with the masks; nothing without masks."""
        if self.masks is None:
            return {}
        cells = np.stack(
            [
                classes[labels]
                for batch in self._others
                for classes, labels in zip(
                    batch["region_classes"], batch["region_labels"], strict=True
                )
            ]
        )
        top = np.concatenate([batch["top_class"] for batch in self._others])
        return region_metrics(cells, top, map(self.masks.read, self.names), len(self.classes))
