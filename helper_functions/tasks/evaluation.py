"""Predictions and metrics of a model, batch by batch; in training and in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from helper_functions.data.dataset import Batch
from helper_functions.data.sampler import EpochSampler
from helper_functions.runtime import distributed
from helper_functions.runtime.device import autocast
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.signals import StopRequest
from helper_functions.tasks.base import Evaluator, Predictions, Task

Predict = Callable[[Any, Tensor], Predictions]


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
            predictions = predict(model, batch.to(device).images)
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
