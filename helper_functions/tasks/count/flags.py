"""Flags of counting, and the settings that they become."""

# ruff: noqa: RUF009 (flag returns a field)
from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, get_args

from helper_functions.cli import KeyValues, add_flags, flag, from_flags, with_further
from loss_functions.lcfcn import Mode

NETWORKS = ("fcn8_vgg16", "dilated", "unet", "fpn", "deeplabv3plus")

# Defaults of --recipe: what the released program does, and what counts better (README).
RECIPES: dict[str, dict[str, Any]] = {
    "released": {
        "network": "fcn8_vgg16",
        "lr": 1e-5,
        "betas": [0.99, 0.999],
        "weight_decay": 5e-4,
        "decay_all": True,
        "schedule": "constant",
        "epochs": 100,
        "batch_size": 1,
    },
    "recommended": {
        "network": "unet",
        "lr": 1e-3,
        "epochs": 40,
        "batch_size": 2,
        "crop_size": 256,
        "horizontal_flip": True,
        "ema_decay": 0.97,
    },
}


@dataclass(frozen=True)
class NetworkSettings:
    """Arguments of ``models.create_network``, less the number of outputs."""

    network: str = flag(
        "fcn8_vgg16",
        "fcn8_vgg16 as released; dilated, small and quick; the others on any timm encoder",
        choices=NETWORKS,
    )
    backbone_name: str | None = flag(
        None, "encoder of unet, fpn and deeplabv3plus: any timm model (default: resnet18)"
    )
    model_kwargs: dict[str, Any] = flag(
        {},
        "handed on to timm.create_model (default: none)",
        nargs="+",
        action=KeyValues,
        metavar="KEY=VALUE",
    )
    model_path: Path | None = flag(
        None, "weights file of the encoder; for fcn8_vgg16 that of torchvision's VGG16"
    )
    pretrained: bool = flag(False, "fetch timm's published weights of the encoder")


@dataclass(frozen=True)
class TrainingSettings:
    """What a training adds to the data; ``network`` holds arguments of ``create_network``."""

    network: dict[str, Any]
    loss_mode: str = flag(
        "released",
        "released: all objects are of one class, whatever their label; multiclass: a count for "
        "each label, as the authors' later version trains it; per-class: the same, each class by "
        "the whole loss, which many classes need",
        choices=get_args(Mode),
        group="loss",
    )
    crop_size: int = flag(
        0,
        "train on square windows of this side; 0: on whole images",
        low=0,
        group="augmentation",
    )
    scale_jitter: float = flag(
        0.0,
        "resize training images by a random factor from 1 / (1 + J) to 1 + J",
        low=0,
        high=4,
        group="augmentation",
        metavar="J",
    )
    horizontal_flip: bool = flag(
        False,
        "mirror half of the images; not in the released recipe",
        action=argparse.BooleanOptionalAction,
        group="augmentation",
    )
    quarter_turns: bool = flag(
        False,
        "turn images by quarters, for those without an up and down",
        action=argparse.BooleanOptionalAction,
        group="augmentation",
    )

    @classmethod
    def from_flags(cls, flags: argparse.Namespace) -> Self:
        """Return the flags' values.

        Raises:
            UserError: If --model-kwargs names a flag of its own.
        """
        network = asdict(from_flags(NetworkSettings, flags))
        further = network.pop("model_kwargs")
        network = with_further(network, further, "name", "num_outputs", "output_bias")
        network["name"] = network.pop("network")
        return from_flags(cls, flags, network=network)


@dataclass(frozen=True)
class CountingSettings:
    """How predictions are made and compared."""

    match_radius: float = flag(
        16.0, "pixels that a predicted point may be away from the true one", low=0
    )
    game_cells: str = flag(
        "exact",
        "cells of GAME: those that lose no point, or the released ones",
        choices=("exact", "released"),
    )
    tile_size: int = flag(
        1024,
        "longer images are predicted in overlapping tiles of this side; 0: in one piece",
        low=0,
    )


@dataclass(frozen=True)
class IntervalSettings:
    """Prediction intervals of counts."""

    interval: float | None = flag(
        None,
        "write an interval that holds an image's true count with this probability, for example "
        "0.9 (default: none)",
        low=0.01,
        high=0.999,
        metavar="P",
    )
    calibration: Path | None = flag(
        None,
        "counts.csv of a validation on other images than these, which --interval learns from "
        "(default: val/counts.csv beside the checkpoint)",
        metavar="FILE",
    )


def add_count_flags(parser: argparse.ArgumentParser, script: str) -> None:
    """Add the flags of ``train`` or ``val``."""
    group = parser.add_argument_group("counting")
    group.add_argument(
        "--points-path",
        type=Path,
        required=script == "train",
        help="points.csv: filename,x,y[,label], a row an object, in pixels; the center of the "
        "top-left one is (0, 0)"
        + ("" if script == "train" else "; without it nothing is compared (default: none)"),
    )
    if script == "train":
        group.add_argument(
            "--scale",
            type=float,
            default=1.0,
            help="resize all images by this factor first (default: 1)",
        )
    add_flags(parser, "counting", CountingSettings)
    if script == "train":
        add_flags(parser, "model", NetworkSettings)
        add_flags(parser, "augmentation", TrainingSettings)
    else:
        add_flags(parser, "counting", IntervalSettings)
        parser.set_defaults(batch_size=1)  # images may be large and of different sizes


def check_val_flags(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    """Refuse flags that contradict each other."""
    if flags.points_path is not None and flags.csv_path is None:
        parser.error("--points-path needs the images' splits: give --csv_path as well")
    if flags.calibration is not None and flags.interval is None:
        parser.error("--calibration serves --interval: give that as well, for example 0.9")
