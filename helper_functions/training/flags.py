"""Flags of the training loop, and the settings that they become."""

# ruff: noqa: RUF009 (flag returns a field)
from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from helper_functions.cli import DeviceSettings, add_flags, flag
from helper_functions.data.splits import SPLITS


@dataclass(frozen=True)
class TrainSettings:
    """How a model is optimized, and how its steps are computed."""

    lr: float = flag(2e-4, "peak rate (default: 2e-4)", low=0)
    epochs: int = flag(80, low=1)
    weight_decay: float = flag(1e-4, "L2 on matrices and filters (default: 1e-4)", low=0)
    schedule: str = flag(
        "one-cycle",
        "of the rate: up to --lr and down to nothing over the run, or --lr all the time",
        choices=("one-cycle", "constant"),
    )
    pct_start: float = flag(0.2, "share of the steps that the rate rises", low=0, high=1)
    betas: list[float] = flag(
        [0.9, 0.999],
        "decay of Adam's means; one-cycle moves the first between 0.85 and 0.95",
        low=0,
        high=0.999999,
        nargs=2,
        metavar=("BETA1", "BETA2"),
    )
    decay_all: bool = flag(False, "--weight-decay also on biases and the weights of norms")
    ema_decay: float = flag(
        0.0,
        "evaluate and save a moving average of the weights; starts low and rises to this decay, "
        "for example 0.999; 0: off",
        low=0,
        high=1,
    )
    patience: int = flag(
        0, "end after N epochs without a better validation score; 0: never", low=0, metavar="N"
    )
    accum_steps: int = flag(
        1, "add up the gradients of N batches before an update", low=1, metavar="N"
    )
    clip_grad: float = flag(0.0, "highest norm of the gradient; 0: no bound", low=0)
    seed: int = flag(0, low=0, high=2**63 - 1)
    print_freq: int = DeviceSettings.print_freq
    grad_checkpointing: bool = flag(
        False,
        "compute the backbone's activations twice instead of keeping them: less memory",
        group="runtime",
    )
    channels_last: bool | None = flag(
        None,
        "memory layout of the model; faster for most convolutions (default: on CUDA)",
        group="runtime",
    )
    compile: bool = flag(
        False,
        "compile the forward pass and the losses: a slow start, then faster steps",
        group="runtime",
    )
    deterministic: bool = flag(
        False,
        "only algorithms whose results repeat to the last bit; slower on CUDA",
        group="runtime",
    )


@dataclass(frozen=True)
class LogSettings:
    """What is recorded of a run beside its checkpoints."""

    tensorboard: bool = flag(True, "event files in the folder events of --output-path")
    wandb: bool = flag(False, "log to Weights & Biases, if it is installed")
    test_split: str | None = flag(
        None, "score the best checkpoint on this split at the end, in test.json", choices=SPLITS
    )


@dataclass(frozen=True)
class SaveSettings:
    """What a run leaves behind, what it survives, and how much of it can be lost."""

    max_bad_images: int = flag(
        0, "unreadable training images to skip before giving up", low=0, group="data"
    )
    max_bad_steps: int = flag(
        10,
        "steps in a row whose loss or gradient is not finite, skipped before the run stops",
        low=0,
        group="runtime",
    )
    save_every_steps: int = flag(0, "save last.ckpt after this many steps as well; 0: off", low=0)
    save_every_minutes: float = flag(10.0, "and after this many minutes; 0: off", low=0)
    keep_all: bool = flag(False, "keep the checkpoint of every epoch, as model-EPOCH-SCORE.ckpt")
    output_path: Path = flag(Path("runs/train"))
    resume: str | None = flag(
        None,
        "continue the run in --output-path; 'auto' starts one if there is none (default: start a "
        "new run)",
        nargs="?",
        const="last",
        choices=("last", "auto"),
    )
    overwrite: bool = flag(False, "replace the run in --output-path (default: refuse)")


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``train.py`` that no task owns."""
    parser.add_argument_group("optimization")  # the first in the help
    add_flags(parser, "runtime", DeviceSettings)
    add_flags(parser, "optimization", TrainSettings)
    add_flags(parser, "output", LogSettings)
    add_flags(parser, "output", SaveSettings)
