"""Writing files so that a reader sees the old content or the new, never a torn one."""

from __future__ import annotations

import hashlib
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import BinaryIO

from helper_functions.runtime.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


MAX_NAME = 255  # bytes that file systems allow a name


def _hash_mark(name: str) -> str:
    return f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


def fit_name(name: str, *endings: str) -> str:
    """Return a name that is short enough for a file with each of some endings behind it.

    The limit counts bytes. A name that is too long loses whole letters and gets a hash of all of
    it, so that a name always gives the same one, and no other name does.

    >>> fit_name("oak.png", ".json")
    'oak.png'
    """
    room = MAX_NAME - max((len(os.fsencode(ending)) for ending in endings), default=0)
    if len(os.fsencode(name)) <= room:
        return name
    mark = _hash_mark(name)
    kept = name[: room - len(mark)]
    # An accent that is a character of its own stays with its letter.
    while len(os.fsencode(kept + mark)) > room or unicodedata.combining(name[len(kept)]):
        kept = kept[:-1]
    return kept + mark


def output_names(filenames: Iterable[str], *endings: str) -> Iterator[PurePath]:
    """Yield where the files made of some images go: their names, which some endings follow.

    Names stay relative (their root and ``..`` are dropped), fit, and differ for different images,
    also where a file system takes upper and lower case or composed letters for the same: of names
    that do not, all but the first get a hash.
    """
    taken: dict[str, str] = {}
    for filename in filenames:
        path = PurePath(filename.replace("\\", "/"))
        parts = [fit_name(part) for part in path.parts if part not in (path.anchor, "..")]
        target = PurePath(*parts[:-1], fit_name(parts[-1], *endings))
        alike = unicodedata.normalize("NFC", str(target)).casefold()
        if taken.setdefault(alike, filename) != filename:
            mark = _hash_mark(filename)
            marked = [mark + ending for ending in endings or ("",)]
            target = target.with_name(fit_name(parts[-1], *marked) + mark)
        yield target


def temporary_path(path: Path) -> Path:
    """Return the path of a hidden file beside another one that it is to become."""
    ending = f".{os.getpid()}.tmp"
    return path.with_name(fit_name(f".{path.name}", ending) + ending)


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
    temporary = temporary_path(path)
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
