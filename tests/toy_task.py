"""A task of one convolution: which pixels of an image are redder than blue. For tests."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from helper_functions import cli
from helper_functions.checkpoints import Checkpoint
from helper_functions.data.dataset import Samples
from helper_functions.data.flags import InputSettings
from helper_functions.data.splits import read_split_table
from helper_functions.data.targets import resize_target
from helper_functions.data.transforms import EvalTransform, TrainTransform, Transform
from helper_functions.results.report import Column, Section, Table
from helper_functions.tasks.base import Evaluator, Predictions, Results, Task


class ToyNet(nn.Sequential):
    def __init__(self, bias: bool = True) -> None:
        super().__init__(nn.Dropout(0.1), nn.Conv2d(3, 1, 1, bias=bias), nn.Flatten(0, 1))
        self.architecture, self.settings = "toy", {"bias": bias}


class ToyEvaluator(Evaluator):
    def __init__(self) -> None:
        self.correct: list[float] = []

    def update(self, predictions: Predictions, targets: Any, names: Any) -> None:
        for mask, target in zip(predictions["mask"], targets, strict=True):
            truth = resize_target(target, target.shape, mask.shape)  # as large as in training
            self.correct.append(float(np.mean(mask == np.asarray(truth))))

    def merge(self, shares: Any) -> Self:
        self.correct = [value for share in shares for value in share.correct]
        return self

    def compute(self) -> dict[str, float]:
        return {"accuracy": 100 * float(np.mean(self.correct))}


class Toy(Task):
    name, monitor, columns = "toy", "accuracy", ("accuracy",)
    input = InputSettings(32)

    def __init__(self, table: Any = None, folder: Path = Path()) -> None:
        self.table, self.folder = table, folder

    @classmethod
    def add_flags(cls, parser: cli.Parser, script: str) -> None:
        parser.add_argument("--toy-factor", type=float, default=1.0, help=f"for {script}")

    @classmethod
    def from_flags(cls, flags: Namespace) -> Self:
        return cls(read_split_table(flags.csv_path, labels=False), flags.img_dir)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, flags: Namespace) -> Self:
        assert checkpoint["info"]["image_size"] == 32
        return cls.from_flags(flags) if flags.csv_path else cls()

    def samples(self, split: str, unreadable_allowed: int = 0) -> Samples:
        paths = [self.folder / row.filename for row in self.table.split(split)]
        images = [torch.from_numpy(np.array(Image.open(path))) for path in paths]
        masks = [(image[..., 0] > image[..., 2]).long() for image in images]
        return Samples([path.name for path in paths], paths, masks)

    def transform(self, *, training: bool) -> Transform:
        return TrainTransform(32, cutout_factor=0) if training else EvalTransform(32)

    def build_model(self) -> nn.Module:
        return ToyNet()

    def loss(
        self, model: Any, images: Tensor, targets: Any, sizes: Any = (), share: float = 1
    ) -> Any:
        return {"loss": binary_cross_entropy_with_logits(model(images), targets.float())}

    def predict(self, model: nn.Module, images: Tensor, sizes: Any = ()) -> Predictions:
        return {"mask": (model(images) > 0).byte().cpu().numpy()}

    def evaluator(self, length: int) -> ToyEvaluator:
        return ToyEvaluator()

    def write(self, folder: Path, samples: Samples, predictions: Any, results: Any) -> str:
        for indices, part in predictions:
            for index, mask in zip(indices, part["mask"], strict=True):
                Image.fromarray(mask).save(folder / samples.names[index])
        return f"Masks are in {folder}."

    def sections(self, results: Results) -> list[Section]:
        return [Table("Toy images", [Column("image")], [[name] for name in results.samples.names])]
