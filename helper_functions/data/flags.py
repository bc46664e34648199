"""Flags that say which images, how they are read and how they come in batches."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from helper_functions import cli
from helper_functions.data.bands import PAPER, ImageFormat, parse_bands
from helper_functions.data.splits import ALL, SPLITS
from helper_functions.runtime.errors import UserError


@dataclass(frozen=True)
class InputSettings:
    """How images become the model's input; checkpoints carry it.

    Attributes:
        image_size: Side that images are resized to, in pixels.
        mean: Mean of each channel to subtract, in 0..1; ``None``: none.
        std: Standard deviation to divide by; ``None``: none.
        bands: See ``parse_bands``; ``None``: the first three.
        value_range: Values of black and white in images of more than 8 bits; ``None``: by type.
    """

    image_size: int
    mean: list[float] | None = None
    std: list[float] | None = None
    bands: list[str] | None = None
    value_range: list[float] | None = None

    @classmethod
    def from_flags(cls, flags: argparse.Namespace, info: dict[str, Any] | None = None) -> Self:
        """Return what the flags say; what they leave open comes from a checkpoint's ``info``."""
        values: dict[str, Any] = {
            name: getattr(flags, name) or (info or {}).get(name)
            for name in cls.__dataclass_fields__
        }
        return cls(**values)

    @property
    def image_format(self) -> ImageFormat:
        """How raw values become red, green and blue."""
        return make_image_format(self.bands, self.value_range)

    def info(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class LoaderSettings:
    """How images come in batches.

    Attributes:
        batch_size: Images of a batch, over all processes.
        workers: Loader processes.
        cache_dir: Folder that keeps decoded, resized images; ``None``: none.
    """

    batch_size: int
    workers: int
    cache_dir: Path | None

    @classmethod
    def from_flags(cls, flags: argparse.Namespace) -> Self:
        """Return what the flags say."""
        return cls(flags.batch_size, flags.workers, flags.cache_dir)


def make_image_format(bands: list[str] | None, value_range: Sequence[float] | None) -> ImageFormat:
    """Return what --bands and --value-range ask for.

    Raises:
        UserError: If they make no sense.
    """
    try:
        numbers = parse_bands(bands)
    except ValueError as error:
        raise UserError(str(error)) from error
    if value_range is None:
        return ImageFormat(numbers)
    low, high = value_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(
            f"--value-range is {low:g} to {high:g}; give the value of black, then the higher one "
            f"of white."
        )
    return ImageFormat(numbers, (low, high))


def add_format_flags(group: Any) -> None:
    """Add the flags that say how raw values become red, green and blue."""
    group.add_argument(
        "--bands",
        nargs="+",
        metavar="BAND",
        help=f"bands for red, green and blue: '{PAPER}' (the first three), 'rgb' (the same, but "
        "4 2 3 of a TIFF with four: infrared, green, blue, red), or three numbers (default: those "
        "of the checkpoint, else paper)",
    )
    group.add_argument(
        "--value-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="values that become black and white in images of more than 8 bits (default: that of "
        "the checkpoint, else by the type of the values)",
    )


def add_data_flags(parser: argparse.ArgumentParser, script: str) -> None:
    """Add the flags of ``train`` or ``val``; to predict, images may be anywhere."""
    training = script == "train"
    group = parser.add_argument_group("data")
    group.add_argument(
        "--img_dir",
        type=Path,
        required=training,
        help="image folder"
        + ("" if training else "; to predict also a pattern in quotes, or a list (.txt, .csv)"),
    )
    group.add_argument(
        "--csv_path",
        type=Path,
        required=training,
        help="split CSV: filename,label,split"
        + ("" if training else "; without it every image of --img_dir is predicted"),
    )
    group.add_argument(
        "--image-size",
        type=cli.number(int, 1),
        help="side that images are resized to, in pixels (default: that of the checkpoint, or 224)",
    )
    group.add_argument(
        "--mean",
        type=float,
        nargs=3,
        metavar=("R", "G", "B"),
        help="normalize by this mean, in 0-1 (default: that of the checkpoint, else none)",
    )
    group.add_argument(
        "--std",
        type=float,
        nargs=3,
        metavar=("R", "G", "B"),
        help="and this standard deviation (default: likewise)",
    )
    add_format_flags(group)
    group.add_argument(
        "--cache-dir",
        type=Path,
        help="folder that keeps decoded, resized images from epoch to epoch and run to run "
        "(default: none)",
    )
    group.add_argument(
        "-j", "--workers", type=cli.number(int, 0), default=2, help="loader processes (default: 2)"
    )
    group.add_argument(
        "-b",
        "--batch-size",
        type=cli.number(int, 1),
        default=16,
        help="images a batch (default: 16)",
    )
    if training:
        group.add_argument(
            "--max-bad-images",
            type=cli.number(int, 0),
            default=0,
            help="unreadable training images to skip before giving up (default: 0)",
        )
        return
    group.add_argument(
        "--split", choices=(*SPLITS, ALL), default="val", help="rows to validate (default: val)"
    )
    group.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out images that cannot be read, and list them (default: stop at the first)",
    )
