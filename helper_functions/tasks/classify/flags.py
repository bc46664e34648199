"""Flags of classification, and the settings that they become."""

# ruff: noqa: RUF009 (flag returns a field)
from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from helper_functions.cli import KeyValues, add_flags, flag, from_flags, number, with_further
from helper_functions.metrics.thresholds import OperatingPoint, Rule, parse_rule, read_point
from helper_functions.results.tables import PREDICTION_FORMATS
from helper_functions.runtime.packages import require_packages
from models.inplace_abn import DEFAULT, NORMS
from models.vdsm import VARIANTS
from models.volunet import SCORES

# How many classes a complete split CSV of the paper's sets names, and what is known of the set.
DATASETS: dict[str, tuple[int | None, str]] = {
    "treesatai": (15, "TreeSatAI: 304 x 304 aerial tiles, 15 genera above an area share of 7 %."),
    "geolifeclef": (
        5016,
        "GeoLifeCLEF 2024: 128 x 128 satellite patches around presence-absence surveys.",
    ),
    "fathomnet": (290, "FathomNet 2023: 290 categories, of which 133 have training images."),
    "shiprsimagenet": (50, "ShipRSImageNet: level 3 has 50 classes, Dock among them."),
    "csv": (None, "A split CSV of your own."),
}

_RECOMMENDED: dict[str, Any] = {
    "normalize": "backbone",
    "cutout": 0.0,
    "rand_augment": False,
    "horizontal_flip": True,
    "head_lr_factor": 10.0,
    "vdsm": "nearest",
    "nms_weight": 30.0,
}
# Defaults of --recipe; see "Does it help?" in the README. "regions" is for images that many classes
# share: every cell is a region and learns from the tags, and images are scored by their cells.
RECIPES: dict[str, dict[str, Any]] = {
    "released": {},
    "recommended": _RECOMMENDED,
    "regions": {
        **_RECOMMENDED,
        "min_superpixels": 0,
        "nms_weight": 0.0,
        "region_tag_weight": 1.0,
        "score_from": "regions",
    },
}


def grid_size(text: str) -> tuple[int, int]:
    """Parse rows and columns such as ``7`` or ``6x8``."""
    rows, cross, columns = text.partition("x")
    size = int(rows), int(columns if cross else rows)
    if min(size) < 1:
        raise argparse.ArgumentTypeError(f"{text} is out of range, a grid needs cells")
    return size


grid_size.__name__ = "grid such as 7 or 6x8"


def temperature(text: str) -> float | str:
    """Parse ``fit`` or a positive number."""
    return text if text == "fit" else number(float, 1e-3, 1e3)(text)


temperature.__name__ = "number or 'fit'"


@dataclass(frozen=True)
class DatasetSettings:
    """Which data set it is."""

    dataset: str = flag(
        "csv", "which set it is: expected class count and notes", choices=sorted(DATASETS)
    )
    num_classes: int | None = flag(
        None, "number of classes, checked against the data (default: whatever the data says)", low=1
    )


@dataclass(frozen=True)
class ModelSettings:
    """Arguments of ``models.create_model``, less the image size and the number of classes."""

    backbone_name: str = flag(
        "tresnet_l",
        "tresnet_m, tresnet_l, resnet18/50/101, swin_{b,l}_{224,384}_22k or any timm model",
    )
    model_kwargs: dict[str, Any] = flag(
        {},
        "handed on to timm.create_model (default: none)",
        nargs="+",
        action=KeyValues,
        metavar="KEY=VALUE",
    )
    norm: str = flag(
        DEFAULT, "inplace-abn: TResNet in less memory, with an optional package", choices=NORMS
    )
    model_path: Path | None = flag(None, "weights file for the backbone")
    pretrained: bool = flag(False, "fetch timm's published weights")
    subsampling: bool = flag(False, "average the feature map to --sub-h x --sub-w")
    sub_h: int = flag(4, "rows", low=1)
    sub_w: int = flag(4, "columns", low=1)
    min_superpixels: int = flag(
        6, "cells minus this many edges merge; 0: every cell is a region", low=0
    )
    vdsm: str = flag("released", "superpixel variant", choices=VARIANTS)
    score_from: str = flag(
        "image",
        "logits of an image in evaluation: of its mean feature, as released; of the cells of the "
        "feature map, pooled; or the mean of both",
        choices=SCORES,
    )
    region_tag_sharpness: float = flag(
        4.0,
        "pooling of regions, for --region-tag-weight and --score-from: 0 the mean, inf the maximum",
        low=0,
    )
    head: str = flag(
        "kan", "the WIC-Classifier, or a linear layer to compare it with", choices=("kan", "linear")
    )
    kan_grid_size: int = flag(5, "spline intervals", low=1)
    kan_spline_order: int = flag(3, "degree", low=0)
    kan_grid_range: list[float] = flag(
        [-1.0, 1.0], "ends of the spline grid", nargs=2, metavar=("LOW", "HIGH")
    )


_REGION_FLAGS = ("subsampling", "sub_h", "sub_w", "min_superpixels", "vdsm")


@dataclass(frozen=True)
class TrainingSettings:
    """What a training adds to the data; ``model`` holds arguments of ``models.create_model``."""

    model: dict[str, Any]
    normalize: str = flag(
        "none",
        "by the mean and std that timm publishes for the backbone; --mean and --std win (default: "
        "none, as released)",
        choices=("none", "backbone"),
    )
    cutout: float = flag(0.5, "box side of Cutout as a share of the image; 0: off", low=0, high=1)
    rand_augment: bool = flag(True, "two random operations an image")
    horizontal_flip: bool = flag(
        False,
        "mirror half of the images; not in the released recipe",
        action=argparse.BooleanOptionalAction,
    )
    sampler: str = flag(
        "uniform",
        "images of an epoch: each once, or those of rare classes more often, by the square root of "
        "their rarity",
        choices=("uniform", "class-balanced"),
    )
    kan_grid_update: int = flag(
        0,
        "fit the grid to the features of N training images before the first step; 0: keep it",
        low=0,
        metavar="N",
        group="model",
    )
    head_lr_factor: float = flag(
        1.0, "learning rate of the head as a multiple of --lr; released: 1", low=0, group="model"
    )
    gamma_neg: float = flag(0.0, "focusing of ASL on hard negatives", low=0, group="loss")
    gamma_pos: float = flag(0.0, "and on hard positives", low=0, group="loss")
    clip: float = flag(
        0.0, "shift of ASL: easy negatives count nothing", low=0, high=1, group="loss"
    )
    nms_weight: float = flag(1.0, "weight of the Local-NMS loss", low=0, group="loss")
    region_tag_weight: float = flag(
        0.0,
        "weight of the region-tag loss, ASL of the image's tags on the pooled logits of its "
        "regions; not in the paper",
        low=0,
        group="loss",
    )
    loss_weight: str = flag(
        "none",
        "weight of the classes in ASL: all alike, or the more the rarer, up to 10 times the most "
        "frequent one's",
        choices=("none", "inverse-frequency"),
        group="loss",
    )

    @classmethod
    def from_flags(cls, flags: argparse.Namespace) -> Self:
        """Return the flags' values.

        Raises:
            UserError: If --model-kwargs names a flag of its own.
        """
        model = {**asdict(from_flags(ModelSettings, flags)), "image_size": flags.image_size}
        further = model.pop("model_kwargs")
        return from_flags(cls, flags, model=with_further(model, further, "num_classes"))


@dataclass(frozen=True)
class DecisionSettings:
    """How scores become decisions, and how they are written."""

    thre: float = flag(0.5, "decision threshold", low=0, high=1)
    tune_thresholds: Rule | None = flag(
        None,
        "give every class its best threshold on the scored split and write thresholds.json; f1: "
        "the best F1; precision=0.9: the best recall at that precision (default: --thre)",
        type=parse_rule,
        metavar="RULE",
    )
    temperature: float | str | None = flag(
        None,
        "divide logits by this number; fit: by the one that fits the scored split best, written to "
        "thresholds.json (default: 1)",
        type=temperature,
    )
    thresholds: Path | None = flag(
        None,
        "decide with the thresholds and the temperature of a thresholds.json; they replace --thre",
        metavar="FILE",
    )
    predictions_format: str = flag("csv", "how the scores are written", choices=PREDICTION_FORMATS)
    point: OperatingPoint = OperatingPoint(0.5)  # before anything is fitted

    @classmethod
    def from_flags(cls, flags: argparse.Namespace, classes: list[str]) -> Self:
        """Return the flags' values, for the K classes of the model."""
        temperature = 1.0 if flags.temperature in (None, "fit") else flags.temperature
        point = OperatingPoint(flags.thre, temperature)
        if flags.thresholds is not None:
            point = read_point(flags.thresholds, classes)
        return from_flags(cls, flags, point=point)

    @property
    def rule(self) -> Rule | None:
        """What thresholds are tuned for; ``None``: they are not."""
        return self.tune_thresholds

    @property
    def fit_temperature(self) -> bool:
        """Whether the temperature is fitted."""
        return self.temperature == "fit"


@dataclass(frozen=True)
class RegionSettings:
    """What is written of the regions, and compared with masks."""

    regions: bool = flag(
        False,
        "draw which class each region of every image predicts, and write it as data, in the folder "
        "'regions' of the results",
    )
    score_from: str | None = flag(
        None,
        "logits of an image: of its mean feature, of the cells of the feature map, pooled, or the "
        "mean of both (default: as in training)",
        choices=SCORES,
        group="model",
    )
    superpixel_grid: tuple[int, int] | None = flag(
        None,
        "cells of the feature map that superpixels are found on, for --regions, --mask-dir and the "
        "report (default: the checkpoint's)",
        type=grid_size,
        metavar="ROWS[xCOLUMNS]",
    )
    mask_dir: Path | None = flag(
        None,
        "pixel masks: 8-bit PNGs of class indices, named like the images, and classes.json, the "
        "list of the indices' names; measures whether regions are classified rightly",
    )


def add_train_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a training."""
    add_flags(parser, "classification", DatasetSettings)
    parser.add_argument_group("augmentation")  # before the model in the help
    add_flags(parser, "model", ModelSettings)
    add_flags(parser, "augmentation", TrainingSettings)


def add_val_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a validation or prediction."""
    add_flags(parser, "classification", DatasetSettings)
    group = parser.add_argument_group(
        "model",
        "The checkpoint knows its model and its regions. The region flags matter in training only; "
        "they are accepted for the sake of old command lines.",
    )
    group.add_argument(
        "--backbone-name", help="checked against the checkpoint when given (default: not)"
    )
    add_flags(parser, "model", ModelSettings, _REGION_FLAGS)
    add_flags(parser, "decisions", DecisionSettings)
    add_flags(parser, "regions", RegionSettings)


def check_val_flags(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    """Refuse flags that contradict each other or need labels or packages that are not there."""
    if flags.predictions_format == "parquet":
        require_packages("--predictions-format parquet", ["pyarrow"])
    needs_labels = {
        "--mask-dir": flags.mask_dir is not None,
        "--tune-thresholds": flags.tune_thresholds is not None,
        "--temperature fit": flags.temperature == "fit",
    }
    for name, given in needs_labels.items():
        if given and flags.csv_path is None:
            parser.error(f"{name} needs labels: give --csv_path as well")
    if flags.thresholds is not None and (flags.tune_thresholds or flags.temperature is not None):
        parser.error(
            "--thresholds brings thresholds and temperature along: leave out --tune-thresholds and "
            "--temperature"
        )
