"""What is written after each epoch beside ``log.csv``: curves, TensorBoard, Weights & Biases."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from helper_functions.data.dataset import ImageDataset, Samples
from helper_functions.data.flags import LoaderSettings
from helper_functions.data.images import ImageError, read_image
from helper_functions.results.curves import draw_curves
from helper_functions.results.overlays import contact_sheet
from helper_functions.results.tables import column_names
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.text import printable
from helper_functions.tasks.base import Evaluator, Task
from helper_functions.tasks.predictor import Predictor
from helper_functions.training.engine import Logger

_IMAGES = 8  # augmented images that TensorBoard shows


def log_curves(log: Path, path: Path, task: Task) -> Logger:
    """Return a logger that draws the curves of the log again after each epoch."""

    def draw(_row: dict[str, float], _model: nn.Module, _evaluator: Evaluator) -> None:
        draw_curves(log, path, task.monitor, task.loss_curves)

    return draw


def log_to_wandb(folder: Path, settings: dict[str, Any]) -> Logger:
    """Return a logger that sends every row of the log to Weights & Biases.

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

    def send(row: dict[str, float], _model: nn.Module, _evaluator: Evaluator) -> None:
        run.log(row, step=int(row["step"]))

    return send


class TensorBoardLogger:
    """Event files in the folder of a run.

    Scalars of the log and of the evaluation, some training images as the model sees them, and
    whatever images the task offers.

    Args:
        folder: Where the files go.
        task: Draws the images.
        train_set: Training images with their augmentation.
        val_samples: Validation images.
        loading: Where decoded images are cached.
        device: Where the model is.
        amp: Autocast type or ``None``.
    """

    def __init__(
        self,
        folder: Path,
        task: Task,
        train_set: ImageDataset,
        val_samples: Samples,
        loading: LoaderSettings,
        device: torch.device,
        amp: torch.dtype | None,
    ) -> None:
        self.folder = folder
        self.writer: SummaryWriter | None = None  # a refused run leaves no folder behind
        self.task = task
        self.train_set = train_set
        self.val_samples = val_samples
        self.loading = replace(loading, batch_size=4, workers=0)
        self.device = device
        self.amp = amp

    def __call__(self, row: dict[str, float], model: nn.Module, evaluator: Evaluator) -> None:
        """Write what is new after an epoch."""
        epoch = int(row["epoch"])
        self.writer = self.writer or SummaryWriter(str(self.folder))
        scalars = {f"run/{name}": value for name, value in row.items() if name != "epoch"}
        scalars |= evaluator.scalars()
        for tag, value in zip(column_names(list(scalars)), scalars.values(), strict=True):
            self.writer.add_scalar(tag, value, epoch)
        predictor = Predictor(self.task, model, self.loading, self.device, self.amp)
        predict = partial(predictor.run, self.val_samples)
        images = self.task.log_images(model, self.val_samples, predict)
        for name, image in images:
            self.writer.add_image(printable(name), np.asarray(image), epoch, dataformats="HWC")
        if epoch == 1:
            sheet = contact_sheet(list(augmented_images(self.task, self.train_set)))
            self.writer.add_image("augmented", np.asarray(sheet), epoch, dataformats="HWC")
        self.writer.flush()


def augmented_images(task: Task, train_set: ImageDataset) -> Iterator[Image.Image]:
    """Yield the first training images as the model sees them, each with its target."""
    samples = train_set.samples
    for index in range(min(_IMAGES, len(train_set))):
        try:
            image = read_image(samples.paths[index], train_set.image_format)
        except ImageError:
            continue
        pixels, target = train_set.transform(image, samples.targets[index], random.Random(index))
        yield task.draw(Image.fromarray(pixels.permute(1, 2, 0).numpy()), None, target)
