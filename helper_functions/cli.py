"""What the two scripts' command lines share: flags, checks and exit statuses."""

from __future__ import annotations

import argparse
import ast
import math
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from helper_functions.config import config_words
from helper_functions.data.bands import Reading, parse_bands
from helper_functions.metrics.thresholds import parse_rule
from helper_functions.runtime.errors import TrainingFailed, UserError
from helper_functions.runtime.files import free_space
from helper_functions.runtime.out_of_memory import shortage
from helper_functions.runtime.signals import Stopped
from helper_functions.tasks.classify.presets import PRESETS
from models.vdsm import VARIANTS

WRONG_INPUT = 2
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An argument parser that reads ``--config`` files and whose complaints are one line.

    Attributes:
        others: Names in a config file to pass over, with underscores.
    """

    others: Collection[str] = ()

    def add_config_flag(self) -> None:
        """Offer ``--config FILE``: flags from a file, which those of the command line override."""
        self.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help="YAML file of flags without their dashes, such as the args.yaml of a run; flags "
            "of the command line win (default: none)",
        )

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the flags of a config file, if one is named, and then those of the line."""
        words = list(sys.argv[1:] if args is None else args)
        if "--config" in self._option_string_actions:
            finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
            finder.add_argument("--config", type=Path)
            found, _ = finder.parse_known_args(words)
            if found.config is not None:
                words = config_words(self, found.config, self.others) + words
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Leave with status 2."""
        self.exit(WRONG_INPUT, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class KeyValues(argparse.Action):
    """Collects ``key=value`` pairs, values read as Python literals where they are one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store the pairs as a dictionary."""
        pairs = dict(getattr(namespace, self.dest) or {})  # the flag may be given again
        for text in values:
            key, equals, value = text.partition("=")
            if not equals or not key:
                parser.error(f"{option_string} expects key=value, not {text!r}")
            try:
                pairs[key] = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                pairs[key] = value
        setattr(namespace, self.dest, pairs)


def number(
    kind: type[int] | type[float], low: float | None = None, high: float | None = None
) -> Callable[[str], float]:
    """A flag type: a number of a kind within bounds (both included)."""

    def parse(text: str) -> float:
        value = kind(text)
        if (
            value != value
            or (low is not None and value < low)
            or (high is not None and value > high)
        ):
            bounds = f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(f"{text} is out of range, it must be {bounds}")
        return value

    parse.__name__ = "whole number" if kind is int else "number"
    return parse


def add_data_flags(parser: argparse.ArgumentParser, *, csv_required: bool) -> Any:
    """Flags that say which pictures, and how they are read; the group, for more of them.

    Without a CSV the pictures may be anywhere.
    """
    group = parser.add_argument_group("data")
    group.add_argument(
        "--img_dir",
        type=Path,
        required=csv_required,
        help="image folder"
        + ("" if csv_required else "; to predict also a pattern in quotes, or a list (.txt, .csv)"),
    )
    group.add_argument(
        "--csv_path",
        type=Path,
        required=csv_required,
        help="split CSV: filename,label,split"
        + ("" if csv_required else "; without it every image of --img_dir is predicted"),
    )
    group.add_argument(
        "--dataset",
        choices=sorted(PRESETS),
        default="csv",
        help="which set it is: expected class count, image size and notes (default: csv)",
    )
    group.add_argument(
        "--num-classes",
        type=number(int, 1),
        help="number of classes, checked against the data (default: whatever the data says)",
    )
    group.add_argument(
        "--image-size",
        type=number(int, 1),
        help="side that images are resized to, in pixels (default: that of the checkpoint or set)",
    )
    group.add_argument(
        "--mean",
        type=float,
        nargs=3,
        metavar=("R", "G", "B"),
        help="normalise by this mean, in 0-1 (default: that of the checkpoint, else none)",
    )
    group.add_argument(
        "--std",
        type=float,
        nargs=3,
        metavar=("R", "G", "B"),
        help="and this standard deviation (default: likewise)",
    )
    add_reading_flags(group)
    group.add_argument(
        "--cache-dir",
        type=Path,
        help="folder that keeps decoded, resized pictures from epoch to epoch and run to run "
        "(default: none)",
    )
    group.add_argument(
        "-j", "--workers", type=number(int, 0), default=2, help="loader processes (default: 2)"
    )
    group.add_argument(
        "-b", "--batch-size", type=number(int, 1), default=16, help="images a batch (default: 16)"
    )
    return group


def add_reading_flags(group: Any) -> None:
    """Flags that say how raw values become red, green and blue."""
    group.add_argument(
        "--bands",
        nargs="+",
        metavar="BAND",
        help="bands for red, green and blue: 'paper' (the first three), 'rgb' (the same, but 4 2 3 "
        "of a TIFF with four: infrared, green, blue, red), or three numbers (default: those of the "
        "checkpoint, else paper)",
    )
    group.add_argument(
        "--value-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="values that become black and white in pictures of more than 8 bits (default: that of "
        "the checkpoint, else by the type of the values)",
    )


def reading(bands: list[str] | None, value_range: Sequence[float] | None) -> Reading:
    """What --bands and --value-range ask for.

    Raises:
        UserError: If they make no sense.
    """
    try:
        chosen = parse_bands(bands)
    except ValueError as error:
        raise UserError(str(error)) from error
    if value_range is None:
        return Reading(chosen)
    low, high = value_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(
            f"--value-range is {low:g} to {high:g}; give the value of black, then the higher one "
            f"of white."
        )
    return Reading(chosen, (low, high))


def add_region_flags(group: Any) -> None:
    """Flags of the paper's region branch."""
    group.add_argument(
        "--subsampling",
        action="store_true",
        help="average the feature map to --sub-h x --sub-w (default: off)",
    )
    group.add_argument("--sub-h", type=number(int, 1), default=4, help="rows (default: 4)")
    group.add_argument("--sub-w", type=number(int, 1), default=4, help="columns (default: 4)")
    group.add_argument(
        "--min-superpixels",
        type=number(int, 0),
        default=6,
        help="cells minus this many edges merge; 0: every cell is a region (default: 6)",
    )
    group.add_argument(
        "--vdsm",
        choices=VARIANTS,
        default="released",
        help="superpixel variant (default: released)",
    )


def grid_size(text: str) -> tuple[int, int]:
    """A flag type: rows and columns as ``7`` or ``6x8``."""
    rows, cross, columns = text.partition("x")
    size = int(rows), int(columns if cross else rows)
    if min(size) < 1:
        raise argparse.ArgumentTypeError(f"{text} is out of range, a grid needs cells")
    return size


grid_size.__name__ = "grid such as 7 or 6x8"


def temperature(text: str) -> float | str:
    """A flag type: ``fit`` or a positive number."""
    if text == "fit":
        return text
    value = number(float, 1e-3, 1e3)
    return value(text)


temperature.__name__ = "number or 'fit'"


def add_decision_flags(group: Any) -> None:
    """Flags that turn scores into decisions."""
    group.add_argument(
        "--thre", type=number(float, 0, 1), default=0.5, help="decision threshold (default: 0.5)"
    )
    group.add_argument(
        "--tune-thresholds",
        type=parse_rule,
        metavar="RULE",
        help="give every class its best threshold on the scored split and write thresholds.json; "
        "f1: the best F1; precision=0.9: the best recall at that precision (default: --thre)",
    )
    group.add_argument(
        "--temperature",
        type=temperature,
        help="divide logits by this number; fit: by the one that fits the scored split best, "
        "written to thresholds.json (default: 1)",
    )
    group.add_argument(
        "--thresholds",
        type=Path,
        metavar="FILE",
        help="decide with the thresholds and the temperature of a thresholds.json; "
        "they replace --thre (default: none)",
    )


def check_decision_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse decision flags that contradict each other or need labels that are not there."""
    fitted = {
        "--tune-thresholds": args.tune_thresholds is not None,
        "--temperature fit": args.temperature == "fit",
    }
    for flag, given in fitted.items():
        if given and args.csv_path is None:
            parser.error(f"{flag} needs labels: give --csv_path as well")
    if args.thresholds is not None and (args.tune_thresholds or args.temperature is not None):
        parser.error(
            "--thresholds brings thresholds and temperature along: leave out --tune-thresholds and "
            "--temperature"
        )


def add_map_flags(group: Any) -> None:
    """Flags of the region maps that ``val.py`` draws."""
    group.add_argument(
        "--regions",
        action="store_true",
        help="draw which class each region of every picture predicts, and write it as data, in the "
        "folder 'regions' of the results (default: off)",
    )
    group.add_argument(
        "--superpixel-grid",
        type=grid_size,
        metavar="ROWS[xCOLUMNS]",
        help="cells of the feature map that superpixels are found on, for --regions, --mask-dir "
        "and the report (default: the checkpoint's)",
    )


def add_runtime_flags(parser: argparse.ArgumentParser) -> Any:
    """Flags that say where and how to compute; the group, for more of them."""
    group = parser.add_argument_group("runtime")
    group.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)"
    )
    group.add_argument(
        "--amp",
        choices=("auto", "off", "fp16", "bf16"),
        default="auto",
        help="mixed precision; auto: fp16 on CUDA, off elsewhere (default: auto)",
    )
    group.add_argument(
        "-p",
        "--print-freq",
        type=number(int, 1),
        default=100,
        help="steps between two printed lines (default: 100)",
    )
    return group


def plain_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Every setting of a run as plain data; how it was resumed and where flags stood are none."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(args).items()
        if name not in ("resume", "config")
    }


def run(main: Callable[[], None]) -> NoReturn:
    """Run a script and turn what people can mend into one line and an exit status.

    0: done; 2: input or command line are wrong; 130 and 143: stopped by a signal; 1: anything else.
    """
    called = Path(sys.argv[0])
    script = called.parent.name if called.name == "__main__.py" else called.name
    try:
        main()
    except UserError as error:
        print(f"{script}: error: {error}", file=sys.stderr)
        sys.exit(WRONG_INPUT)
    except TrainingFailed as error:
        print(f"{script}: error: {error}", file=sys.stderr)
        sys.exit(1)
    except Stopped as stopped:
        print(f"{script}: stopped by a signal.", file=sys.stderr)
        sys.exit(stopped.exit_status)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (RuntimeError, MemoryError) as error:
        lack = shortage(error)
        if lack is None:
            raise
        print(f"{script}: error: {lack}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        room = f"; {free_space(Path(error.filename).parent)}" if error.filename else ""
        print(f"{script}: error: {error}{room}.", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)
