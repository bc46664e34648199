"""Flags of ``val.py`` that no task owns."""

from __future__ import annotations

import argparse
from pathlib import Path

from helper_functions import cli
from helper_functions.inference.export import FORMATS
from helper_functions.inference.tta import TTA


def add_checkpoint_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag that names the model."""
    parser.add_argument(
        "--ckpt-path",
        type=Path,
        required=True,
        help="checkpoint of train.py or the released program, or a folder of --export folder",
    )


def add_inference_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how to compute and where results go."""
    group = parser.add_argument_group("runtime")
    cli.add_device_flags(group)
    group.add_argument(
        "--tta",
        choices=tuple(TTA),
        default="none",
        help="test-time augmentation: average over the image and its left-right mirror image, or "
        "the upside-down ones as well (default: none)",
    )
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output",
        type=Path,
        help="folder for the results (default: 'val', or 'export', beside the checkpoint)",
    )
    group.add_argument(
        "--export",
        choices=tuple(FORMATS),
        help="write the model in another format and do nothing else; 'folder': model.safetensors "
        "and config.json, as the Hugging Face hub has them (default: none)",
    )


def check_inference_flags(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    """Refuse a command line that says neither what to predict nor what to export."""
    if flags.img_dir is None and flags.export is None:
        parser.error("the following arguments are required: --img_dir")
