"""Watching a run: TensorBoard event files, Weights & Biases, and the curves as a picture."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from helper_functions.data.dataset import ImageDataset, NoTargets, make_loader
from helper_functions.data.images import ImageError, read_image
from helper_functions.results.curves import draw_curves
from helper_functions.results.overlays import draw_legend, legend, overlay
from helper_functions.results.style import INK, PALETTE
from helper_functions.runtime.errors import UserError
from helper_functions.tasks.classify.classification import Evaluation
from helper_functions.tasks.classify.region_maps import find_region_maps
from models import VoLUNet
from models.kan import KANLinear, WICClassifier

# Called after each epoch with the row of the log and the model that was judged.
Watcher = Callable[[dict[str, float], nn.Module], None]

_PICTURES = 8
_CURVES = 6
_REGION_PICTURES = 4


def watch_curves(log: Path, picture: Path) -> Watcher:
    """Draws the curves of the log anew after each epoch."""

    def watch(_row: dict[str, float], _model: nn.Module) -> None:
        draw_curves(log, picture)

    return watch


def watch_with_wandb(folder: Path, settings: dict[str, Any]) -> Watcher:
    """Sends every row of the log to Weights & Biases.

    Raises:
        UserError: If its package is not installed.
    """
    try:
        wandb = importlib.import_module("wandb")
    except ImportError as error:
        raise UserError(
            "--wandb needs the package wandb; install it with `pip install wandb`, or leave the "
            "flag out: log.csv and TensorBoard's files are written in any case."
        ) from error
    run = wandb.init(project="volunet", name=folder.name, dir=str(folder), config=settings)

    def watch(row: dict[str, float], _model: nn.Module) -> None:
        run.log(row, step=int(row["step"]))

    return watch


class TensorBoardWatcher:
    """Event files in the folder of a run.

    Scalars of the log, the average precision of every class, some training pictures as the model
    sees them with their labels, what the regions of some validation pictures predict, and the
    strongest splines of the KAN head.

    Args:
        folder: Where the files go.
        classes: Names of the logits.
        train_set: Training pictures with their augmentation.
        evaluation: Knows the average precisions of the last evaluation.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        train_set: ImageDataset,
        evaluation: Evaluation,
    ) -> None:
        self.folder = folder
        self.writer: SummaryWriter | None = None  # a refused run leaves no folder behind
        self.classes = classes
        self.train_set = train_set
        self.evaluation = evaluation

    def __call__(self, row: dict[str, float], model: nn.Module) -> None:
        """Write what is new after an epoch."""
        step = int(row["epoch"])
        self.writer = self.writer or SummaryWriter(str(self.folder))
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(f"run/{name}", value, step)
        for name, value in zip(self.classes, self.evaluation.per_class_ap, strict=True):
            self.writer.add_scalar(f"AP/{name}", 100 * float(value), step)
        if step == 1:
            figure = augmented_pictures(self.train_set, self.classes)
            self.writer.add_image("augmented", _pixels(figure), step, dataformats="HWC")
        for name, picture in region_pictures(model, self.evaluation, self.classes):
            self.writer.add_image(f"regions/{name}", picture, step, dataformats="HWC")
        curves = spline_curves(model, self.classes)
        if curves is not None:
            self.writer.add_image("splines", _pixels(curves), step, dataformats="HWC")
        self.writer.flush()


def _pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    """Render a figure of matplotlib, (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3]


def augmented_pictures(train_set: ImageDataset, classes: Sequence[str]) -> Figure:
    """The first training pictures as the model sees them, each under its labels."""
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    axes = figure.subplots(2, _PICTURES // 2).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, index in zip(axes, range(len(train_set)), strict=False):
        try:
            picture: Image.Image = read_image(train_set.paths[index], train_set.reading)
        except ImageError:
            continue
        pixels = train_set.transform(picture, random.Random(index))
        axis.imshow(pixels.permute(1, 2, 0).numpy())
        names = [classes[k] for k in train_set.targets[index].nonzero().flatten().tolist()]
        axis.set_title(", ".join(names) or "(none)", fontsize=8, color=INK, wrap=True)
    return figure


def region_pictures(
    model: nn.Module, evaluation: Evaluation, classes: Sequence[str]
) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """The first validation pictures under what their regions predict: file names and pixels."""
    whole = evaluation.loader.dataset
    if not (isinstance(model, VoLUNet) and isinstance(whole, ImageDataset)):
        return
    paths = whole.paths[:_REGION_PICTURES]
    few = ImageDataset(
        paths, NoTargets(len(paths)), whole.transform, cache=whole.cache, reading=whole.reading
    )
    loader = make_loader(few, batch_size=len(paths), workers=0)
    maps = find_region_maps(model, loader, evaluation.device, evaluation.amp)
    for path, found in zip(paths, maps, strict=True):
        drawn = overlay(read_image(path, few.reading), found, classes, side=640)
        yield path.name, np.asarray(draw_legend(drawn, legend(found, classes)))


@torch.no_grad()
def spline_curves(model: nn.Module, classes: Sequence[str]) -> Figure | None:
    """What the KAN head makes of its strongest input for each of the first classes.

    Returns:
        ``None`` for a head without splines.
    """
    layer = model.head.layers[0] if isinstance(model.head, WICClassifier) else None
    if not isinstance(layer, KANLinear):
        return None
    strength = (layer.spline_weight.norm(dim=2) * layer.spline_scaler.abs()).cpu()
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    axes = figure.subplots(2, _CURVES // 2).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, k in zip(axes, range(len(classes)), strict=False):
        channel = int(strength[k].argmax())
        knots = layer.grid[channel]
        x = torch.linspace(float(knots[0]), float(knots[-1]), 200, device=knots.device)
        inputs = torch.zeros(len(x), layer.in_features, device=knots.device)
        inputs[:, channel] = x
        rest = layer(torch.zeros_like(inputs[:1]))[0, k]  # of all the other inputs at 0
        axis.axis("on")
        axis.plot(x.cpu(), _numbers(layer(inputs)[:, k] - rest), color=PALETTE["blue"])
        axis.axvspan(
            float(knots[layer.spline_order]),
            float(knots[-layer.spline_order - 1]),
            color=PALETTE["sky"],
            alpha=0.15,
        )
        axis.set_title(f"{classes[k]}, channel {channel}", fontsize=9, color=INK)
    return figure


def _numbers(values: Tensor) -> list[float]:
    numbers: list[float] = values.float().cpu().tolist()
    return numbers
