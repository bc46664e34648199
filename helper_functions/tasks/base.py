"""What the common programs ask of a task, and what a task gets from them.

``train.py`` and ``val.py`` know tasks by this interface only. A new task is a package beside
``classify/`` with one subclass of ``Task`` and one of ``Evaluator``, and a line in ``TASKS``.

B images, H x W pixels, K classes, P points.
"""

from __future__ import annotations

import argparse
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from helper_functions import cli
from helper_functions.checkpoints import Checkpoint
from helper_functions.data.dataset import Samples
from helper_functions.data.flags import InputSettings
from helper_functions.data.targets import Target
from helper_functions.data.transforms import Transform
from helper_functions.results.report import KeyFigure, Section
from helper_functions.runtime.errors import TrainingFailed, UserError

# What a model predicts for some images: named values, each with one entry an image.
Predictions = dict[str, "npt.NDArray[Any] | list[npt.NDArray[Any]]"]
# Height and width of each image of a batch, before it was padded to the largest.
Sizes = Sequence[tuple[int, int]]
# A function of a model, images (B, 3, H, W) and their sizes, and what runs it over images by index.
Predict = Callable[[Any, Tensor, Sizes], Predictions]
PredictImages = Callable[[Predict, Sequence[int]], Iterator[Predictions]]
# A table to write as CSV: its columns by name.
Table = dict[str, Any]


def create_with_notes(create: Callable[..., nn.Module], **settings: Any) -> nn.Module:
    """Create a model and print its warnings as notes.

    Raises:
        UserError: If a setting, a name or a file is unusable.
    """
    try:
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always", UserWarning)
            model = create(**settings)
    except ValueError as error:
        raise UserError(str(error)) from error
    for note in notes:
        print(f"Note: {note.message}")
    return model


def check_finite(scores: npt.NDArray[Any]) -> None:
    """Refuse scores of a model that are not finite.

    Raises:
        TrainingFailed: If one is not.
    """
    if not np.isfinite(scores).all():
        raise TrainingFailed(
            "The model's scores are not finite: its training has diverged, or --amp fp16 overflows."
        )


class Evaluator(ABC):
    """Metrics of a stream of predictions; several processes merge theirs in the order of ranks."""

    @abstractmethod
    def update(self, predictions: Predictions, targets: Any, names: Sequence[str]) -> None:
        """Add B images: predictions, targets as a ``Batch`` on the host holds them, and names."""

    @abstractmethod
    def merge(self, shares: Sequence[Self]) -> Self:
        """Return an evaluator of all processes' images; image i was seen by process i modulo n."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return the metrics of ``log.csv``; never NaN."""

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of ``metrics.json``, as plain data."""
        return dict(self.compute())

    def tables(self) -> dict[str, Table]:
        """Return tables by file name (``per_class.csv``, ``per_image.csv``)."""
        return {}

    def scalars(self) -> dict[str, float]:
        """Return further curves for TensorBoard, such as a metric of every class."""
        return {}


@dataclass(frozen=True)
class Results:
    """A validation, as the sections of the report see it.

    Attributes:
        samples: The N images that could be read, with targets.
        evaluator: Has seen all of them.
        metrics: As written to ``metrics.json``.
        tables: As written beside it.
        read: Decodes an image.
        predict: Runs the model over images again, by another function than the task's.
    """

    samples: Samples
    evaluator: Evaluator
    metrics: dict[str, Any]
    tables: dict[str, Table]
    read: Callable[[Path], Image.Image]
    predict: PredictImages


class Task(ABC):
    """One thing to learn: which data, which model, which loss, which metrics.

    Attributes:
        name: The value of ``--task``.
        monitor: Key of ``Evaluator.compute`` that chooses the best checkpoint.
        higher_is_better: Whether the best is the highest, else the lowest.
        columns: Metrics that tables of experiments show; ``<name>_last``: after the last epoch.
        loss_curves: Columns of ``log.csv`` that ``curves.png`` shows beside the monitor.
        sums_over_images: Whether the loss is a sum over the images of a batch, or a mean of them.
        recipes: Defaults of ``--recipe`` by name; the first is the default.
        input: How images become the model's input.
    """

    name: ClassVar[str]
    monitor: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]]
    loss_curves: ClassVar[tuple[str, ...]] = ("loss",)
    sums_over_images: ClassVar[bool] = False
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"released": {}}
    input: InputSettings

    # From the command line or a checkpoint

    @classmethod
    @abstractmethod
    def add_flags(cls, parser: cli.Parser, script: str) -> None:
        """Add the task's flags to the parser of ``train`` or ``val``."""

    @classmethod
    def check_flags(cls, parser: cli.Parser, flags: argparse.Namespace) -> None:
        """Refuse flags of ``val`` that contradict each other, by ``parser.error``."""

    @classmethod
    @abstractmethod
    def from_flags(cls, flags: argparse.Namespace) -> Self:
        """Return the task of a training; fills in flags that depend on the data.

        Raises:
            UserError: If data or flags cannot be used.
        """

    @classmethod
    @abstractmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, flags: argparse.Namespace) -> Self:
        """Return the task of a trained model; what the flags leave open is as it was in training.

        Raises:
            UserError: If the flags contradict the checkpoint.
        """

    def info(self) -> dict[str, Any]:
        """Return what using the model needs, as plain data; checkpoints and exports carry it."""
        return self.input.info()

    def describe(self, training: int, validation: int) -> str:
        """Return what is trained on how many images, for the line that ``train.py`` prints."""
        return f"{training} training and {validation} validation images; {self.name}"

    # Data

    @property
    def labeled(self) -> bool:
        """Whether the samples have targets to compare predictions with."""
        return True

    @abstractmethod
    def samples(self, split: str, unreadable_allowed: int = 0) -> Samples:
        """Return images and targets of ``train``, ``val``, ``test`` or ``all``.

        Raises:
            UserError: If there are none, or more images than allowed cannot be read.
        """

    @abstractmethod
    def transform(self, *, training: bool) -> Transform:
        """Return what an image and its target go through."""

    def fingerprint(self) -> str:
        """Return a hash of what the run learns from and is evaluated with."""
        return ""

    def sample_weights(self) -> npt.NDArray[np.float64] | None:
        """Return how often to show each training image, (N,); ``None``: each once an epoch."""
        return None

    # Training

    @abstractmethod
    def build_model(self) -> nn.Module:
        """Return a new model; it has ``architecture`` and ``settings`` (see ``models.build``)."""

    def model_name(self, model: nn.Module) -> str:
        """Return what messages call a model."""
        return type(model).__name__

    def check_device(self, device: torch.device, amp: torch.dtype | None) -> None:
        """Refuse a device or precision that the model has no code for.

        Raises:
            UserError: If that is so.
        """

    def check_model(self, model: nn.Module) -> None:
        """Refuse settings that do not fit a model, in training or in use.

        Raises:
            UserError: If that is so.
        """

    def to(self, device: torch.device) -> None:
        """Move what the loss needs to a device."""

    def learning_rates(self) -> dict[str, float]:
        """Return multiples of the learning rate for submodules, by name."""
        return {}

    def before_training(
        self,
        model: nn.Module,
        loader: Callable[[int], DataLoader[Any]],
        device: torch.device,
    ) -> None:
        """Prepare a new run's model; ``loader(n)`` gives n training images, not augmented."""

    @abstractmethod
    def loss(
        self, model: nn.Module, images: Tensor, targets: Any, sizes: Sizes = (), share: float = 1.0
    ) -> dict[str, Tensor]:
        """Return the terms of the loss as scalars, ``loss`` among them, the one to minimize.

        Before the first step it is tried; afterwards model and modules of the task are as before.

        Args:
            model: In training mode.
            images: float32 (B, 3, H, W).
            targets: As a ``Batch`` holds them.
            sizes: Of the images before they were padded; empty if none was.
            share: Of the images of this step, those in this batch. Matters to means within a sum.
        """

    # Prediction

    def model_changes(self) -> dict[str, Any]:
        """Return settings of a trained model that are to be others in use."""
        return {}

    @abstractmethod
    def predict(self, model: nn.Module, images: Tensor, sizes: Sizes = ()) -> Predictions:
        """Return the predictions for images (B, 3, H, W), of a model in evaluation mode.

        Args:
            model: The model, possibly averaged over mirror images.
            images: float32 (B, 3, H, W).
            sizes: Of the images before they were padded; empty if none was.
        """

    def prediction_settings(self) -> dict[str, Any]:
        """Return on what else predictions depend; one is continued under equal settings only."""
        return {}

    @abstractmethod
    def evaluator(self, length: int) -> Evaluator:
        """Return an evaluator of about ``length`` images."""

    @abstractmethod
    def write(
        self,
        folder: Path,
        samples: Samples,
        predictions: Iterable[tuple[Sequence[int], Predictions]],
        results: Results | None,
    ) -> str:
        """Write what ``val.py`` leaves behind beside metrics, tables and report.

        Args:
            folder: Where to.
            samples: All N images.
            predictions: Parts, each with the indices of its images; can be iterated again.
            results: Of a validation; ``None`` where nothing is known of the images.

        Returns:
            Text for the terminal.
        """

    def draw(
        self, image: Image.Image, prediction: Predictions | None, target: Target
    ) -> Image.Image:
        """Return an image with what is predicted and known of it (either may be ``None``)."""
        return image

    def key_figures(self, results: Results) -> list[KeyFigure]:
        """Return what the report tells first."""
        return [
            KeyFigure(f"{value:.2f}", name, "")
            for name, value in results.evaluator.compute().items()
        ]

    def sections(self, results: Results) -> list[Section]:
        """Return the sections of ``report.html``."""
        return []

    def log_images(
        self, model: nn.Module, samples: Samples, predict: PredictImages
    ) -> Iterator[tuple[str, Image.Image]]:
        """Yield names and images for TensorBoard after an epoch.

        Args:
            model: In evaluation mode.
            samples: The validation images.
            predict: Runs a function over some of them, as in ``Results``.
        """
        yield from ()

    @property
    def export_size(self) -> int:
        """Return the longest side of the images that an exported model takes."""
        return self.input.image_size

    def export_module(self, model: nn.Module) -> nn.Module:
        """Return a module of images (B, 3, H, W) to one tensor, for ``val.py --export``."""
        return model
