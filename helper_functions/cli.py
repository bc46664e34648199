"""What every command line shares: the parser, ``--config`` files, types of flags, exit statuses."""

from __future__ import annotations

import argparse
import ast
import difflib
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from helper_functions.runtime.device import out_of_memory_message
from helper_functions.runtime.errors import TrainingFailed, UserError
from helper_functions.runtime.files import free_space
from helper_functions.runtime.signals import Stopped

WRONG_INPUT = 2
INTERRUPTED = 130

# What train.py writes into args.yaml beside its flags.
RECORDS = frozenset({"data_hash", "provenance", "processes"})


class Parser(argparse.ArgumentParser):
    """An argument parser that reads ``--config`` files and reports an error in one line.

    Attributes:
        other_flags: Names in a config file to pass over, with underscores.
        flags_of_tasks: The task that knows a flag which this parser lacks, by the flag.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.other_flags: set[str] = set()
        self.flags_of_tasks: dict[str, str] = {}

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
            path = early_flag("--config", words)
            if path is not None:
                words = config_words(self, Path(path), self.other_flags) + words
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Leave with status 2."""
        if message.startswith("unrecognized arguments: "):
            for word in message.split()[2:]:
                if task := self.flags_of_tasks.get(word.partition("=")[0]):
                    message = f"{word} belongs to --task {task}"
                    break
        self.exit(WRONG_INPUT, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def early_flag(flag: str, words: Sequence[str]) -> str | None:
    """Return the value of one flag, read before the parser of the whole command line exists."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument(flag, dest="value")
    try:
        value: str | None = finder.parse_known_args(list(words))[0].value
    except argparse.ArgumentError:  # the whole parser reports it
        return None
    return value


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file of flags: a mapping of names to values.

    Raises:
        UserError: If it cannot be read or is no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"The config file {path} cannot be read: {reason}.") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a valid YAML file: {reason}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must map flags to values, one `flag: value` a line.")
    return {str(key).lstrip("-").replace("-", "_"): value for key, value in content.items()}


def config_words(
    parser: argparse.ArgumentParser, path: Path, other_flags: Collection[str] = ()
) -> list[str]:
    """Return the flags of a config file as words to put before those of the command line.

    Args:
        parser: Knows the flags.
        path: YAML, a mapping of flags without their dashes to values; ``null`` leaves a flag out.
        other_flags: Names to pass over without complaint, with underscores.

    Raises:
        UserError: If the file cannot be read or names an unknown flag.
    """
    actions = {action.dest: action for action in parser._actions if action.option_strings}
    flags: dict[str, Any] = {}
    for name, value in read_config(path).items():
        if name not in actions:
            if name in RECORDS or name in other_flags:
                continue
            near = difflib.get_close_matches(name, actions, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "; see --help for those there are."
            raise UserError(f"{path} names {name!r}, which is no flag{hint}")
        switch = actions[name].nargs == 0 and not isinstance(
            actions[name], argparse.BooleanOptionalAction
        )
        if value is None or value == {} or (switch and value is False):
            continue
        flag = next(word for word in actions[name].option_strings if word.startswith("--"))
        flags[flag.removeprefix("--")] = value
    return to_arguments(flags)


def to_arguments(flags: dict[str, Any]) -> list[str]:
    """Return flags as command-line words: ``True`` is a bare flag, ``False`` its ``--no-`` form."""
    words: list[str] = []
    for name, value in flags.items():
        if value is True or value is False:
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, dict):
            words += [f"--{name}", *(f"{key}={item}" for key, item in value.items())]
        elif isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        else:
            words += [f"--{name}", str(value)]
    return words


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
    """Return a flag type: a number within bounds (both included)."""

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


def add_device_flags(group: Any) -> None:
    """Add the flags that say where and in which precision to compute."""
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


def plain_settings(flags: argparse.Namespace) -> dict[str, Any]:
    """Return every setting of a run as plain data, without how it was resumed."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(flags).items()
        if name not in ("resume", "config")
    }


def run(main: Callable[[], None]) -> NoReturn:
    """Run a script and turn what people can fix into one line and an exit status.

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
        message = out_of_memory_message(error)
        if message is None:
            raise
        print(f"{script}: error: {message}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        room = f"; {free_space(Path(error.filename).parent)}" if error.filename else ""
        print(f"{script}: error: {error}{room}.", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)
