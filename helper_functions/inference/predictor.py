"""A trained model in use: pictures in, scores and region maps out, as the command line asks."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from helper_functions import cli
from helper_functions.checkpoints.checkpoint import Checkpoint
from helper_functions.data.cache import open_cache
from helper_functions.data.dataset import ImageDataset, NoTargets, make_loader
from helper_functions.data.splits import SplitTable
from helper_functions.data.transforms import EvalTransform
from helper_functions.inference.tta import ViewAverage
from helper_functions.runtime.errors import UserError
from helper_functions.tasks.classify.classification import predict
from helper_functions.tasks.classify.region_maps import RegionMap, find_region_maps
from helper_functions.tasks.classify.regions import RegionRecorder
from helper_functions.training.engine import resolve_amp, resolve_device


class TrainedModel:
    """A checkpoint's model on a device, and how it reads pictures.

    What the command line leaves open is as it was in training.

    Args:
        args: The command line of ``val.py``.
        checkpoint: Where the model is from.

    Attributes:
        settings: Image size, mean, std, bands and value range in use.
        reading: How raw values become red, green and blue.
        transform: What a picture goes through.
        device: Where the model is.
        amp: Autocast type or ``None``.
        scorer: The model, averaged over the views of --tta.

    Raises:
        UserError: If the command line contradicts the checkpoint or itself.
    """

    def __init__(self, args: argparse.Namespace, checkpoint: Checkpoint) -> None:
        _check_against_checkpoint(args, checkpoint)
        self.args = args
        self.checkpoint = checkpoint
        info = checkpoint["info"]
        self.settings = {
            name: getattr(args, name) or info.get(name)
            for name in ("image_size", "mean", "std", "bands", "value_range")
        }
        size, mean, std, bands, value_range = self.settings.values()
        self.reading = cli.reading(bands, value_range)
        self.transform = EvalTransform(size, mean, std)
        self.device = resolve_device(args.device)
        self.amp = resolve_amp(args.amp, self.device)
        self.model = checkpoint.model().to(self.device)
        self.scorer = ViewAverage(self.model, self.model, args.tta)

    def class_names(self, table: SplitTable | None) -> list[str]:
        """Names of the logits; checkpoints of the released program leave them to the CSV.

        Raises:
            UserError: If the CSV names another number of classes.
        """
        names: list[str] | None = self.checkpoint["info"]["classes"]
        if names is not None:
            return names
        num_classes, path = self.checkpoint.num_classes, self.checkpoint.path
        if table is None:
            print("The checkpoint carries no class names; the columns are numbered instead.")
            return [f"class_{index}" for index in range(num_classes)]
        if len(table.classes) != num_classes:
            raise UserError(
                f"{path} scores {num_classes} classes without naming them, but {table.path} names "
                f"{len(table.classes)}; give the CSV that it was trained with."
            )
        return list(table.classes)

    def loader(
        self, paths: Sequence[Path], targets: Sequence[Tensor] | None = None
    ) -> DataLoader[Any]:
        """Batches of N pictures, with N targets if there are any.

        Raises:
            UserError: If the model refuses the size of the pictures or of --superpixel-grid.
        """
        side = self.transform.resize.side
        try:
            cells = self.model.check_grid(side)
        except ValueError as error:
            raise UserError(str(error)) from error
        _check_superpixel_grid(self.args.superpixel_grid, cells, side)
        return make_loader(
            ImageDataset(
                paths,
                NoTargets(len(paths)) if targets is None else targets,
                self.transform,
                cache=open_cache(self.args.cache_dir),
                reading=self.reading,
            ),
            batch_size=self.args.batch_size,
            workers=self.args.workers,
            pin_memory=self.device.type == "cuda",
        )

    def score(
        self, paths: Sequence[Path], recorder: RegionRecorder | None = None
    ) -> npt.NDArray[np.float32]:
        """Class probabilities of N pictures, float32 (N, K).

        Args:
            paths: The pictures.
            recorder: Around the model, if the classes of the regions are wanted too.
        """
        scorer = self.scorer
        if recorder is not None:
            scorer = ViewAverage(recorder, self.model, self.args.tta)
        return predict(scorer, self.loader(paths), self.device, self.amp)

    def region_maps(self, paths: Sequence[Path], temperature: float) -> Iterator[RegionMap]:
        """What the regions of pictures predict, one map a picture."""
        return find_region_maps(
            self.model,
            self.loader(paths),
            self.device,
            self.amp,
            grid=self.args.superpixel_grid,
            temperature=temperature,
        )

    def description(self) -> dict[str, Any]:
        """What scores depend on beside the pictures, under names for people."""
        return {
            "checkpoint": self.checkpoint.digest(),
            "image size": self.settings["image_size"],
            "normalisation": [self.settings["mean"], self.settings["std"]],
            "bands and value range": repr(self.reading),
            "views": self.args.tta,
            "device": self.device.type,
            "precision": str(self.amp or torch.float32),
        }


def _check_against_checkpoint(args: argparse.Namespace, checkpoint: Checkpoint) -> None:
    """Refuse flags that contradict what the checkpoint holds."""
    num_classes = checkpoint.num_classes
    if args.num_classes is not None and args.num_classes != num_classes:
        raise UserError(
            f"--num-classes is {args.num_classes}, but {checkpoint.path} has {num_classes} classes."
        )
    backbone_name = checkpoint["settings"]["backbone_name"]
    if args.backbone_name is not None and args.backbone_name != backbone_name:
        raise UserError(
            f"--backbone-name is {args.backbone_name}, but {checkpoint.path} holds a "
            f"{backbone_name}."
        )


def _check_superpixel_grid(
    grid: tuple[int, int] | None, cells: tuple[int, int], image_size: int
) -> None:
    """Refuse a grid that is finer than the feature map."""
    if grid is not None and (grid[0] > cells[0] or grid[1] > cells[1]):
        raise UserError(
            f"--superpixel-grid asks for {grid[0]} x {grid[1]} cells, but the feature map of "
            f"pictures of {image_size} pixels has {cells[0]} x {cells[1]}; lower it, or raise "
            "--image-size."
        )
