"""What command lines share: the parser, ``--config`` files, flags as fields, exit statuses."""

from __future__ import annotations

import argparse
import ast
import difflib
import errno
import io
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_args, get_type_hints

import yaml

from helper_functions.runtime.device import out_of_memory_message
from helper_functions.runtime.errors import TrainingFailed, UserError
from helper_functions.runtime.files import free_space
from helper_functions.runtime.signals import Stopped

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

WRONG_INPUT = 2
INTERRUPTED = 130

T = TypeVar("T", bound="DataclassInstance")


class Parser(argparse.ArgumentParser):
    """An argument parser that reads a ``--config`` file and reports an error in one line.

    Attributes:
        other_flags: Names in a config file to pass over: what train.py records beside its flags,
            and flags of the other script or another task.
        flags_of_tasks: The task that knows a flag which this parser lacks, by the flag.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.other_flags = {"data_hash", "provenance", "processes"}
        self.flags_of_tasks: dict[str, str] = {}

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the flags of the config file, then those of the command line, which win."""
        words = list(sys.argv[1:] if args is None else args)
        if "--config" in self._option_string_actions and (path := early_flag("--config", words)):
            words = self._config_words(Path(path)) + words
        return super().parse_known_args(words, namespace)

    def _config_words(self, path: Path) -> list[str]:
        """Return the flags of a config file as command-line words; ``null`` leaves a flag out.

        Raises:
            UserError: If the file cannot be read or names an unknown flag.
        """
        actions = {action.dest: action for action in self._actions if action.option_strings}
        flags: dict[str, Any] = {}
        for name, value in read_config(path).items():
            if name in actions:
                off = value is False and isinstance(actions[name], argparse._StoreTrueAction)
                if value not in (None, {}) and not off:
                    long = next(w for w in actions[name].option_strings if w.startswith("--"))
                    flags[long.removeprefix("--")] = value
            elif name not in self.other_flags:
                near = difflib.get_close_matches(name, actions, 1)
                hint = f"did you mean {near[0]!r}?" if near else "see --help for those there are."
                raise UserError(f"{path} names {name!r}, which is no flag; {hint}")
        return to_arguments(flags)

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


def with_further(
    settings: dict[str, Any], further: dict[str, Any], *reserved: str
) -> dict[str, Any]:
    """Return settings with those of --model-kwargs.

    Raises:
        UserError: If one of these is among the settings, or reserved.
    """
    if taken := {*settings, *reserved} & set(further):
        raise UserError(f"{min(taken)!r} is a setting of its own, not one of --model-kwargs.")
    return settings | further


def number(
    value_type: type[int] | type[float], low: float | None = None, high: float | None = None
) -> Callable[[str], float]:
    """Return a flag type: a number within bounds (both included)."""

    def parse(text: str) -> float:
        value = value_type(text)
        below, above = low is not None and value < low, high is not None and value > high
        if value != value or below or above:
            bounds = f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(f"{text} is out of range, it must be {bounds}")
        return value

    parse.__name__ = "whole number" if value_type is int else "number"
    return parse


def flag(
    default: Any,
    help: str = "",
    *,
    low: float | None = None,
    high: float | None = None,
    group: str | None = None,
    names: Sequence[str] = (),
    **arguments: Any,
) -> Any:
    """Return a field of a dataclass that ``add_flags`` offers as ``--name-of-the-field``.

    Args:
        default: Value without the flag.
        help: Meaning; "(default: ...)" follows, unless the text itself tells it in words.
        low: Lowest number.
        high: Highest number; needs ``low``.
        group: Title of the group in the help, where it is not that of ``add_flags``.
        names: Further names, such as ``-b``.
        arguments: Of ``add_argument``, where the annotation says too little.
    """
    if "(default: " not in help:
        help = f"{help} (default: {_to_text(default)})".lstrip()
    arguments |= {"default": default, "help": help}
    metadata = {"bounds": (low, high), "group": group, "names": names, "arguments": arguments}
    if isinstance(default, (dict, list)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def _to_text(default: Any) -> str:
    """Return a default as the help shows it."""
    if default is None or isinstance(default, bool):
        return {None: "none", True: "on", False: "off"}[default]
    if isinstance(default, list):
        return " ".join(map(_to_text, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def add_flags(
    parser: argparse.ArgumentParser,
    title: str,
    settings: type[DataclassInstance],
    only: Collection[str] = (),
) -> None:
    """Offer the fields of a dataclass that ``flag`` made, typed as they are annotated.

    ``bool`` becomes a switch, with a ``--no-`` form unless its default is ``False``.

    Args:
        parser: Gets the flags.
        title: Of their group in the help; it is added where the parser lacks it.
        settings: The dataclass.
        only: Fields to offer; empty: all.
    """
    annotations = get_type_hints(settings)
    for setting in fields(settings):
        if not setting.metadata or (only and setting.name not in only):
            continue
        # What the annotation says, and what overrides it
        item_type = annotations[setting.name]
        while get_args(item_type):  # that of list[int] | None is int
            item_type = get_args(item_type)[0]
        arguments: dict[str, Any] = {"type": item_type}
        low, high = setting.metadata["bounds"]
        if item_type is bool:
            switch = setting.default is False
            arguments = {"action": "store_true" if switch else argparse.BooleanOptionalAction}
        elif low is not None:
            arguments["type"] = number(item_type, low, high)
        arguments |= setting.metadata["arguments"]
        # The flag
        heading = setting.metadata["group"] or title
        groups = {group.title: group for group in parser._action_groups}
        group = groups.get(heading) or parser.add_argument_group(heading)
        names = (*setting.metadata["names"], "--" + setting.name.replace("_", "-"))
        group.add_argument(*names, **arguments)


def from_flags(settings: type[T], flags: argparse.Namespace, **resolved: Any) -> T:
    """Return a dataclass filled from the flags of its fields' names, and from ``resolved``."""
    names = [setting.name for setting in fields(settings) if setting.name not in resolved]
    return settings(**{name: getattr(flags, name) for name in names}, **resolved)


@dataclass(frozen=True)
class DeviceSettings:
    """Where and in which precision to compute."""

    device: str = flag("auto", "auto, cpu, cuda, cuda:1, mps")
    amp: str = flag(
        "auto",
        "mixed precision; auto: fp16 on CUDA, off elsewhere",
        choices=("auto", "off", "fp16", "bf16"),
    )
    print_freq: int = flag(100, "steps between two printed lines", low=1, names=("-p",))


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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack letters of a path
            stream.reconfigure(errors="backslashreplace")
    called = Path(sys.argv[0])
    script = called.parent.name if called.name == "__main__.py" else called.name
    status, message = 1, None
    try:
        main()
        status = 0
    except UserError as error:
        status, message = WRONG_INPUT, f"error: {error}"
    except TrainingFailed as error:
        message = f"error: {error}"
    except Stopped as stopped:
        status, message = stopped.exit_status, "stopped by a signal."
    except KeyboardInterrupt:
        status = INTERRUPTED
    except (RuntimeError, MemoryError) as error:
        if (advice := out_of_memory_message(error)) is None:
            raise
        message = f"error: {advice}"
    except OSError as error:
        full = error.filename and error.errno in (errno.ENOSPC, errno.EDQUOT)
        room = f"; {free_space(Path(error.filename).parent)}" if full else ""
        status = WRONG_INPUT if error.errno == errno.ENAMETOOLONG else status
        message = f"error: {error}{room}."
    if message is not None:
        print(f"{script}: {message}", file=sys.stderr)
    sys.exit(status)
