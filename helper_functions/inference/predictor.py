"""A task's model in use: images by name in, predictions out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from helper_functions.data.cache import open_cache
from helper_functions.data.dataset import Batch, ImageDataset, NoTargets, Samples, make_loader
from helper_functions.data.flags import LoaderSettings
from helper_functions.runtime.errors import UserError
from helper_functions.tasks.base import Predictions, Task
from helper_functions.tasks.evaluation import Predict, predict_batches


class Predictor:
    """A task's model on a device, with what it takes to read images for it.

    Args:
        task: Knows transform and predictions.
        model: On the device; possibly averaged over mirror images.
        loading: How images come in batches.
        device: Where batches go.
        amp: Autocast type or ``None``.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        loading: LoaderSettings,
        device: torch.device,
        amp: torch.dtype | None,
    ) -> None:
        self.task = task
        self.model = model
        self.loading = loading
        self.device = device
        self.amp = amp

    def loader(self, samples: Samples) -> DataLoader[Any]:
        """Return batches of images, in their order."""
        dataset = ImageDataset(
            samples,
            self.task.transform(training=False),
            cache=open_cache(self.loading.cache_dir),
            image_format=self.task.input.image_format,
        )
        return make_loader(
            dataset,
            batch_size=self.loading.batch_size,
            workers=self.loading.workers,
            pin_memory=self.device.type == "cuda",
        )

    def batches(self, loader: DataLoader[Any]) -> Iterator[tuple[Batch, Predictions]]:
        """Yield batches with the task's predictions."""
        return predict_batches(self.task.predict, self.model, loader, self.device, self.amp)

    def run(
        self, samples: Samples, predict: Predict, indices: Sequence[int]
    ) -> Iterator[Predictions]:
        """Yield what another function than the task's predicts for some images, batch by batch.

        Raises:
            UserError: If an image cannot be read.
        """
        names = [samples.names[index] for index in indices]
        paths = [samples.paths[index] for index in indices]
        loader = self.loader(Samples(names, paths, NoTargets(len(names))))
        for batch, predictions in predict_batches(
            predict, self.model, loader, self.device, self.amp
        ):
            if batch.failures:
                raise UserError(batch.failures[0])
            yield predictions
