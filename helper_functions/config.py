"""Settings as plain data: flags from a YAML file, and a file's flags as words of a command line."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from helper_functions.runtime.errors import UserError

# What train.py writes into args.yaml beside its flags.
RECORDS = frozenset({"data_hash", "provenance", "processes"})


def to_arguments(flags: dict[str, Any]) -> list[str]:
    """Flags as command-line words: ``True`` is a bare flag, ``False`` its ``--no-`` form."""
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


def config_words(
    parser: argparse.ArgumentParser, path: Path, others: Collection[str] = ()
) -> list[str]:
    """What a config file says, as words to put before those of the command line.

    Args:
        parser: Knows the flags.
        path: YAML, a mapping of flags without their dashes to values; ``null`` leaves a flag out.
        others: Names to pass over without complaint, with underscores.

    Raises:
        UserError: If the file cannot be read or names an unknown flag.
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
    actions = {action.dest: action for action in parser._actions if action.option_strings}
    flags: dict[str, Any] = {}
    for key, value in content.items():
        name = str(key).lstrip("-").replace("-", "_")
        if name not in actions:
            if name in RECORDS or name in others:
                continue
            near = difflib.get_close_matches(name, actions, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "; see --help for those there are."
            raise UserError(f"{path} names {key!r}, which is no flag{hint}")
        switch = actions[name].nargs == 0 and not isinstance(
            actions[name], argparse.BooleanOptionalAction
        )
        if value is None or value == {} or (switch and value is False):
            continue
        flag = next(word for word in actions[name].option_strings if word.startswith("--"))
        flags[flag.removeprefix("--")] = value
    return to_arguments(flags)
