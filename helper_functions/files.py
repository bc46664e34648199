"""Writing files so that a reader sees the old content or the new, never a torn one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from helper_functions.errors import UserError


def make_folder(folder: Path) -> None:
    """Create a folder with its parents.

    Raises:
        UserError: If that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be created: {error.strerror}.") from error


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file through a temporary one in the same folder, synced and then renamed.

    Args:
        path: The file to replace or create.
        write: Called with the open temporary file.

    Raises:
        OSError: If it cannot be written; the old file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text by ``write_atomically``."""
    write_atomically(path, lambda file: file.write(text.encode()))
