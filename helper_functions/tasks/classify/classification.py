"""What multi-label classification adds to the common loop: objective, prediction, evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from helper_functions.data.dataset import Batch, EpochSampler
from helper_functions.metrics.multilabel import average_precision_per_class, precision_recall_f1
from helper_functions.runtime import distributed
from helper_functions.runtime.errors import TrainingFailed, UserError
from helper_functions.runtime.signals import StopRequest
from helper_functions.training.step import autocast
from loss_functions import LocalNMSLoss
from models import TrainingOutput, VoLUNet
from models.kan import KANLinear, WICClassifier


class ClassificationObjective:
    """ASL on the pooled logits plus the weighted Local-NMS loss on the regions.

    Args:
        asl: Loss of logits and targets, summed over batch and classes.
        nms_weight: Factor of the Local-NMS loss in the total; 1 in the paper.
        parts: In how many parts a step's pictures come, by accumulation and over processes. Their
            losses add up, which suits ASL, a sum; of Local-NMS, a mean, each part counts its share.
    """

    def __init__(self, asl: nn.Module, nms_weight: float = 1.0, parts: int = 1) -> None:
        self.asl = asl
        self.local_nms = LocalNMSLoss()
        self.nms_weight = nms_weight
        self.parts = parts

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Loss terms of a batch; ``loss_per_label`` is ASL by image and class, for reading."""
        output: TrainingOutput = model(images)
        asl = self.asl(output.logits, targets)
        local_nms = self.local_nms(output.region_logits, output.region_weights)
        return {
            "loss": asl + self.nms_weight / self.parts * local_nms,
            "asl_loss": asl,
            "local_nms_loss": local_nms,
            "loss_per_label": asl.detach() / targets.numel(),
        }


@torch.inference_mode()
def score_batches(
    model: nn.Module,
    loader: DataLoader[Any],
    device: torch.device,
    amp: torch.dtype | None = None,
) -> Iterator[tuple[Batch, npt.NDArray[np.float32]]]:
    """Score pictures batch by batch, in the order in which they come.

    Yields:
        Each batch as it was read, and class probabilities, float32 (B, K), of the B pictures in it;
        (0, 0) if none of them could be read.
    """
    model.eval()
    for batch in loader:
        if not batch.files:
            yield batch, np.empty((0, 0), np.float32)
            continue
        with autocast(device, amp):
            logits = model(batch.to(device).images)
        yield batch, logits.float().sigmoid().cpu().numpy()


def check_finite(scores: npt.NDArray[np.float32]) -> None:
    """Refuse scores (N, K) that are no numbers.

    Raises:
        TrainingFailed: If one is not finite.
    """
    if not all(np.isfinite(row).all() for row in scores):
        raise TrainingFailed(
            "The model's scores are not finite: its training has diverged, or --amp fp16 overflows."
        )


def predict(
    model: nn.Module,
    loader: DataLoader[Any],
    device: torch.device,
    amp: torch.dtype | None = None,
    stop: StopRequest | None = None,
) -> npt.NDArray[np.float32]:
    """Class probabilities of every picture, float32 (N, K), in the order of the data set.

    Several processes score their shares and exchange them.

    Raises:
        UserError: If a picture cannot be read.
        TrainingFailed: If a score is not finite.
        Stopped: If a signal came in.
    """
    if isinstance(loader.sampler, EpochSampler):
        loader.sampler.set_position(0)
    share: npt.NDArray[np.float32] | None = None
    done = 0
    silent = None if distributed.is_main() else True
    batches = score_batches(model, loader, device, amp)
    for batch, scores in tqdm(
        batches, desc="predicting", total=len(loader), disable=silent, leave=False
    ):
        if batch.failures:
            raise UserError(batch.failures[0])
        if share is None:  # at once: a large set's scores fit into memory, but not twice
            share = np.empty((len(loader.sampler), scores.shape[1]), np.float32)  # type: ignore[arg-type]
        share[done : done + len(scores)] = scores
        done += len(scores)
        if stop is not None:
            stop.check()
    result = _whole(share)
    check_finite(result)
    return result


def _whole(share: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
    """The scores of all processes, in the order of the data set."""
    shares = distributed.gather(share)
    found = {rank: part for rank, part in enumerate(shares) if part is not None}
    if len(found) == 1:
        return next(iter(found.values()))
    result = np.empty((sum(map(len, found.values())), found[0].shape[1]), np.float32)
    for rank, part in found.items():
        result[rank :: len(shares)] = part
    return result


@contextmanager
def grid_coverage(model: nn.Module) -> Iterator[dict[str, float]]:
    """Count how many inputs of a KAN head lie outside its spline grid while the block runs.

    Args:
        model: A ``VoLUNet``.

    Yields:
        A dictionary that is filled at the end, in percent of all inputs: ``outside_grid`` (beyond
        the inner grid, where bases are missing) and ``outside_knots`` (where no spline answers).
        Empty for a head without splines.
    """
    layer = model.head.layers[0] if isinstance(model.head, WICClassifier) else None
    coverage: dict[str, float] = {}
    if not isinstance(layer, KANLinear):
        yield coverage
        return
    counts: list[Tensor] = []
    seen: float = 0

    def count(_layer: nn.Module, inputs: tuple[Tensor]) -> None:
        nonlocal seen
        seen += inputs[0].numel()
        counts.append(torch.stack(layer.outside_grid(inputs[0])))

    handle = layer.register_forward_pre_hook(count)
    try:
        yield coverage
    finally:
        handle.remove()
    own = torch.stack(counts).sum(dim=0).tolist() if counts else [0, 0]
    partly, wholly, seen = distributed.total([*own, seen])
    coverage.update(outside_grid=100 * partly / seen, outside_knots=100 * wholly / seen)


@torch.inference_mode()
def fit_grid(model: VoLUNet, loader: DataLoader[Any], device: torch.device) -> None:
    """Fit the spline grid of a KAN head to the pooled features of a set of pictures.

    Raises:
        UserError: If the head has no grid, the pictures are too few or unreadable, or a feature is
            not finite.
    """
    if not isinstance(model.head, WICClassifier):
        raise UserError("--kan-grid-update needs a KAN head; leave it out with --head linear.")
    model.eval()
    features = []
    for batch in loader:
        if batch.failures:
            raise UserError(batch.failures[0])
        features.append(model.pooled_features(batch.to(device).images))
    try:
        model.head.update_grid(torch.cat(features))
    except ValueError as error:
        raise UserError(f"--kan-grid-update failed: {error}") from error


class Evaluation:
    """Scores models on a labelled set, in the way the training loop asks for.

    Args:
        loader: Batches of the set, not shuffled.
        targets: 0/1 (N, K), in the order of the set.
        device: Where batches go.
        amp: Autocast type or ``None``.
        stop: Asked after each batch whether a signal has come in. Several processes finish the
            evaluation first, as they stop together.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        targets: npt.NDArray[np.uint8],
        *,
        device: torch.device,
        amp: torch.dtype | None,
        stop: StopRequest | None = None,
    ) -> None:
        self.loader = loader
        self.targets = targets
        self.device = device
        self.amp = amp
        self.stop = stop if distributed.processes() == 1 else None
        self.per_class_ap = np.zeros(targets.shape[1])  # of the last evaluation, from 0 to 1

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """mAP, precision, recall and F1 at a threshold of 0.5, and the grid's coverage: percent."""
        with grid_coverage(model) as coverage:
            scores = predict(model, self.loader, self.device, self.amp, self.stop)
        self.per_class_ap = average_precision_per_class(self.targets, scores)
        return {
            "mAP": 100 * float(self.per_class_ap.mean()),
            **precision_recall_f1(self.targets, scores),
            **coverage,
        }
