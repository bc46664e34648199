"""Flags of ``val.py`` that no task owns."""

# ruff: noqa: RUF009 (flag returns a field)
from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from helper_functions.cli import DeviceSettings, add_flags, flag
from helper_functions.data.splits import ALL, SPLITS
from helper_functions.inference.export import FORMATS
from helper_functions.inference.tta import TTA


@dataclass(frozen=True)
class InferenceSettings:
    """What is predicted, how, and where results go."""

    split: str = flag("val", "rows to validate", choices=(*SPLITS, ALL), group="data")
    skip_bad: bool = flag(
        False,
        "leave out images that cannot be read, and list them (default: stop at the first)",
        group="data",
    )
    tta: str = flag(
        "none",
        "test-time augmentation: average over the image and its left-right mirror image, or the "
        "upside-down ones as well",
        choices=tuple(TTA),
        group="runtime",
    )
    output: Path | None = flag(
        None, "folder for the results (default: 'val', or 'export', beside the checkpoint)"
    )
    export: str | None = flag(
        None,
        "write the model in another format and do nothing else; 'folder': model.safetensors and "
        "config.json, as the Hugging Face hub has them",
        choices=tuple(FORMATS),
    )


def add_inference_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a validation, a prediction or an export."""
    parser.add_argument(
        "--ckpt-path",
        type=Path,
        required=True,
        help="checkpoint of train.py or the released program, or a folder of --export folder",
    )
    add_flags(parser, "runtime", DeviceSettings)
    add_flags(parser, "output", InferenceSettings)
