"""Flags of the training loop, and the settings that they become."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from helper_functions import cli
from helper_functions.data.splits import SPLITS


@dataclass(frozen=True)
class TrainSettings:
    """How a model is optimized.

    Attributes:
        epochs: Length of the run.
        lr: Peak learning rate.
        weight_decay: L2 on parameters with two or more dimensions.
        pct_start: Share of the steps in which the rate rises.
        accum_steps: Micro-batches whose gradients add up to one step.
        clip_grad: Highest norm of the gradient; 0: no bound.
        ema_decay: Highest decay of a moving average of the weights, which is then evaluated and
            saved as the model; 0: none is kept.
        patience: Epochs without a better score after which the run ends; 0: never.
        compile: Compile the forward pass and the loss.
        print_freq: Steps between two printed lines.
        seed: Seed of the run.
    """

    epochs: int
    lr: float
    weight_decay: float = 1e-4
    pct_start: float = 0.2
    accum_steps: int = 1
    clip_grad: float = 0.0
    ema_decay: float = 0.0
    patience: int = 0
    compile: bool = False
    print_freq: int = 100
    seed: int = 0

    @classmethod
    def from_flags(cls, flags: argparse.Namespace) -> Self:
        """Return what the flags say."""
        return cls(**{name: getattr(flags, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class SaveSettings:
    """What a run leaves behind, what it survives, and how much of it can be lost.

    Attributes:
        output_path: Folder for checkpoints and logs.
        save_every_steps: Steps between two saves within an epoch; 0: none.
        save_every_minutes: Minutes between two saves within an epoch; 0: none.
        keep_all: Keep the checkpoint of every epoch.
        max_bad_images: Unreadable files that are skipped before the run stops.
        max_bad_steps: Steps in a row with numbers that are not finite, skipped before it stops.
    """

    output_path: Path
    save_every_steps: int = 0
    save_every_minutes: float = 10.0
    keep_all: bool = False
    max_bad_images: int = 0
    max_bad_steps: int = 10

    @classmethod
    def from_flags(cls, flags: argparse.Namespace) -> Self:
        """Return what the flags say."""
        return cls(**{name: getattr(flags, name) for name in cls.__dataclass_fields__})


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``train.py`` that no task owns."""
    group = parser.add_argument_group("optimization")
    group.add_argument(
        "--lr", type=cli.number(float, 0), default=2e-4, help="peak rate (default: 2e-4)"
    )
    group.add_argument("--epochs", type=cli.number(int, 1), default=80, help="(default: 80)")
    group.add_argument(
        "--weight-decay",
        type=cli.number(float, 0),
        default=1e-4,
        help="L2 on matrices and filters (default: 1e-4)",
    )
    group.add_argument(
        "--pct-start",
        type=cli.number(float, 0, 1),
        default=0.2,
        help="share of the steps that the rate rises (default: 0.2)",
    )
    group.add_argument(
        "--ema-decay",
        type=cli.number(float, 0, 1),
        default=0.0,
        help="evaluate and save a moving average of the weights; starts low and rises to this "
        "decay, for example 0.999; 0: off (default: 0)",
    )
    group.add_argument(
        "--patience",
        type=cli.number(int, 0),
        default=0,
        metavar="N",
        help="end after N epochs without a better validation score; 0: never (default: 0)",
    )
    group.add_argument(
        "--accum-steps",
        type=cli.number(int, 1),
        default=1,
        metavar="N",
        help="add up the gradients of N batches before an update (default: 1)",
    )
    group.add_argument(
        "--clip-grad",
        type=cli.number(float, 0),
        default=0.0,
        help="highest norm of the gradient; 0: no bound (default: 0)",
    )
    group.add_argument("--seed", type=cli.number(int, 0, 2**63 - 1), default=0, help="(default: 0)")

    group = parser.add_argument_group("runtime")
    cli.add_device_flags(group)
    group.add_argument(
        "--grad-checkpointing",
        action="store_true",
        help="compute the backbone's activations twice instead of keeping them: less memory "
        "(default: off)",
    )
    group.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        help="memory layout of the model; faster for most convolutions (default: on CUDA)",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the forward pass and the losses: a slow start, then faster steps "
        "(default: off)",
    )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="only algorithms whose results repeat to the last bit; slower on CUDA (default: off)",
    )
    group.add_argument(
        "--max-bad-steps",
        type=cli.number(int, 0),
        default=10,
        help="steps in a row whose loss or gradient is not finite, skipped before the run stops "
        "(default: 10)",
    )

    group = parser.add_argument_group("output")
    group.add_argument(
        "--tensorboard",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="event files in the folder events of --output-path (default: on)",
    )
    group.add_argument(
        "--wandb",
        action="store_true",
        help="log to Weights & Biases, if it is installed (default: off)",
    )
    group.add_argument(
        "--test-split",
        choices=SPLITS,
        help="score the best checkpoint on this split at the end, in test.json (default: none)",
    )
    group.add_argument(
        "--save-every-steps",
        type=cli.number(int, 0),
        default=0,
        help="save last.ckpt after this many steps as well; 0: off (default: 0)",
    )
    group.add_argument(
        "--save-every-minutes",
        type=cli.number(float, 0),
        default=10.0,
        help="and after this many minutes; 0: off (default: 10)",
    )
    group.add_argument(
        "--keep-all",
        action="store_true",
        help="keep the checkpoint of every epoch, as model-EPOCH-SCORE.ckpt (default: off)",
    )
    group.add_argument(
        "--output-path", type=Path, default=Path("runs/train"), help="(default: runs/train)"
    )
    group.add_argument(
        "--resume",
        nargs="?",
        const="last",
        choices=("last", "auto"),
        help="continue the run in --output-path; 'auto' starts one if there is none "
        "(default: start a new run)",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the run in --output-path (default: refuse)",
    )
