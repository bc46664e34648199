"""Writing files so that a reader sees the old content or the new, never a torn one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from helper_functions.runtime.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


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
    """Claim of an output folder while a block runs, and at most until the process ends.

    The lock is the process's own (POSIX ``fcntl``): unlike ``flock`` it does not live on in loader
    processes when the run is killed. Where the system has none, runs are not kept apart.

    Args:
        folder: Claimed at once if it exists, else by ``claim`` once it does.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file: BinaryIO | None = None

    def __enter__(self) -> FolderLock:
        if self.folder.is_dir():
            self.claim()
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()

    def claim(self) -> None:
        """Claim the folder, unless that is done.

        Raises:
            UserError: If another process has claimed it, or it cannot be written to.
        """
        if self.file is not None or fcntl is None:
            return
        try:
            self.file = (self.folder / ".lock").open("wb")
        except OSError as error:
            raise UserError(
                f"The folder {self.folder} cannot be written to: {error.strerror}."
            ) from error
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"Another run is at work in {self.folder}; wait for it, stop it, or choose another "
                f"folder."
            ) from error


def free_space(folder: Path) -> str:
    """Return how much room a folder's file system has, as part of a sentence."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return f"{folder} cannot be reached any more"
    return f"{free / 1e6:,.0f} MB are free in {folder}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder, renamed to a file's when the block has succeeded.

    Args:
        path: The file to replace or create; untouched if the block fails.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
    """Write a file through a temporary one in the same folder, synced and then renamed.

    Args:
        path: The file to replace or create.
        write: Called with the open temporary file.
        sync: Wait for the disk, so that the file also outlives a power failure.

    Raises:
        OSError: If it cannot be written; the old file is then untouched.
    """
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            write(file)
            if sync:
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:  # A failed sync does not know its file.
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text by ``write_atomically``."""
    write_atomically(path, lambda file: file.write(text.encode()))
