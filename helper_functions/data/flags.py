"""Flags of the data: where images are, how they are read and how they come in batches."""

# ruff: noqa: RUF009 (flag returns a field)
from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from helper_functions.cli import add_flags, flag, from_flags
from helper_functions.data.bands import MAX_PIXELS, PAPER, ImageFormat, parse_bands
from helper_functions.runtime.errors import UserError


@dataclass(frozen=True)
class InputSettings:
    """How images become the model's input; checkpoints carry it."""

    image_size: int = flag(
        None,
        "side that images are resized to, in pixels (default: that of the checkpoint, or 224)",
        low=1,
    )
    mean: list[float] | None = flag(
        None,
        "normalize by this mean, in 0-1 (default: that of the checkpoint, else none)",
        nargs=3,
        metavar=("R", "G", "B"),
    )
    std: list[float] | None = flag(
        None, "and this standard deviation (default: likewise)", nargs=3, metavar=("R", "G", "B")
    )
    bands: list[str] | None = flag(
        None,
        f"bands for red, green and blue: '{PAPER}' (the first three), 'rgb' (the same, but 4 2 3 "
        "of a TIFF with four: infrared, green, blue, red), or three numbers (default: those of the "
        "checkpoint, else paper)",
        nargs="+",
        metavar="BAND",
    )
    value_range: list[float] | None = flag(
        None,
        "values that become black and white in images of more than 8 bits (default: that of the "
        "checkpoint, else by the type of the values)",
        nargs=2,
        metavar=("LOW", "HIGH"),
    )
    max_megapixels: float | None = flag(
        None,
        "refuse larger images, which may be decompression bombs; a file of more than four bands "
        f"counts by its bands (default: {MAX_PIXELS / 1e6:.1f})",
        low=0.001,
        metavar="N",
    )

    @classmethod
    def from_flags(cls, flags: argparse.Namespace, info: dict[str, Any] | None = None) -> Self:
        """Return the flags' values; what they leave open comes from a checkpoint's ``info``."""
        stored: Any = info or {}
        values = vars(from_flags(cls, flags)).items()
        return cls(**{name: value or stored.get(name) for name, value in values})

    @property
    def image_format(self) -> ImageFormat:
        """How raw values become red, green and blue."""
        return make_image_format(self.bands, self.value_range, self.max_megapixels)

    def info(self) -> dict[str, Any]:
        """Return the settings as plain data, but the limit of size, which decides no pixel."""
        settings = asdict(self)
        del settings["max_megapixels"]
        return settings


@dataclass(frozen=True)
class LoaderSettings:
    """How images come in batches; a batch is shared by all processes."""

    cache_dir: Path | None = flag(
        None, "folder that keeps decoded, resized images from epoch to epoch and run to run"
    )
    workers: int = flag(2, "loader processes", low=0, names=("-j",))
    batch_size: int = flag(16, "images a batch", low=1, names=("-b",))


def make_image_format(
    bands: list[str] | None,
    value_range: Sequence[float] | None,
    max_megapixels: float | None = None,
) -> ImageFormat:
    """Return what --bands, --value-range and --max-megapixels ask for.

    Raises:
        UserError: If they make no sense.
    """
    try:
        numbers = parse_bands(bands)
    except ValueError as error:
        raise UserError(str(error)) from error
    max_pixels = None if max_megapixels is None else round(max_megapixels * 1e6)
    if value_range is None:
        return ImageFormat(numbers, max_pixels=max_pixels)
    low, high = value_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(
            f"--value-range is {low:g} to {high:g}; give the value of black, then the higher one "
            f"of white."
        )
    return ImageFormat(numbers, (low, high), max_pixels)


def add_data_flags(parser: argparse.ArgumentParser, script: str) -> None:
    """Add the flags of ``train`` or ``val``; to predict, images may be anywhere."""
    images, table = "image folder", "split CSV: filename,label,split"
    if script == "val":
        images += "; to predict also a pattern in quotes, or a list (.txt, .csv)"
        table += "; without it every image of --img_dir is predicted"
    group = parser.add_argument_group("data")
    group.add_argument("--img_dir", type=Path, required=script == "train", help=images)
    group.add_argument("--csv_path", type=Path, required=script == "train", help=table)
    add_flags(parser, "data", InputSettings)
    add_flags(parser, "data", LoaderSettings)
