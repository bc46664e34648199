"""A task of one convolution: which pixels of an image are redder than blue. For tests."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from helper_functions import cli
from helper_functions.checkpoints import Checkpoint
from helper_functions.data.dataset import Samples
from helper_functions.data.flags import InputSettings
from helper_functions.data.splits import SplitTable, read_split_table
from helper_functions.data.targets import Target, resize_target
from helper_functions.data.transforms import EvalTransform, TrainTransform, Transform
from helper_functions.results.report import Column, Section, Table
from helper_functions.tasks.base import Evaluator, Predictions, Results, Task


class ToyNet(nn.Module):
    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.architecture, self.settings = "toy", {"bias": bias}
        self.layer, self.dropout = nn.Conv2d(3, 1, 1, bias=bias), nn.Dropout(0.1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(self.dropout(images))
        return logits[:, 0]


class ToyEvaluator(Evaluator):
    def __init__(self) -> None:
        self.correct: list[float] = []

    def update(self, predictions: Predictions, targets: Any, names: Sequence[str]) -> None:
        for mask, target, _ in zip(predictions["mask"], targets, names, strict=True):
            truth = resize_target(target, target.shape, mask.shape)  # as large as in training
            self.correct.append(float(np.mean(mask == np.asarray(truth))))

    def merge(self, shares: Sequence[Self]) -> Self:
        self.correct = [value for share in shares for value in share.correct]
        return self

    def compute(self) -> dict[str, float]:
        return {"accuracy": 100 * float(np.mean(self.correct))}


class Toy(Task):
    name: ClassVar[str] = "toy"
    monitor: ClassVar[str] = "accuracy"
    columns: ClassVar[tuple[str, ...]] = ("accuracy",)

    def __init__(self, input: InputSettings, table: SplitTable | None, folder: Path | None) -> None:
        self.input, self.table, self.folder = input, table, folder

    @classmethod
    def add_flags(cls, parser: cli.Parser, script: str) -> None:
        parser.add_argument("--toy-factor", type=float, default=1.0, help=f"for {script}")

    @classmethod
    def from_flags(cls, flags: argparse.Namespace) -> Self:
        return cls(InputSettings(32), read_split_table(flags.csv_path, labels=False), flags.img_dir)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, flags: argparse.Namespace) -> Self:
        table = None if flags.csv_path is None else read_split_table(flags.csv_path, labels=False)
        return cls(InputSettings.from_flags(flags, checkpoint["info"]), table, flags.img_dir)

    def info(self) -> dict[str, Any]:
        return self.input.info()

    def samples(self, split: str, unreadable_allowed: int = 0) -> Samples:
        assert self.table is not None and self.folder is not None and unreadable_allowed >= 0
        names = [row.filename for row in self.table.split(split)]
        paths = [self.folder / name for name in names]
        images = [np.asarray(Image.open(path), np.int64) for path in paths]
        return Samples(
            names, paths, [torch.from_numpy(1 * (i[..., 0] > i[..., 2])) for i in images]
        )

    def transform(self, *, training: bool) -> Transform:
        return (
            TrainTransform(32, cutout_factor=0, rand_augment=False, horizontal_flip=True)
            if training
            else EvalTransform(32)
        )

    def build_model(self) -> nn.Module:
        return ToyNet()

    def loss(
        self, model: nn.Module, images: Tensor, targets: Any, share: float = 1.0
    ) -> dict[str, Tensor]:
        return {"loss": binary_cross_entropy_with_logits(model(images), targets.float())}

    def predict(self, model: nn.Module, images: Tensor) -> Predictions:
        return {"mask": (model(images) > 0).cpu().numpy().astype(np.uint8)}

    def evaluator(self, length: int) -> ToyEvaluator:
        return ToyEvaluator()

    def write(
        self,
        folder: Path,
        samples: Samples,
        predictions: Iterable[tuple[Sequence[int], Predictions]],
        results: Results | None,
    ) -> str:
        for indices, part in predictions:
            for index, mask in zip(indices, part["mask"], strict=True):
                Image.fromarray(mask).save(folder / Path(samples.names[index]).name)
        return f"Masks are in {folder}."

    def draw(
        self, image: Image.Image, prediction: Predictions | None, target: Target
    ) -> Image.Image:
        return image

    def sections(self, results: Results) -> list[Section]:
        rows = [[name] for name in results.samples.names]
        return [Table("Toy images", [Column("image")], rows)]
