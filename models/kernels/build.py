"""Builds ``kernels.c`` with GCC (or what ``CC`` names), once a machine and a version of the file.

The result lies in ``$XDG_CACHE_HOME/volunet`` (``~/.cache/volunet``), which only its owner may
write to; where that cannot be, it is built anew in every process. Without GCC, outside Linux, or
with ``VOLUNET_KERNELS=0``, there is no library, and PyTorch's operators do the work.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-fPIC")
TYPES = {
    torch.float32: ("-DREAL=float", "-DBITS=int32_t"),
    torch.float64: ("-DREAL=double", "-DBITS=int64_t"),
}
# How /proc/cpuinfo begins the line that tells kinds of processors apart.
CPU_ENTRIES = ("flags", "Features", "features", "isa", "cpu\t")
SECONDS = 120  # for the compiler, which takes two
DIGEST = hashlib.sha256().digest_size


class Unavailable(Exception):
    """Why there are no compiled loops, a sentence."""


def _compiler() -> list[str]:
    """The command of the C compiler."""
    if os.environ.get("VOLUNET_KERNELS") == "0":
        raise Unavailable("VOLUNET_KERNELS is 0.")
    if sys.platform != "linux":
        raise Unavailable(f"The compiled loops are for Linux, not for {sys.platform}.")
    try:
        command = shlex.split(os.environ.get("CC", "")) or ["gcc"]
    except ValueError as error:
        raise Unavailable(f"The variable CC is no command: {error}.") from error
    found = shutil.which(command[0])
    if found is None:
        raise Unavailable(f"There is no C compiler {command[0]!r}.")
    return [found, *command[1:]]


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"The C compiler {command[0]} does not run: {error}.") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        reason = lines[0] if lines else f"exit status {done.returncode}"
        raise Unavailable(f"The C compiler {command[0]} fails: {reason}.")
    return done.stdout


def _processor() -> str:
    """What ``-march=native`` depends on: a home folder may serve machines of several kinds."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as table:
            lines = (line for line in table if line.startswith(CPU_ENTRIES))
            return platform.machine() + next(lines, "")
    except OSError:
        return platform.machine()


def _build(compiler: list[str], types: tuple[str, ...], folder: Path) -> Path:
    """Compile and link in a folder."""
    built, linked = folder / "kernels.o", folder / "kernels.so"
    _run([*compiler, *FLAGS, *types, "-c", str(SOURCE), "-o", str(built)])
    # OpenMP stays open, for PyTorch's own: two pools of threads would fight for the cores.
    _run([*compiler, "-shared", str(built), "-o", str(linked)])
    return linked


def _is_whole(library: Path) -> bool:
    """Whether a kept library is as it was written: of half a one, the process would die."""
    try:
        content = library.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]


def _keep(built: Path, library: Path) -> None:
    """Copy a library to where it is kept, all or nothing, its digest behind it."""
    content = built.read_bytes()
    handle, name = tempfile.mkstemp(dir=library.parent, prefix="new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content + hashlib.sha256(content).digest())
        Path(name).replace(library)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _own_folder() -> Path | None:
    """Where libraries are kept; ``None`` if others could put theirs there."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "volunet"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except (OSError, RuntimeError):
        return None
    ours = state.st_uid == os.getuid() and not state.st_mode & 0o022
    return folder if ours and os.access(folder, os.W_OK) else None


@cache
def load(dtype: torch.dtype) -> ctypes.CDLL:
    """The library for numbers of a type.

    Raises:
        Unavailable: If there is none.
    """
    types = TYPES.get(dtype)
    if types is None:
        raise Unavailable(f"The compiled loops are not for {dtype}.")
    compiler = _compiler()
    parts = (SOURCE.read_text(encoding="utf-8"), *FLAGS, *types, *compiler, _processor())
    text = "\0".join((*parts, _run([*compiler, "--version"])))
    key = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    folder = _own_folder()
    kept = None if folder is None else folder / f"kernels-{key[:32]}.so"
    if kept is not None and _is_whole(kept):
        with suppress(OSError):  # nothing may run from that disk
            return ctypes.CDLL(str(kept))
    try:
        with tempfile.TemporaryDirectory() as name:
            built = _build(compiler, types, Path(name))
            library = ctypes.CDLL(str(built))
            # Another process may have been faster, and what it kept be in use by now.
            if kept is not None and not _is_whole(kept):
                with suppress(OSError):  # a full disk
                    _keep(built, kept)
            return library
    except OSError as error:
        raise Unavailable(f"The compiled loops cannot be loaded: {error}.") from error


@cache
def reason_without(dtype: torch.dtype) -> str | None:
    """Why there are no compiled loops for numbers of a type; ``None`` if there are."""
    try:
        load(dtype)
    except Unavailable as error:
        return str(error)
    return None
