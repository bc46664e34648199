"""The command line of ``val.py``."""

from __future__ import annotations

import argparse
from pathlib import Path

from helper_functions import cli
from helper_functions.data.splits import ALL, SPLITS
from helper_functions.inference.export import FORMATS
from helper_functions.inference.tta import VIEWS
from helper_functions.results.tables import PREDICTION_FORMATS
from helper_functions.runtime.packages import require_packages
from helper_functions.training.flags import make_parser as make_train_parser

DESCRIPTION = """Validate a trained VoLUNet on a split, predict pictures, or export the model.

Examples:
    python val.py --ckpt-path runs/train/model-highest.ckpt --img_dir images --csv_path splits.csv
    python val.py --ckpt-path runs/train/model-highest.ckpt --img_dir photos
    python val.py --ckpt-path runs/train/model-highest.ckpt --img_dir 'photos/**/*.jpg'
    python val.py --ckpt-path runs/train/model-highest.ckpt --export onnx --img_dir photos
"""


def parse_args() -> argparse.Namespace:
    """The command line; what it leaves open comes from the checkpoint."""
    parser = cli.Parser(
        usage="%(prog)s --ckpt-path FILE --img_dir DIR [--csv_path FILE | --export FORMAT] [flags]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_config_flag()
    parser.others = vars(make_train_parser().parse_args(["--img_dir", ".", "--csv_path", "."]))
    parser.add_argument(
        "--ckpt-path",
        type=Path,
        required=True,
        help="checkpoint of train.py or the released program, or a folder of --export folder",
    )
    cli.add_data_flags(parser, csv_required=False)
    parser.add_argument(
        "--split", choices=(*SPLITS, ALL), default="val", help="rows to validate (default: val)"
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out pictures that cannot be read, and list them (default: stop at the first)",
    )
    parser.add_argument(
        "--mask-dir",
        type=Path,
        help="pixel masks: 8-bit PNGs of class indices, named like the pictures, and classes.json, "
        "the list of the indices' names; measures whether regions are classified rightly (default: "
        "none)",
    )
    group = parser.add_argument_group(
        "model",
        "The checkpoint knows its model and its regions. The region flags matter in training only; "
        "they are accepted for the sake of old command lines.",
    )
    group.add_argument(
        "--backbone-name", help="checked against the checkpoint when given (default: not)"
    )
    cli.add_region_flags(group)
    group = cli.add_runtime_flags(parser)
    group.add_argument(
        "--tta",
        choices=tuple(VIEWS),
        default="none",
        help="test-time augmentation: average over the picture and its left-right mirror image, or "
        "the upside-down ones as well (default: none)",
    )
    group = parser.add_argument_group("output")
    cli.add_decision_flags(group)
    cli.add_map_flags(group)
    group.add_argument(
        "--output",
        type=Path,
        help="folder for the results (default: 'val', or 'export', beside the checkpoint)",
    )
    group.add_argument(
        "--predictions-format",
        choices=PREDICTION_FORMATS,
        default="csv",
        help="how the scores are written (default: csv)",
    )
    group.add_argument(
        "--export",
        choices=tuple(FORMATS),
        help="write the model in another format and do nothing else; 'folder': model.safetensors "
        "and config.json, as the Hugging Face hub has them (default: none)",
    )
    args = parser.parse_args()
    if args.img_dir is None and args.export is None:
        parser.error("the following arguments are required: --img_dir")
    if args.predictions_format == "parquet":
        require_packages("--predictions-format parquet", ["pyarrow"])
    if args.mask_dir is not None and args.csv_path is None:
        parser.error("--mask-dir belongs to a validation: give --csv_path as well")
    cli.check_decision_flags(parser, args)
    return args
