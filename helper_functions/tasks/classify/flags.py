"""Flags of classification, and the settings that they become."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from helper_functions import cli
from helper_functions.metrics.thresholds import OperatingPoint, Rule, parse_rule, read_point
from helper_functions.results.tables import PREDICTION_FORMATS
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.packages import require_packages
from models.inplace_abn import DEFAULT, NORMS
from models.vdsm import VARIANTS

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

# Defaults of --recipe; see "Does it help?" in the README.
RECIPES: dict[str, dict[str, Any]] = {
    "released": {},
    "recommended": {
        "normalize": "backbone",
        "cutout": 0.0,
        "rand_augment": False,
        "horizontal_flip": True,
        "head_lr_factor": 10.0,
        "vdsm": "nearest",
        "nms_weight": 30.0,
    },
}


# Flags that are arguments of ``models.create_model``.
_MODEL_FLAGS = (
    *("backbone_name", "subsampling", "sub_h", "sub_w", "min_superpixels", "vdsm", "head"),
    *("kan_grid_size", "kan_spline_order", "kan_grid_range", "norm", "pretrained", "model_path"),
    "image_size",
)
_DEFAULT_POINT = OperatingPoint(0.5)


@dataclass(frozen=True)
class TrainingSettings:
    """What a training adds to the data.

    Attributes:
        model: Arguments of ``models.create_model``, less the number of classes.
        cutout: Side of Cutout's box as a share of the image; 0: off.
        rand_augment: Whether RandAugment is applied.
        horizontal_flip: Whether half of the images are mirrored.
        sampler: ``uniform`` or ``class-balanced``.
        gamma_neg: Focusing of ASL on hard negatives.
        gamma_pos: Focusing of ASL on hard positives.
        clip: Probability shift of ASL.
        loss_weight: ``none`` or ``inverse-frequency``.
        nms_weight: Weight of the Local-NMS loss.
        head_lr_factor: Learning rate of the head as a multiple.
        kan_grid_update: Training images to fit the spline grid to; 0: keep it.
        batch_size: Images of a batch.
    """

    model: dict[str, Any]
    cutout: float = 0.5
    rand_augment: bool = True
    horizontal_flip: bool = False
    sampler: str = "uniform"
    gamma_neg: float = 0.0
    gamma_pos: float = 0.0
    clip: float = 0.0
    loss_weight: str = "none"
    nms_weight: float = 1.0
    head_lr_factor: float = 1.0
    kan_grid_update: int = 0
    batch_size: int = 16

    @classmethod
    def from_flags(cls, flags: argparse.Namespace) -> Self:
        """Return what the flags say.

        Raises:
            UserError: If --model-kwargs names a flag of its own.
        """
        reserved = {*_MODEL_FLAGS, "num_classes"} & set(flags.model_kwargs)
        if reserved:
            raise UserError(
                f"{min(reserved)!r} is a setting of its own, not one of --model-kwargs."
            )
        model = {name: getattr(flags, name) for name in _MODEL_FLAGS} | flags.model_kwargs
        rest = {name: getattr(flags, name) for name in cls.__dataclass_fields__ if name != "model"}
        return cls(model, **rest)


@dataclass(frozen=True)
class DecisionSettings:
    """How scores become decisions, and what is written of them.

    Attributes:
        point: Threshold and temperature before anything is fitted.
        rule: What thresholds are tuned for; ``None``: they are not.
        fit_temperature: Whether the temperature is fitted.
        predictions_format: ``csv`` or ``parquet``.
    """

    point: OperatingPoint = _DEFAULT_POINT
    rule: Rule | None = None
    fit_temperature: bool = False
    predictions_format: str = "csv"

    @classmethod
    def from_flags(cls, flags: argparse.Namespace, classes: list[str]) -> Self:
        """Return what the flags say, for the K classes of the model."""
        fit = flags.temperature == "fit"
        temperature = 1.0 if fit or flags.temperature is None else flags.temperature
        point = OperatingPoint(flags.thre, temperature)
        if flags.thresholds is not None:
            point = read_point(flags.thresholds, classes)
        return cls(point, flags.tune_thresholds, fit, flags.predictions_format)


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
    return text if text == "fit" else cli.number(float, 1e-3, 1e3)(text)


temperature.__name__ = "number or 'fit'"


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of data that both scripts know."""
    group = parser.add_argument_group("classification")
    group.add_argument(
        "--dataset",
        choices=sorted(DATASETS),
        default="csv",
        help="which set it is: expected class count and notes (default: csv)",
    )
    group.add_argument(
        "--num-classes",
        type=cli.number(int, 1),
        help="number of classes, checked against the data (default: whatever the data says)",
    )


def add_region_flags(group: Any) -> None:
    """Add the flags of the paper's region branch."""
    group.add_argument(
        "--subsampling",
        action="store_true",
        help="average the feature map to --sub-h x --sub-w (default: off)",
    )
    group.add_argument("--sub-h", type=cli.number(int, 1), default=4, help="rows (default: 4)")
    group.add_argument("--sub-w", type=cli.number(int, 1), default=4, help="columns (default: 4)")
    group.add_argument(
        "--min-superpixels",
        type=cli.number(int, 0),
        default=6,
        help="cells minus this many edges merge; 0: every cell is a region (default: 6)",
    )
    group.add_argument(
        "--vdsm",
        choices=VARIANTS,
        default="released",
        help="superpixel variant (default: released)",
    )


def add_train_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a training."""
    add_common_flags(parser)
    group = parser.add_argument_group("augmentation")
    group.add_argument(
        "--normalize",
        choices=("none", "backbone"),
        default="none",
        help="by the mean and std that timm publishes for the backbone; --mean and --std win "
        "(default: none, as released)",
    )
    group.add_argument(
        "--cutout",
        type=cli.number(float, 0, 1),
        default=0.5,
        help="box side of Cutout as a share of the image; 0: off (default: 0.5)",
    )
    group.add_argument(
        "--rand-augment",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="two random operations an image (default: on)",
    )
    group.add_argument(
        "--horizontal-flip",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="mirror half of the images; not in the released recipe (default: off)",
    )
    group.add_argument(
        "--sampler",
        choices=("uniform", "class-balanced"),
        default="uniform",
        help="images of an epoch: each once, or those of rare classes more often, by the square "
        "root of their rarity (default: uniform)",
    )

    group = parser.add_argument_group("model")
    group.add_argument(
        "--backbone-name",
        default="tresnet_l",
        help="tresnet_m, tresnet_l, resnet18/50/101, swin_{b,l}_{224,384}_22k or any timm model "
        "(default: tresnet_l)",
    )
    group.add_argument(
        "--model-kwargs",
        nargs="+",
        default={},
        action=cli.KeyValues,
        metavar="KEY=VALUE",
        help="handed on to timm.create_model (default: none)",
    )
    group.add_argument(
        "--norm",
        choices=NORMS,
        default=DEFAULT,
        help="inplace-abn: TResNet in less memory, with an optional package (default: default)",
    )
    group.add_argument(
        "--model-path", type=Path, help="weights file for the backbone (default: none)"
    )
    group.add_argument(
        "--pretrained", action="store_true", help="fetch timm's published weights (default: off)"
    )
    add_region_flags(group)
    group.add_argument(
        "--head",
        choices=("kan", "linear"),
        default="kan",
        help="the WIC-Classifier, or a linear layer to compare it with (default: kan)",
    )
    group.add_argument(
        "--kan-grid-size", type=cli.number(int, 1), default=5, help="spline intervals (default: 5)"
    )
    group.add_argument(
        "--kan-spline-order", type=cli.number(int, 0), default=3, help="degree (default: 3)"
    )
    group.add_argument(
        "--kan-grid-range",
        type=float,
        nargs=2,
        default=[-1.0, 1.0],
        metavar=("LOW", "HIGH"),
        help="ends of the spline grid (default: -1 1)",
    )
    group.add_argument(
        "--kan-grid-update",
        type=cli.number(int, 0),
        default=0,
        metavar="N",
        help="fit the grid to the features of N training images before the first step; 0: keep it "
        "(default: 0)",
    )
    group.add_argument(
        "--head-lr-factor",
        type=cli.number(float, 0),
        default=1.0,
        help="learning rate of the head as a multiple of --lr; released: 1 (default: 1)",
    )

    group = parser.add_argument_group("loss")
    group.add_argument(
        "--gamma-neg",
        type=cli.number(float, 0),
        default=0.0,
        help="focusing of ASL on hard negatives (default: 0)",
    )
    group.add_argument(
        "--gamma-pos",
        type=cli.number(float, 0),
        default=0.0,
        help="and on hard positives (default: 0)",
    )
    group.add_argument(
        "--clip",
        type=cli.number(float, 0, 1),
        default=0.0,
        help="shift of ASL: easy negatives count nothing (default: 0)",
    )
    group.add_argument(
        "--nms-weight",
        type=cli.number(float, 0),
        default=1.0,
        help="weight of the Local-NMS loss (default: 1)",
    )
    group.add_argument(
        "--loss-weight",
        choices=("none", "inverse-frequency"),
        default="none",
        help="weight of the classes in ASL: all alike, or the more the rarer, up to 10 times the "
        "most frequent one's (default: none)",
    )


def add_val_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a validation or prediction."""
    add_common_flags(parser)
    group = parser.add_argument_group(
        "model",
        "The checkpoint knows its model and its regions. The region flags matter in training only; "
        "they are accepted for the sake of old command lines.",
    )
    group.add_argument(
        "--backbone-name", help="checked against the checkpoint when given (default: not)"
    )
    add_region_flags(group)
    group = parser.add_argument_group("decisions")
    group.add_argument(
        "--thre",
        type=cli.number(float, 0, 1),
        default=0.5,
        help="decision threshold (default: 0.5)",
    )
    group.add_argument(
        "--tune-thresholds",
        type=parse_rule,
        metavar="RULE",
        help="give every class its best threshold on the scored split and write thresholds.json; "
        "f1: the best F1; precision=0.9: the best recall at that precision (default: --thre)",
    )
    group.add_argument(
        "--temperature",
        type=temperature,
        help="divide logits by this number; fit: by the one that fits the scored split best, "
        "written to thresholds.json (default: 1)",
    )
    group.add_argument(
        "--thresholds",
        type=Path,
        metavar="FILE",
        help="decide with the thresholds and the temperature of a thresholds.json; "
        "they replace --thre (default: none)",
    )
    group.add_argument(
        "--predictions-format",
        choices=PREDICTION_FORMATS,
        default="csv",
        help="how the scores are written (default: csv)",
    )
    group = parser.add_argument_group("regions")
    group.add_argument(
        "--regions",
        action="store_true",
        help="draw which class each region of every image predicts, and write it as data, in the "
        "folder 'regions' of the results (default: off)",
    )
    group.add_argument(
        "--superpixel-grid",
        type=grid_size,
        metavar="ROWS[xCOLUMNS]",
        help="cells of the feature map that superpixels are found on, for --regions, --mask-dir "
        "and the report (default: the checkpoint's)",
    )
    group.add_argument(
        "--mask-dir",
        type=Path,
        help="pixel masks: 8-bit PNGs of class indices, named like the images, and classes.json, "
        "the list of the indices' names; measures whether regions are classified rightly (default: "
        "none)",
    )


def check_val_flags(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    """Refuse flags that contradict each other or need labels or packages that are not there."""
    if flags.predictions_format == "parquet":
        require_packages("--predictions-format parquet", ["pyarrow"])
    needs_labels = {
        "--mask-dir": flags.mask_dir is not None,
        "--tune-thresholds": flags.tune_thresholds is not None,
        "--temperature fit": flags.temperature == "fit",
    }
    for flag, given in needs_labels.items():
        if given and flags.csv_path is None:
            parser.error(f"{flag} needs labels: give --csv_path as well")
    if flags.thresholds is not None and (flags.tune_thresholds or flags.temperature is not None):
        parser.error(
            "--thresholds brings thresholds and temperature along: leave out --tune-thresholds and "
            "--temperature"
        )
