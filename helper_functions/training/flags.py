"""The command line of ``train.py``."""

from __future__ import annotations

import argparse
from pathlib import Path

from helper_functions import cli
from helper_functions.data.splits import SPLITS
from helper_functions.tasks.classify.presets import RECIPES
from models.inplace_abn import DEFAULT, NORMS

DESCRIPTION = """Train VoLUNet on pictures described by a split CSV.

Example: python train.py --img_dir images --csv_path splits.csv --backbone-name resnet18
"""


def make_parser() -> cli.Parser:
    """The command line; defaults are the released recipe."""
    parser = cli.Parser(
        usage="%(prog)s --img_dir DIR --csv_path FILE [flags]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_config_flag()
    parser.add_argument(
        "--recipe",
        choices=tuple(RECIPES),
        default="released",
        help="set of defaults: the released program's, or what our measurements recommend; "
        "explicit flags win (default: released)",
    )
    group = cli.add_data_flags(parser, csv_required=True)
    group.add_argument(
        "--max-bad-images",
        type=cli.number(int, 0),
        default=0,
        help="unreadable training images to skip before giving up (default: 0)",
    )
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
        help="pictures of an epoch: each once, or those of rare classes more often, by the square "
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
    cli.add_region_flags(group)
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

    group = parser.add_argument_group("optimisation")
    group.add_argument(
        "--lr", type=cli.number(float, 0), default=2e-4, help="peak rate (default: 2e-4)"
    )
    group.add_argument(
        "--head-lr-factor",
        type=cli.number(float, 0),
        default=1.0,
        help="learning rate of the head as a multiple of --lr; released: 1 (default: 1)",
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
        help="judge and save a moving average of the weights; starts low and rises to this decay, "
        "for example 0.999; 0: off (default: 0)",
    )
    group.add_argument(
        "--patience",
        type=cli.number(int, 0),
        default=0,
        metavar="N",
        help="end after N epochs without a better validation mAP; 0: never (default: 0)",
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

    group = cli.add_runtime_flags(parser)
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
        help="keep the checkpoint of every epoch, as model-EPOCH-MAP.ckpt (default: off)",
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
        "(default: start anew)",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the run in --output-path (default: refuse)",
    )
    return parser


def parse_args() -> argparse.Namespace:
    """The command line; what it leaves open comes from the recipe."""
    parser = make_parser()
    parser.set_defaults(**RECIPES[parser.parse_args().recipe])
    return parser.parse_args()
