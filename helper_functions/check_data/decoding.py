"""Every picture decoded as a run would decode it, in processes of their own."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from helper_functions.data.bands import Reading
from helper_functions.data.images import DEFAULT, ImageError, read_image

Look = Callable[[Path], "Picture"]

_CHUNK = 8  # pictures that travel to a process together


class Picture(NamedTuple):
    """What is in a file.

    Attributes:
        problem: Why it cannot be used, a clause; ``None`` for a good one.
        size: Width and height in pixels, as displayed.
        form: File format and mode, such as "JPEG RGB".
        digest: Hash of the decoded pixels.
    """

    problem: str | None
    size: tuple[int, int] = (0, 0)
    form: str = ""
    digest: bytes = b""


def inspect(path: Path, reading: Reading = DEFAULT) -> Picture:
    """Decode one file."""
    try:
        image = read_image(path, reading)
    except ImageError as error:
        return Picture(error.reason)
    except MemoryError:
        return Picture("there is not enough memory to decode it")
    digest = hashlib.blake2b(repr(image.size).encode(), digest_size=16)
    digest.update(image.tobytes())
    return Picture(None, image.size, _form(path), digest.digest())


def _form(path: Path) -> str:
    """Format and mode by the header; the extension where Pillow alone cannot tell."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return f"{image.format} {image.mode}"
    except Exception:  # The picture has been decoded: whatever this runs into is no fault of it.
        return path.suffix.lower().removeprefix(".")


def inspect_all(
    paths: Sequence[Path], workers: int, reading: Reading = DEFAULT
) -> Iterator[Picture]:
    """Decode files, in their order.

    A file that kills the process that decodes it (a fault in a decoder, or want of memory) is found
    and reported like any other; the rest goes on.

    Args:
        paths: The files.
        workers: Processes to share them.
        reading: How a run would read them.
    """
    look = partial(inspect, reading=reading)
    done = 0
    while done < len(paths):
        try:
            for picture in _in_processes(look, paths[done:], workers):
                done += 1
                yield picture
        except BrokenProcessPool:
            for picture in _up_to_the_killer(look, paths[done:]):
                done += 1
                yield picture


def _up_to_the_killer(look: Look, paths: Sequence[Path]) -> Iterator[Picture]:
    """Decode one file after the other until one kills its process."""
    with _processes(1) as executor:
        for path in paths:
            try:
                picture = executor.submit(look, path).result()
            except BrokenProcessPool:
                yield Picture("decoding it kills the process")
                return
            yield picture


def _in_processes(look: Look, paths: Sequence[Path], workers: int) -> Iterator[Picture]:
    executor = _processes(workers)
    try:
        yield from executor.map(look, paths, chunksize=_CHUNK)
    finally:
        executor.shutdown(cancel_futures=True)


def _processes(workers: int) -> ProcessPoolExecutor:
    # Spawned: forking a process that has imported PyTorch and its threads is not safe.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_process)


def _start_process() -> None:
    # Ctrl-C reaches every process of a terminal; the main one decides what becomes of the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
