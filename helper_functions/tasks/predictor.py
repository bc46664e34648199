"""A task's model in use, batch by batch: images in, predictions or metrics out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from helper_functions.data.cache import open_cache
from helper_functions.data.dataset import Batch, ImageDataset, Samples, make_loader
from helper_functions.data.flags import LoaderSettings
from helper_functions.data.sampler import EpochSampler
from helper_functions.runtime import distributed
from helper_functions.runtime.device import autocast
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.signals import StopRequest
from helper_functions.tasks.base import Evaluator, Predict, Predictions, Task


@torch.inference_mode()
def predict_batches(
    predict: Predict,
    model: nn.Module,
    loader: DataLoader[Any],
    device: torch.device,
    amp: torch.dtype | None = None,
) -> Iterator[tuple[Batch, Predictions]]:
    """Yield each batch as it was read, and the predictions for its images (none: ``{}``)."""
    model.eval()
    for batch in loader:
        if not batch.files:
            yield batch, {}
            continue
        with autocast(device, amp):
            predictions = predict(model, batch.to(device).images, batch.sizes)
        yield batch, predictions


def evaluate(
    task: Task,
    model: nn.Module,
    loader: DataLoader[Any],
    device: torch.device,
    amp: torch.dtype | None = None,
    stop: StopRequest | None = None,
) -> Evaluator:
    """Evaluate a model on a labeled set; several processes share the images.

    Raises:
        UserError: If an image cannot be read.
        Stopped: If a signal came in (to a single process: several finish the evaluation first).
    """
    sampler = loader.sampler
    assert isinstance(sampler, EpochSampler)
    sampler.set_position(0)
    evaluator = task.evaluator(len(sampler))
    bar = tqdm(
        predict_batches(task.predict, model, loader, device, amp),
        desc="evaluating",
        total=len(loader),
        disable=None if distributed.is_main() else True,
        leave=False,
    )
    for batch, predictions in bar:
        if batch.failures:
            raise UserError(batch.failures[0])
        evaluator.update(predictions, batch.targets, batch.files)
        if stop is not None and distributed.world_size() == 1:
            stop.check()
    return evaluator.merge(distributed.all_gather(evaluator))


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
        loader = self.loader(Samples.from_paths(paths, names=names))
        for batch, predictions in predict_batches(
            predict, self.model, loader, self.device, self.amp
        ):
            if batch.failures:
                raise UserError(batch.failures[0])
            yield predictions
