"""Writing files so that a reader sees the old content or the new, never a torn one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

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


class FolderLock:
    """Claims an output folder while a block runs, and until the process ends, however it ends.

    Args:
        folder: Claimed at once if it exists, else by ``claim`` once it does.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = FileLock(folder / ".lock", timeout=0)

    def __enter__(self) -> FolderLock:
        if self.folder.is_dir():
            self.claim()
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release(force=True)

    def claim(self) -> None:
        """Claim the folder, unless that is done.

        Raises:
            UserError: If another process has claimed it, or it cannot be written to.
        """
        try:
            self.lock.acquire()
        except Timeout:
            raise UserError(
                f"Another run is at work in {self.folder}; wait for it, stop it, or choose another "
                f"folder."
            ) from None
        except OSError as error:
            raise UserError(
                f"The folder {self.folder} cannot be written to: {error.strerror}."
            ) from error


def free_space(folder: Path) -> str:
    """How much room a folder's file system has, as part of a sentence."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return f"{folder} cannot be reached any more"
    return f"{free / 1e6:,.0f} MB are free in {folder}"


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
    """Write a file through a temporary one in the same folder, synced and then renamed.

    Args:
        path: The file to replace or create.
        write: Called with the open temporary file.
        sync: Wait for the disk, so that the file also outlives a power failure.

    Raises:
        OSError: If it cannot be written; the old file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text by ``write_atomically``."""
    write_atomically(path, lambda file: file.write(text.encode()))
