"""Counting from points: data, network, loss, predictions and results."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from helper_functions import cli
from helper_functions.check_data.points import check_points_for_training
from helper_functions.checkpoints import Checkpoint
from helper_functions.data.bands import PAPER
from helper_functions.data.dataset import Samples, split_samples
from helper_functions.data.dense_transforms import DenseEvalTransform, DenseTrainTransform
from helper_functions.data.flags import InputSettings
from helper_functions.data.images import ImageError, image_size, read_image
from helper_functions.data.points import PointTable, check_inside, read_points, to_point_map
from helper_functions.data.splits import Sample, SplitTable, read_split_table
from helper_functions.data.targets import Target
from helper_functions.data.transforms import Transform
from helper_functions.results.overlays import write_image
from helper_functions.results.report import KeyFigure, Section
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import make_folder, output_names
from helper_functions.runtime.text import printable
from helper_functions.tasks.base import (
    PredictImages,
    Predictions,
    Results,
    Sizes,
    Task,
    check_finite,
    create_with_notes,
)
from helper_functions.tasks.count import flags as count_flags
from helper_functions.tasks.count import report
from helper_functions.tasks.count.drawing import draw_marks, sort_points
from helper_functions.tasks.count.evaluator import CountEvaluator
from helper_functions.tasks.count.flags import CountingSettings, TrainingSettings
from helper_functions.tasks.count.intervals import Intervals, read_calibration
from helper_functions.tasks.count.objects import (
    Objects,
    find_objects,
    pack_mask,
    unpack_mask,
)
from helper_functions.tasks.count.tables import CountTables
from loss_functions import LCFCNLoss
from models import create_network
from models.tiling import tiled_logits

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
OBJECT = "object"  # the name of the only class
_SHOWN = 10  # images of a prediction that the terminal shows


class Count(Task):
    """Counting with LCFCN: a blob of pixels above one half for every object.

    Args:
        classes: Names of the K outputs.
        input: How images are read; ``image_size`` is not used.
        scale: Factor of the images' size.
        loss_mode: Of ``LCFCNLoss``.
        table: The split CSV; ``None`` to predict images without one.
        points: The points CSV; ``None``: nothing is known of the images.
        img_dir: Folder that file names are relative to.
        training: What a training needs beside the data.
        counting: How predictions are made and compared.
        intervals: Prediction intervals of counts, if wanted.
    """

    name: ClassVar[str] = "count"
    monitor: ClassVar[str] = "MAE"
    higher_is_better: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ("MAE", "MAE_last", "RMSE", "NAE", "GAME_3", "F1")
    recipes: ClassVar[dict[str, dict[str, Any]]] = count_flags.RECIPES

    def __init__(
        self,
        classes: Sequence[str],
        input: InputSettings,
        *,
        scale: float = 1.0,
        loss_mode: str = "released",
        table: SplitTable | None = None,
        points: PointTable | None = None,
        img_dir: Path | None = None,
        training: TrainingSettings | None = None,
        counting: CountingSettings | None = None,
        intervals: Intervals | None = None,
    ) -> None:
        self.classes = list(classes)
        self.input = input
        self.scale = scale
        self.table = table
        self.points = points
        self.img_dir = img_dir
        self.training = training or TrainingSettings({})
        self.counting = counting or CountingSettings()
        self.intervals = intervals
        self.loss_mode = loss_mode
        self.lcfcn = LCFCNLoss(loss_mode)  # type: ignore[arg-type]
        moments = (input.mean, input.std)
        self.eval_transform = DenseEvalTransform(scale, *moments)
        self.train_transform = DenseTrainTransform(
            scale,
            *moments,
            crop_size=self.training.crop_size,
            scale_jitter=self.training.scale_jitter,
            horizontal_flip=self.training.horizontal_flip,
            quarter_turns=self.training.quarter_turns,
        )

    # From the command line or a checkpoint

    @classmethod
    def add_flags(cls, parser: cli.Parser, script: str) -> None:
        """Add the flags of counting."""
        count_flags.add_count_flags(parser, script)

    @classmethod
    def check_flags(cls, parser: cli.Parser, flags: argparse.Namespace) -> None:
        """Refuse flags of ``val`` that contradict each other."""
        count_flags.check_val_flags(parser, flags)

    @classmethod
    def from_flags(cls, flags: argparse.Namespace) -> Self:
        """Read the split CSV and the points; fill in what depends on the data."""
        _check_image_size(flags)
        if not 0.01 <= flags.scale <= 100:
            raise UserError(f"--scale is {flags.scale:g}; choose a factor from 0.01 to 100.")
        flags.bands = flags.bands or [PAPER]
        flags.mean = flags.mean or IMAGENET_MEAN
        flags.std = flags.std or IMAGENET_STD
        table = read_split_table(flags.csv_path, labels=False)
        names = [row.filename for row in table.samples]
        points = read_points(flags.points_path, names, labels=flags.loss_mode != "released")
        for line in check_points_for_training(table, points):
            print(line)
        return cls(
            points.classes or [OBJECT],
            InputSettings.from_flags(flags),
            scale=flags.scale,
            loss_mode=flags.loss_mode,
            table=table,
            points=points,
            img_dir=flags.img_dir,
            training=TrainingSettings.from_flags(flags),
            counting=cli.from_flags(CountingSettings, flags),
        )

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, flags: argparse.Namespace) -> Self:
        """Take classes, scale and input settings from a checkpoint."""
        info = checkpoint["info"]
        _check_image_size(flags)
        table = points = None
        if flags.csv_path is not None:
            table = read_split_table(flags.csv_path, labels=False)
        if table is not None and flags.points_path is not None:
            names = [row.filename for row in table.samples]
            points = read_points(flags.points_path, names, labels=info["loss_mode"] != "released")
            for note in points.notes:
                print(f"Note: {note}")
            if unknown := sorted(set(points.classes) - set(info["classes"])):
                raise UserError(
                    f"{flags.points_path} has points of the class {unknown[0]!r}, which "
                    f"{checkpoint.path} does not know; its classes are "
                    f"{', '.join(info['classes'][:10])}."
                )
        intervals = None
        if flags.interval is not None:
            default = checkpoint.path.parent / "val" / "counts.csv"
            intervals = read_calibration(flags.calibration or default, flags.interval)
        return cls(
            info["classes"],
            InputSettings.from_flags(flags, info),
            scale=info["scale"],
            loss_mode=info["loss_mode"],
            table=table,
            points=points,
            img_dir=flags.img_dir,
            counting=cli.from_flags(CountingSettings, flags),
            intervals=intervals,
        )

    def info(self) -> dict[str, Any]:
        """Return class names, scale and input settings."""
        own = {"classes": self.classes, "scale": self.scale, "loss_mode": self.loss_mode}
        return {**own, **self.input.info()}

    def describe(self, training: int, validation: int) -> str:
        """Return what is trained on how many images and points."""
        total = 0 if self.points is None else len(self.points)
        names = self.training.network
        encoder = names.get("backbone_name")
        network = names["name"] + (f" on {encoder}" if encoder else "")
        kinds = f" of {len(self.classes)} classes" if len(self.classes) > 1 else ""
        return (
            f"Counting from points: {training} training and {validation} validation images, "
            f"{total:,} points{kinds} in the table; {network}"
        )

    # Data

    @property
    def labeled(self) -> bool:
        """Whether points tell the true counts."""
        return self.points is not None

    def samples(self, split: str, unreadable_allowed: int = 0) -> Samples:
        """Return the images of a split, with points (P, 3) x, y, class index as targets."""
        assert self.table is not None and self.img_dir is not None
        samples = split_samples(
            self.table,
            split,
            self.img_dir,
            self._targets,
            self.input.image_format,
            unreadable_allowed,
        )
        if self.points is not None:
            for name, path in zip(samples.names, samples.paths, strict=True):
                points = self.points.images[name]
                with contextlib.suppress(ImageError):  # allowed, or reported when it is read
                    if len(points):
                        check_inside(points, image_size(path))
        return samples

    def _targets(self, rows: Sequence[Sample]) -> list[Target]:
        """Return the points of each image; ``None`` where nothing is known."""
        if self.points is None:
            return [None] * len(rows)
        # A point's class by its position in the model's classes, which may know more
        index = np.array([self.classes.index(c) for c in self.points.classes] or [0], np.int64)
        images = [self.points.images[row.filename] for row in rows]
        columns = ((points.xy, index[points.classes][:, None]) for points in images)
        return [torch.from_numpy(np.hstack(both).astype(np.float32)) for both in columns]

    def transform(self, *, training: bool) -> Transform:
        """Return crop, flips and turns in training, the image as it is elsewhere."""
        return self.train_transform if training else self.eval_transform

    def fingerprint(self) -> str:
        """Return a hash of the splits and points."""
        assert self.table is not None and self.points is not None
        digest = hashlib.sha256(repr(self.points.classes).encode())
        for row in self.table.samples:
            points = self.points.images[row.filename]
            digest.update(f"{row.filename}\0{row.split}\0".encode(errors="surrogateescape"))
            digest.update(points.xy.tobytes() + points.classes.tobytes())
        return digest.hexdigest()

    # Training

    def build_model(self, output_bias: float = -2.0) -> nn.Module:
        """Return a new network with an output for each class; early blobs are few."""
        network = {k: v for k, v in self.training.network.items() if v is not None}
        if network["name"] != "fcn8_vgg16":  # its scores start at 0, as released
            network["output_bias"] = output_bias
        return create_with_notes(create_network, num_outputs=len(self.classes), **network)

    def loss(
        self, model: nn.Module, images: Tensor, targets: Any, sizes: Sizes = (), share: float = 1.0
    ) -> dict[str, Tensor]:
        """Return the LCFCN loss, the mean over the images."""
        logits = model(images)
        total = logits.new_zeros((), dtype=torch.float32)
        for row, points, (height, width) in zip(logits, targets, sizes, strict=True):
            values = points.cpu().numpy()
            marks = to_point_map(values[:, :2], values[:, 2].astype(np.int64), height, width)
            point_map = torch.from_numpy(marks)[None].long()
            total = total + self.lcfcn(row[None, :, :height, :width], point_map)
        return {"loss": total / len(images)}

    # Prediction

    def predict(self, model: nn.Module, images: Tensor, sizes: Sizes = ()) -> Predictions:
        """Return the objects of B images, in pixels of the images as they are stored.

        Returns:
            ``points``: B arrays (P, 4), see ``Objects``. ``sizes`` (B, 2): height and width of the
            stored images. ``masks``: B masks of ``pack_mask``, of the heights and widths
            ``mask_sizes`` (B, 2).

        Raises:
            TrainingFailed: If a logit is not finite.
        """
        logits = tiled_logits(model, images, self.counting.tile_size)
        probabilities = logits.float().sigmoid().cpu().numpy()
        check_finite(probabilities)
        objects = [
            find_objects(row[:, :height, :width], self.scale)
            for row, (height, width) in zip(probabilities, sizes, strict=True)
        ]
        return {
            "points": [found.points for found in objects],
            "sizes": np.rint(np.array(sizes) / self.scale).astype(np.int64),
            "masks": [pack_mask(found.mask) for found in objects],
            "mask_sizes": np.array(sizes, np.int64),
        }

    def prediction_settings(self) -> dict[str, Any]:
        """Return the size of tiles."""
        return {"tile size": self.counting.tile_size}

    def evaluator(self, length: int) -> CountEvaluator:
        """Return an evaluator of counts and positions."""
        return CountEvaluator(self.classes, self.counting)

    # Results

    def write(
        self,
        folder: Path,
        samples: Samples,
        predictions: Iterable[tuple[Sequence[int], Predictions]],
        results: Results | None,
    ) -> str:
        """Write ``counts.csv``, ``points.csv`` and an overlay of every image."""
        tables = CountTables(self.classes, compared=results is not None, intervals=self.intervals)
        lines: list[str] = []
        readable = [index for indices, _ in predictions for index in indices]
        stems = (PurePath(samples.names[index]).with_suffix("").as_posix() for index in readable)
        files, total = output_names(stems, ".png"), len(readable)
        with tqdm(desc="drawing", total=total, disable=None, leave=False) as bar:
            for indices, part in predictions:
                for index, found in zip(indices, _found(part), strict=True):
                    name = samples.names[index]
                    true = None if results is None else _numbers(samples.targets[index])
                    tables.add(name, found.points, true)
                    if len(lines) < _SHOWN:
                        lines.append(f"{printable(name)}: {len(found.points)}")
                    image = self._overlay(samples.paths[index], found, true)
                    path = folder / "overlays" / f"{next(files)}.png"
                    make_folder(path.parent)
                    write_image(path, image)
                    bar.update()
        tables.write(folder)
        if results is not None:
            text = report.summary(results.metrics)
        else:
            more = [f"... and {total - len(lines)} more images"] if total > len(lines) else []
            text = "\n".join([*lines, *more])
        return (
            f"{text}\n\nThe counts of {total} images are in {folder / 'counts.csv'}, their "
            f"positions in {folder / 'points.csv'}, drawn in {folder / 'overlays'}."
        )

    def _overlay(
        self, path: Path, found: Objects, true: Any, side: int | None = 1600
    ) -> Image.Image:
        """Draw what was found in an image, and what was missed if that is known."""
        image = read_image(path, self.input.image_format)
        mask = found.mask
        if mask.shape != (image.height, image.width):
            resized = Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST)
            mask = np.asarray(resized, bool)
        return draw_marks(
            image, sort_points(found.points, true, self.counting.match_radius), mask, side
        )

    def _overlays(
        self, samples: Samples, predict: PredictImages, indices: Sequence[int], side: int
    ) -> Iterator[Image.Image]:
        """Yield the overlays of some images, whose objects are predicted again."""
        parts = predict(self.predict, indices)
        everything = (found for part in parts for found in _found(part))
        for index, found in zip(indices, everything, strict=False):
            true = _numbers(samples.targets[index])
            yield self._overlay(samples.paths[index], found, true, side)

    def draw(
        self, image: Image.Image, prediction: Predictions | None, target: Target
    ) -> Image.Image:
        """Draw the points of an image."""
        known = np.zeros((0, 3), np.float32) if target is None else target.numpy()
        if prediction is not None:
            true = None if target is None else known
            marks = sort_points(prediction["points"][0], true, self.counting.match_radius)
            return draw_marks(image, marks)
        return draw_marks(image, sort_points(known[:, [0, 1, 2, 2]], None, 0))

    def key_figures(self, results: Results) -> list[KeyFigure]:
        """Return MAE, RMSE, the bias and F1 of the positions."""
        return report.key_figures(results.metrics)

    def sections(self, results: Results) -> list[Section]:
        """Return predicted against true counts, errors by density, the best and worst images."""
        evaluator = results.evaluator
        assert isinstance(evaluator, CountEvaluator)

        draw = partial(self._overlays, results.samples, results.predict, side=960)
        return report.sections(results.metrics, evaluator, results.tables, draw)

    def log_images(
        self, model: nn.Module, samples: Samples, predict: PredictImages
    ) -> Iterator[tuple[str, Image.Image]]:
        """Yield what was found in some validation images."""
        few = range(min(4, len(samples.paths)))
        images = self._overlays(samples, predict, few, side=640)
        for name, image in zip(samples.names, images, strict=False):
            yield f"counts/{name}", image  # as a whole: folders may hold equal names

    @property
    def export_size(self) -> int:
        """Return the side of a tile."""
        return self.counting.tile_size or CountingSettings().tile_size

    def export_module(self, model: nn.Module) -> nn.Module:
        """Return the network with probabilities (B, K, H, W) as output."""
        print(
            "Note: the exported model gives the probability of every pixel; an object is a "
            "connected blob above 0.5 (8 neighbors), which the program that runs it has to find."
        )
        return nn.Sequential(model, nn.Sigmoid())


def _check_image_size(flags: argparse.Namespace) -> None:
    """Refuse ``--image-size``."""
    if flags.image_size is not None:
        raise UserError(
            "Counting keeps the size of images; leave out --image-size. In training, --scale "
            "resizes them all by a factor, and --crop-size takes windows."
        )


def _found(part: Predictions) -> Iterator[Objects]:
    """Yield the objects of each image of ``Count.predict``."""
    columns = (part["points"], part["masks"], part["mask_sizes"])
    for points, packed, size in zip(*columns, strict=True):
        yield Objects(points, unpack_mask(packed, size))


def _numbers(target: Target) -> Any:
    """Return a target as an array; ``None`` where nothing is known."""
    return None if target is None else target.numpy()
