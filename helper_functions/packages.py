"""Packages that only some commands need."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence

from helper_functions.errors import UserError


def require_packages(what: str, packages: Sequence[str]) -> None:
    """Make sure that optional packages are there.

    Args:
        what: What asks for them, for the message.
        packages: Names of modules.

    Raises:
        UserError: If one is missing.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{what} needs {' and '.join(missing)}, not installed here; install what is missing by "
            f"'pip install -r requirements-export.txt'."
        )


def versions(packages: Sequence[str]) -> str:
    """Name modules with their versions, for messages; they are imported."""
    modules = [importlib.import_module(name) for name in packages]
    return ", ".join(
        f"{module.__name__} {getattr(module, '__version__', '(no version)')}" for module in modules
    )
