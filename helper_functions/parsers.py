"""The command lines of ``train.py`` and ``val.py``: the flags of both programs and of one task."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from helper_functions import cli
from helper_functions.checkpoints import Checkpoint, read_checkpoint
from helper_functions.data.flags import add_data_flags
from helper_functions.inference.flags import add_inference_flags
from helper_functions.runtime.errors import UserError
from helper_functions.tasks import DEFAULT_TASK, TASKS, get_task
from helper_functions.tasks.base import Task
from helper_functions.training.flags import add_training_flags

USAGE = {
    "train": "%(prog)s --img_dir DIR --csv_path FILE [flags]",
    "val": "%(prog)s --ckpt-path FILE --img_dir DIR [--csv_path FILE | --export FORMAT] [flags]",
}
DESCRIPTION = {
    "train": """Train a model on images described by a split CSV.

Example: python train.py --img_dir images --csv_path splits.csv --backbone-name resnet18
""",
    "val": """Validate a trained model on a split, predict images, or export the model.

Examples:
    python val.py --ckpt-path runs/train/model-highest.ckpt --img_dir images --csv_path splits.csv
    python val.py --ckpt-path runs/train/model-highest.ckpt --img_dir photos
    python val.py --ckpt-path runs/train/model-highest.ckpt --img_dir 'photos/**/*.jpg'
    python val.py --ckpt-path runs/train/model-highest.ckpt --export onnx --img_dir photos
""",
}


def make_parser(script: str, task: type[Task]) -> cli.Parser:
    """Return the parser of ``train`` or ``val`` for one task."""
    parser = cli.Parser(
        usage=USAGE[script],
        description=DESCRIPTION[script],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML file of flags without their dashes, such as the args.yaml of a run; flags of "
        "the command line win (default: none)",
    )
    parser.add_argument(
        "--task",
        choices=tuple(TASKS),
        default=DEFAULT_TASK if script == "train" else None,
        help="what to learn (default: "
        + (f"{DEFAULT_TASK})" if script == "train" else "that of the checkpoint)"),
    )
    if script == "train":
        default, *_ = task.recipes
        parser.add_argument(
            "--recipe",
            choices=tuple(task.recipes),
            default=default,
            help="set of defaults: the released program's, or what our measurements recommend; "
            f"explicit flags win (default: {default})",
        )
    add_data_flags(parser, script)
    task.add_flags(parser, script)
    (add_training_flags if script == "train" else add_inference_flags)(parser)
    return parser


def _parser_with_hints(script: str, task: type[Task]) -> cli.Parser:
    """Return a parser that also knows which flags belong to the other script or another task."""
    parser = make_parser(script, task)
    for other_script, (name, other) in itertools.product(USAGE, TASKS.items()):
        for action in make_parser(other_script, other)._actions:
            parser.other_flags.add(action.dest)
            if other_script == script:
                parser.flags_of_tasks |= dict.fromkeys(action.option_strings, name)
    return parser


def _early(flag: str, words: Sequence[str]) -> str | None:
    """Return the value of a flag on the command line or else in the config file, unchecked."""
    value = cli.early_flag(f"--{flag}", words)
    config = cli.early_flag("--config", words)
    if value is None and config is not None:
        value = cli.read_config(Path(config)).get(flag.replace("-", "_"))
    return None if value is None else str(value)


def parse_train(words: Sequence[str] | None = None) -> tuple[type[Task], argparse.Namespace]:
    """Parse the command line of ``train.py``.

    Returns:
        The task, and the flags; what these leave open comes from the task's recipe.
    """
    words = list(sys.argv[1:] if words is None else words)
    task = get_task(_early("task", words) or DEFAULT_TASK)
    parser = _parser_with_hints("train", task)
    parser.set_defaults(**task.recipes[parser.parse_args(words).recipe])
    return task, parser.parse_args(words)


def parse_val(
    words: Sequence[str] | None = None,
) -> tuple[type[Task], Checkpoint, argparse.Namespace]:
    """Parse the command line of ``val.py``; the checkpoint tells the task.

    Raises:
        UserError: If the checkpoint cannot be read, or is of another task than --task.
    """
    words = list(sys.argv[1:] if words is None else words)
    name, path = _early("task", words), _early("ckpt-path", words)
    checkpoint = None
    if path is not None and not {"-h", "--help"} & set(words):
        checkpoint = read_checkpoint(Path(path))
        if name not in (None, checkpoint.task):
            raise UserError(f"--task is {name}, but {path} was trained for {checkpoint.task}.")
        name = checkpoint.task
    task = get_task(name or DEFAULT_TASK)
    parser = _parser_with_hints("val", task)
    flags = parser.parse_args(words)
    if flags.img_dir is None and flags.export is None:
        parser.error("the following arguments are required: --img_dir")
    task.check_flags(parser, flags)
    return task, checkpoint or read_checkpoint(flags.ckpt_path), flags
