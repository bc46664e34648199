"""Packages that only some commands need."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from helper_functions.runtime.errors import UserError


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
