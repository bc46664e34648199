"""Counting by a density map, with the networks, images and training loop of ``--task count``.

    python tests/density_map.py train --task density --img_dir ... [flags of train.py --task count]
    python tests/density_map.py val --ckpt-path ... [flags of val.py]

The network learns the points, smoothed by a Gaussian of fixed width, by their squared error; a
count is the sum over the map. Source of the idea: Lempitsky and Zisserman, "Learning to Count
Objects in Images" (NeurIPS 2010).
"""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import train  # noqa: E402
import val  # noqa: E402
from helper_functions import cli  # noqa: E402
from helper_functions.checkpoints import Checkpoint  # noqa: E402
from helper_functions.data.dataset import Samples  # noqa: E402
from helper_functions.metrics.counting import (  # noqa: E402
    mean_absolute_error,
    root_mean_squared_error,
)
from helper_functions.results.report import Section  # noqa: E402
from helper_functions.tasks import TASKS  # noqa: E402
from helper_functions.tasks.base import (  # noqa: E402
    Evaluator,
    Predictions,
    Results,
    Sizes,
    Table,
    Task,
)
from helper_functions.tasks.count.task import Count  # noqa: E402
from models.tiling import tiled_logits  # noqa: E402


def density(
    points: npt.NDArray[np.floating],
    classes: npt.NDArray[np.integer],
    size: tuple[int, int, int],
    sigma: float,
) -> npt.NDArray[np.float32]:
    """Smooth points by a Gaussian; the sum over a class's map is the number of its points.

    What would lie beyond the border is mirrored into the image.

    Args:
        points: x and y in pixels, (P, 2).
        classes: Class indices, (P,).
        size: Classes, height and width, the shape of the result.
        sigma: In pixels.
    """
    marks = np.zeros(size)
    columns, rows = np.clip(
        np.floor(points + 0.5).astype(np.int64), 0, (size[2] - 1, size[1] - 1)
    ).T
    np.add.at(marks, (classes, rows, columns), 1)  # several points may share a pixel
    smoothed = scipy.ndimage.gaussian_filter(marks, sigma, mode="reflect", axes=(1, 2))
    return np.asarray(smoothed, np.float32)


class TotalsEvaluator(Evaluator):
    """Compares the counts of all classes together."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.predicted: list[float] = []
        self.true: list[int] = []

    def update(self, predictions: Predictions, targets: Any, names: Sequence[str]) -> None:
        self.names += names
        self.predicted += [float(count) for count in predictions["count"]]
        self.true += [len(points) for points in targets]

    def merge(self, shares: Sequence[Self]) -> Self:
        merged = type(self)()
        for share in shares:
            merged.names += share.names
            merged.predicted += share.predicted
            merged.true += share.true
        return merged

    def compute(self) -> dict[str, float]:
        return {
            "MAE": mean_absolute_error(self.predicted, self.true),
            "RMSE": root_mean_squared_error(self.predicted, self.true),
        }

    def tables(self) -> dict[str, Table]:
        columns = {"filename": self.names, "count": self.predicted, "true": self.true}
        return {"per_image.csv": columns}


class DensityMap(Count):
    """As ``Count``, but for the loss, and for what is done with the network's output.

    Attributes:
        sigma: Of the Gaussian, in pixels of the network's input.
    """

    name, columns = "density", ("MAE", "MAE_last", "RMSE")
    sigma = 4.0

    @classmethod
    def add_flags(cls, parser: cli.Parser, script: str) -> None:
        super().add_flags(parser, script)
        if script == "train":
            parser.add_argument("--density-sigma", type=float, default=cls.sigma)

    @classmethod
    def from_flags(cls, flags: Namespace) -> Self:
        task = super().from_flags(flags)
        task.sigma = flags.density_sigma
        return task

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, flags: Namespace) -> Self:
        task = super().from_checkpoint(checkpoint, flags)
        task.sigma = checkpoint["info"]["sigma"]
        return task

    def info(self) -> dict[str, Any]:
        return {**super().info(), "sigma": self.sigma}

    def build_model(self, output_bias: float = 0.0) -> nn.Module:
        return super().build_model(output_bias)

    @property
    def peak(self) -> float:
        """The density at a lone point, by which the network's output is divided: it learns 1."""
        return 1 / (2 * math.pi * self.sigma**2)

    def loss(
        self, model: nn.Module, images: Tensor, targets: Any, sizes: Sizes = (), share: float = 1.0
    ) -> dict[str, Tensor]:
        output = model(images).float()
        total = output.new_zeros(())
        for row, points, (height, width) in zip(output, targets, sizes, strict=True):
            values = points.cpu().numpy()
            shape = (len(self.classes), height, width)
            wanted = density(values[:, :2], values[:, 2].astype(np.int64), shape, self.sigma)
            learned = torch.from_numpy(wanted / self.peak).to(row)
            total = total + F.mse_loss(row[:, :height, :width], learned)
        return {"loss": total / len(images)}

    def predict(self, model: nn.Module, images: Tensor, sizes: Sizes = ()) -> Predictions:
        output = tiled_logits(model, images, self.counting.tile_size).float()
        sums = [
            row[:, :height, :width].sum(dtype=torch.float64)
            for row, (height, width) in zip(output, sizes, strict=True)
        ]
        return {"count": (self.peak * torch.stack(sums)).clamp_min(0).cpu().numpy()}

    def evaluator(self, length: int) -> TotalsEvaluator:  # type: ignore[override]
        return TotalsEvaluator()

    def write(
        self,
        folder: Path,
        samples: Samples,
        predictions: Iterable[tuple[Sequence[int], Predictions]],
        results: Results | None,
    ) -> str:
        return f"{len(samples.paths)} images. {'' if results is None else results.metrics}"

    key_figures = Task.key_figures
    log_images = Task.log_images

    def sections(self, results: Results) -> list[Section]:
        return []


if __name__ == "__main__":
    TASKS["density"] = DensityMap
    cli.run({"train": train.main, "val": val.main}[sys.argv.pop(1)])
