"""Classification with VoLUNet: tags of images in, scores of classes and of regions out."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from helper_functions import cli
from helper_functions.check_data.rows import check_for_training
from helper_functions.checkpoints import Checkpoint
from helper_functions.data.bands import PAPER
from helper_functions.data.dataset import Samples, split_samples
from helper_functions.data.flags import InputSettings
from helper_functions.data.images import read_image
from helper_functions.data.masks import MaskFolder
from helper_functions.data.splits import SplitTable, read_split_table
from helper_functions.data.targets import Target
from helper_functions.data.transforms import EvalTransform, TrainTransform, Transform
from helper_functions.metrics.thresholds import THRESHOLDS_FILE, describe_point, write_point
from helper_functions.results.overlays import draw_caption
from helper_functions.results.report import KeyFigure, Section
from helper_functions.results.tables import write_prediction_parts
from helper_functions.runtime.errors import UserError
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
from helper_functions.tasks.classify import flags as classify_flags
from helper_functions.tasks.classify import report
from helper_functions.tasks.classify.evaluator import ClassifyEvaluator
from helper_functions.tasks.classify.flags import DATASETS, DecisionSettings, TrainingSettings
from helper_functions.tasks.classify.long_tail import (
    count_classes,
    inverse_frequency_weights,
    repeat_factors,
)
from helper_functions.tasks.classify.region_files import write_region_maps
from helper_functions.tasks.classify.region_maps import (
    RegionMap,
    overlay_regions,
    region_maps,
    region_predictions,
)
from helper_functions.tasks.classify.splines import draw_splines
from helper_functions.tasks.classify.summary import summary
from helper_functions.tasks.classify.targets import MultiHotTargets
from loss_functions import AsymmetricLoss, LocalNMSLoss, RegionTagLoss
from models import VoLUNet, VoLUNetConfig, create_model
from models.backbones import feature_map, published_settings
from models.inplace_abn import DEFAULT, INPLACE_ABN
from models.kan import KANLinear, WICClassifier

_SHOWN = 10  # images of a prediction that the terminal shows


class Classify(Task):
    """Multi-label classification with VoLUNet.

    Args:
        classes: Names of the K logits.
        input: How images are read.
        table: The split CSV; ``None`` to predict images without labels.
        img_dir: Folder that its file names are relative to.
        training: What a training needs beside the data.
        decisions: How scores become decisions.
        masks: Pixel masks to compare the regions' classes with.
        write_regions: Whether region maps are written.
        grid: Rows and columns of the cells that superpixels are found on; ``None``: as trained.
        score_from: What logits are made of, see ``VoLUNetConfig``; ``None``: as trained.
        dataset: One of ``DATASETS``.
    """

    name: ClassVar[str] = "classify"
    monitor: ClassVar[str] = "mAP"
    columns: ClassVar[tuple[str, ...]] = (
        *("mAP", "mAP_last", "F_C", "CF1", "F_O"),
        *("region_purity", "region_accuracy", "region_miou"),
    )
    loss_curves: ClassVar[tuple[str, ...]] = ("loss_per_label",)
    sums_over_images: ClassVar[bool] = True
    recipes: ClassVar[dict[str, dict[str, Any]]] = classify_flags.RECIPES

    def __init__(
        self,
        classes: Sequence[str],
        input: InputSettings,
        *,
        table: SplitTable | None = None,
        img_dir: Path | None = None,
        training: TrainingSettings | None = None,
        decisions: DecisionSettings | None = None,
        masks: MaskFolder | None = None,
        write_regions: bool = False,
        grid: tuple[int, int] | None = None,
        score_from: str | None = None,
        dataset: str = "csv",
    ) -> None:
        self.classes = list(classes)
        self.input = input
        self.table = table
        self.img_dir = img_dir
        self.training = training or TrainingSettings({})
        self.decisions = decisions or DecisionSettings()
        self.masks = masks
        self.write_regions = write_regions
        self.grid = grid
        self.score_from = score_from
        self.dataset = dataset
        # Both transforms are made once, so that what makes no sense is refused early.
        settings = (input.image_size, input.mean, input.std)
        self.eval_transform = EvalTransform(*settings)
        self.train_transform = TrainTransform(
            *settings,
            cutout_factor=self.training.cutout,
            rand_augment=self.training.rand_augment,
            horizontal_flip=self.training.horizontal_flip,
        )
        self.asl = AsymmetricLoss(
            self.training.gamma_neg,
            self.training.gamma_pos,
            self.training.clip,
            weight=self._class_weights(),
        )
        self.local_nms = LocalNMSLoss()
        self.region_tags = RegionTagLoss(
            self.asl,
            self.training.model.get("region_tag_sharpness", VoLUNetConfig.region_tag_sharpness),
        )

    # From the command line or a checkpoint

    @classmethod
    def add_flags(cls, parser: cli.Parser, script: str) -> None:
        """Add the flags of classification."""
        if script == "train":
            classify_flags.add_train_flags(parser)
        else:
            classify_flags.add_val_flags(parser)

    @classmethod
    def check_flags(cls, parser: cli.Parser, flags: argparse.Namespace) -> None:
        """Refuse flags of ``val`` that contradict each other."""
        classify_flags.check_val_flags(parser, flags)

    @classmethod
    def from_flags(cls, flags: argparse.Namespace) -> Self:
        """Read the split CSV and check it against the flags; fill in what depends on the data."""
        flags.image_size = flags.image_size or 224
        flags.bands = flags.bands or [PAPER]
        if flags.normalize == "backbone":
            try:
                published = published_settings(flags.backbone_name)
            except ValueError as error:
                raise UserError(str(error)) from error
            flags.mean = flags.mean or list(published.mean)
            flags.std = flags.std or list(published.std)
        table = read_split_table(flags.csv_path)
        _check_class_count(table, flags)
        for line in check_for_training(table):
            print(line)
        flags.num_classes = len(table.classes)
        return cls(
            table.classes,
            InputSettings.from_flags(flags),
            table=table,
            img_dir=flags.img_dir,
            training=TrainingSettings.from_flags(flags),
            dataset=flags.dataset,
        )

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, flags: argparse.Namespace) -> Self:
        """Take class names and input settings from a checkpoint."""
        settings, info = checkpoint["settings"], checkpoint["info"]
        num_classes = settings.get("num_classes")
        if not isinstance(num_classes, int):
            raise UserError(f"The settings in {checkpoint.path} lack a number of classes.")
        if flags.num_classes not in (None, num_classes):
            raise UserError(
                f"--num-classes is {flags.num_classes}, but {checkpoint.path} has {num_classes} "
                f"classes."
            )
        if flags.backbone_name not in (None, settings.get("backbone_name")):
            raise UserError(
                f"--backbone-name is {flags.backbone_name}, but {checkpoint.path} holds a "
                f"{settings.get('backbone_name')}."
            )
        table = None if flags.csv_path is None else read_split_table(flags.csv_path)
        classes = info.get("classes") or _class_names(num_classes, table, checkpoint.path)
        inputs = InputSettings.from_flags(flags, info)
        masks = None
        if flags.mask_dir is not None:
            masks = MaskFolder(flags.mask_dir, classes, inputs.image_format)
        return cls(
            classes,
            inputs,
            table=table,
            img_dir=flags.img_dir,
            decisions=DecisionSettings.from_flags(flags, classes),
            masks=masks,
            write_regions=flags.regions,
            grid=flags.superpixel_grid,
            score_from=flags.score_from,
        )

    def info(self) -> dict[str, Any]:
        """Return class names and input settings."""
        return {"classes": self.classes, **self.input.info()}

    def describe(self, training: int, validation: int) -> str:
        """Return what is known of the data set, its size and the backbone."""
        return (
            f"{DATASETS[self.dataset][1]} {training} training and {validation} validation images, "
            f"{len(self.classes)} classes; {self.training.model['backbone_name']}"
        )

    # Data

    def samples(self, split: str, unreadable_allowed: int = 0) -> Samples:
        """Return the images of a split with multi-hot targets (K,)."""
        assert self.table is not None and self.img_dir is not None
        samples = split_samples(
            self.table,
            split,
            self.img_dir,
            partial(MultiHotTargets, classes=self.classes, source=self.table.path),
            self.input.image_format,
            unreadable_allowed,
        )
        if self.masks is not None:
            self.masks.check(samples.names, samples.paths, self.input.image_format)
        return samples

    def transform(self, *, training: bool) -> Transform:
        """Return resize, Cutout and RandAugment in training, resize alone elsewhere."""
        return self.train_transform if training else self.eval_transform

    def fingerprint(self) -> str:
        """Return a hash of the rows that the run learns from and is evaluated with."""
        assert self.table is not None
        rows = [(row.filename, row.labels, row.split) for row in self.table.samples]
        return hashlib.sha256(repr(rows).encode()).hexdigest()

    def _training_labels(self) -> list[list[int]]:
        """Return the class indices of each training image."""
        assert self.table is not None
        return MultiHotTargets(self.table.split("train"), self.classes, self.table.path).indices

    def sample_weights(self) -> npt.NDArray[np.float64] | None:
        """Return the weights of --sampler, (N,)."""
        if self.training.sampler == "uniform":
            return None
        return repeat_factors(self._training_labels(), len(self.classes))

    def _class_weights(self) -> Tensor | None:
        """Return the weights of --loss-weight, float32 (K,)."""
        if self.training.loss_weight == "none":
            return None
        counts = count_classes(self._training_labels(), len(self.classes))
        return torch.from_numpy(inverse_frequency_weights(counts)).float()

    # Training

    def build_model(self) -> nn.Module:
        """Return a new VoLUNet."""
        return create_with_notes(create_model, num_classes=len(self.classes), **self.training.model)

    def model_name(self, model: nn.Module) -> str:
        """Return the name of the backbone."""
        settings: dict[str, Any] = getattr(model, "settings", {})
        return str(settings.get("backbone_name") or super().model_name(model))

    def check_device(self, device: torch.device, amp: torch.dtype | None) -> None:
        """Refuse what the package inplace-abn has no code for."""
        types = {"cpu": (None,), "cuda": (None, torch.float16)}.get(device.type, ())
        if self.training.model.get("norm") == INPLACE_ABN and amp not in types:
            raise UserError(
                f"--norm {INPLACE_ABN} computes in float32 on CPUs, and in float32 or float16 on "
                f"CUDA; choose --amp off, or --norm {DEFAULT}."
            )

    def check_model(self, model: nn.Module) -> None:
        """Compare the settings of regions and images with the feature map."""
        assert isinstance(model, VoLUNet)
        size = self.input.image_size
        try:
            rows, columns = model.check_grid(size)
        except ValueError as error:
            raise UserError(str(error)) from error
        if self.grid is not None and (self.grid[0] > rows or self.grid[1] > columns):
            raise UserError(
                f"--superpixel-grid asks for {self.grid[0]} x {self.grid[1]} cells, but the "
                f"feature map of images of {size} pixels has {rows} x {columns}; lower it, or "
                "raise --image-size."
            )

    def to(self, device: torch.device) -> None:
        """Move the class weights to a device."""
        self.asl.to(device)

    def learning_rates(self) -> dict[str, float]:
        """Return the factor of the head."""
        return {"head": self.training.head_lr_factor}

    @torch.inference_mode()
    def before_training(
        self,
        model: nn.Module,
        loader: Callable[[int], DataLoader[Any]],
        device: torch.device,
    ) -> None:
        """Fit the spline grid of a KAN head to features of training images, if asked for."""
        if not self.training.kan_grid_update:
            return
        assert isinstance(model, VoLUNet)
        if not isinstance(model.head, WICClassifier):
            raise UserError("--kan-grid-update needs a KAN head; leave it out with --head linear.")
        model.eval()
        features = []
        for batch in loader(self.training.kan_grid_update):
            if batch.failures:
                raise UserError(batch.failures[0])
            features.append(model.pooled_features(batch.to(device).images))
        try:
            model.head.update_grid(torch.cat(features))
        except ValueError as error:
            raise UserError(f"--kan-grid-update failed: {error}") from error

    def loss(
        self, model: nn.Module, images: Tensor, targets: Any, sizes: Sizes = (), share: float = 1.0
    ) -> dict[str, Tensor]:
        """Return ASL on the pooled logits plus the weighted losses of the regions.

        ASL is a sum over images and classes, and so is the region-tag loss; Local-NMS, a mean over
        regions, counts by its share of the step. ``loss_per_label`` is ASL by image and class, for
        reading.
        """
        output = model(images)
        asl = self.asl(output.logits, targets)
        local_nms = self.local_nms(output.region_logits, output.region_sizes > 0)
        loss = asl + self.training.nms_weight * share * local_nms
        terms = {"asl_loss": asl, "local_nms_loss": local_nms}
        if self.training.region_tag_weight > 0:
            region_tags = self.region_tags(
                output.region_logits, output.region_images, output.region_sizes > 0, targets
            )
            loss = loss + self.training.region_tag_weight * region_tags
            terms["region_tag_loss"] = region_tags
        return {"loss": loss, **terms, "loss_per_label": asl.detach() / targets.numel()}

    # Prediction

    def model_changes(self) -> dict[str, Any]:
        """Return where scores come from, if that is to change."""
        return {} if self.score_from is None else {"score_from": self.score_from}

    def predict(self, model: nn.Module, images: Tensor, sizes: Sizes = ()) -> Predictions:
        """Return the scores of B images, and of their regions where these are wanted.

        Returns:
            ``scores`` float32 (B, K), probabilities. From a VoLUNet: ``outside_grid`` and
            ``outside_knots`` (B,), the shares of the head's inputs beyond the inner spline grid and
            beyond all knots. With masks or ``--regions`` the values of ``predict_regions``, and
            ``top_class`` (B,), that of the image by itself.

        Raises:
            TrainingFailed: If a score is not finite.
        """
        predictions: Predictions = {}
        if self.masks is not None or self.write_regions:
            predictions, logits = self._score_regions(model, images)
        elif isinstance(model, VoLUNet):
            features = feature_map(model.backbone, images)
            logits = model.score_features(features)
            predictions = _grid_coverage(model, features.float().mean(dim=(2, 3)))
        else:
            logits = model(images)
        scores = logits.float().sigmoid().cpu().numpy()
        check_finite(scores)
        return {"scores": scores, **predictions}

    def predict_regions(self, model: nn.Module, images: Tensor, sizes: Sizes = ()) -> Predictions:
        """Return the regions of B images, see ``region_predictions``."""
        return self._score_regions(model, images)[0]

    def _score_regions(self, model: nn.Module, images: Tensor) -> tuple[Predictions, Tensor]:
        """Return the predictions of the regions, and the logits (B, K) of the images."""
        volunet: Any = model if isinstance(model, VoLUNet) else model.model
        scores = volunet.score_regions(images, self.grid)
        predictions = {
            **region_predictions(scores),
            "top_class": scores.logits.argmax(dim=1).cpu().numpy(),
        }
        if model is volunet:
            return predictions, scores.logits
        return predictions, model.average(scores.logits, images)  # type: ignore[operator]

    def prediction_settings(self) -> dict[str, Any]:
        """Return whether regions are predicted too, on which grid, and where scores come from."""
        regions = self.masks is not None or self.write_regions
        return {"regions": regions, "grid": self.grid, "score from": self.score_from}

    def evaluator(self, length: int) -> ClassifyEvaluator:
        """Return an evaluator of ``length`` images."""
        return ClassifyEvaluator(self.classes, length, self.decisions, self.masks)

    # Results

    def write(
        self,
        folder: Path,
        samples: Samples,
        predictions: Iterable[tuple[Sequence[int], Predictions]],
        results: Results | None,
    ) -> str:
        """Write predictions, fitted thresholds and region maps."""
        point = self.decisions.point
        if results is not None:
            assert isinstance(results.evaluator, ClassifyEvaluator)
            point = results.evaluator.point
        path = folder / f"predictions.{self.decisions.predictions_format}"
        write_prediction_parts(
            path,
            self.classes,
            (
                ([samples.names[i] for i in indices], point.scale(part["scores"]))  # type: ignore[arg-type]
                for indices, part in predictions
            ),
        )
        lines: list[str] = []
        if results is None:
            lines += self._first_predictions(samples, predictions)
        else:
            lines.append(summary(results.metrics, results.tables["per_class.csv"]))
            if self.decisions.rule is not None or self.decisions.fit_temperature:
                rule = self.decisions.rule
                origin = {
                    "rule": None if rule is None else str(rule),
                    "temperature_fitted": self.decisions.fit_temperature,
                    **{key: results.metrics[key] for key in ("split", "csv_path", "checkpoint")},
                }
                write_point(folder / THRESHOLDS_FILE, point, self.classes, origin)
                lines.append(f"\n{describe_point(point, rule)} {THRESHOLDS_FILE} keeps them.")
        if self.write_regions:
            readable = [index for indices, _ in predictions for index in indices]
            write_region_maps(
                folder,
                [samples.names[index] for index in readable],
                [samples.paths[index] for index in readable],
                (m for _, part in predictions for m in region_maps(part, point.temperature)),
                self.classes,
                lambda path: read_image(path, self.input.image_format),
            )
        if results is None:
            count = sum(len(indices) for indices, _ in predictions)
            lines.append(f"\nThe scores of {count} images are in {path}.")
        return "\n".join(lines)

    def _first_predictions(
        self, samples: Samples, predictions: Iterable[tuple[Sequence[int], Predictions]]
    ) -> Iterator[str]:
        """Yield a line for each of the first images."""
        point = self.decisions.point
        thresholds = point.class_thresholds(len(self.classes))
        limit = "its threshold" if isinstance(point.threshold, list) else f"{point.threshold:g}"
        count = 0
        for indices, part in predictions:
            scores = point.scale(part["scores"][: _SHOWN - count])  # type: ignore[arg-type]
            for index, row in zip(indices, scores, strict=False):
                order = [k for k in np.argsort(-row) if row[k] > thresholds[k]]
                labels = ", ".join(f"{printable(self.classes[k])} {row[k]:.2f}" for k in order)
                name = printable(samples.names[index])
                yield f"{name}: {labels or f'nothing above {limit}'}"
                count += 1
            if count >= _SHOWN:
                break
        total = sum(len(indices) for indices, _ in predictions)
        if total > count:
            yield f"... and {total - count} more images"

    def draw(
        self, image: Image.Image, prediction: Predictions | None, target: Target
    ) -> Image.Image:
        """Draw the regions with their classes, or write the labels below the image."""
        if prediction is not None:
            return overlay_regions(image, region_maps(prediction)[0], self.classes)
        assert target is not None
        names = [self.classes[k] for k in target.nonzero().flatten().tolist()]
        return draw_caption(image, ", ".join(names) or "(none)")

    def key_figures(self, results: Results) -> list[KeyFigure]:
        """Return mAP beside chance and class frequencies, F1 and the threshold."""
        return report.key_figures(results.metrics)

    def sections(self, results: Results) -> list[Section]:
        """Return findings, classes, curves, confusions, regions and the best and worst images."""
        evaluator = results.evaluator
        assert isinstance(evaluator, ClassifyEvaluator)

        def find_maps(indices: Sequence[int]) -> Iterator[RegionMap]:
            for part in results.predict(self.predict_regions, indices):
                yield from region_maps(part, evaluator.point.temperature)

        return report.sections(
            report.Results(
                metrics=results.metrics,
                table=results.tables["per_class.csv"],
                paths=results.samples.paths,
                targets=evaluator.targets,
                scores=evaluator.scaled_scores,
                find_maps=find_maps,
                read=results.read,
            )
        )

    def log_images(
        self, model: nn.Module, samples: Samples, predict: PredictImages
    ) -> Iterator[tuple[str, Image.Image]]:
        """Yield what regions of some images predict, and the strongest splines of the head."""
        if not isinstance(model, VoLUNet):
            return
        few = range(min(4, len(samples.paths)))
        maps = (m for part in predict(self.predict_regions, few) for m in region_maps(part))
        for name, path, region_map in zip(samples.names, samples.paths, maps, strict=False):
            image = read_image(path, self.input.image_format)
            overlay = overlay_regions(image, region_map, self.classes, side=640)
            yield f"regions/{name}", overlay  # as a whole: folders may hold equal names
        if (splines := draw_splines(model, self.classes)) is not None:
            yield "splines", splines


def _check_class_count(table: SplitTable, flags: argparse.Namespace) -> None:
    """Compare the class count with --num-classes (an error) and that of the data set (a note)."""
    count = len(table.classes)
    if flags.num_classes not in (None, count):
        raise UserError(
            f"--num-classes is {flags.num_classes}, but {table.path} names {count} classes; "
            f"leave the flag out, or fix the CSV."
        )
    expected = DATASETS[flags.dataset][0]
    if expected not in (None, count):
        print(
            f"Note: {table.path} names {count} classes; a complete {flags.dataset} has {expected}."
        )


def _class_names(num_classes: int, table: SplitTable | None, path: Path) -> list[str]:
    """Return class names for a checkpoint without them, as the released program writes it.

    Raises:
        UserError: If the CSV names another number of classes.
    """
    if table is None:
        print("The checkpoint carries no class names; the columns are numbered instead.")
        return [f"class_{index}" for index in range(num_classes)]
    if len(table.classes) != num_classes:
        raise UserError(
            f"{path} scores {num_classes} classes without naming them, but {table.path} names "
            f"{len(table.classes)}; give the CSV that it was trained with."
        )
    return list(table.classes)


def _grid_coverage(model: VoLUNet, features: Tensor) -> Predictions:
    """Return the shares (B,) of features (B, C) outside a KAN head's grid; of a linear one none."""
    layer = model.head.layers[0] if isinstance(model.head, WICClassifier) else None
    if not isinstance(layer, KANLinear):
        return {}
    grid, knots = (count / features.shape[1] for count in layer.outside_grid(features))
    return {"outside_grid": grid.cpu().numpy(), "outside_knots": knots.cpu().numpy()}
