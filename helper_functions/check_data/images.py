"""Checks of the image files: unreadable ones, one image under several names."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from helper_functions.check_data.findings import Findings
from helper_functions.data.bands import ImageFormat
from helper_functions.data.folders import find_images
from helper_functions.data.images import DEFAULT, ImageError, read_image, without_limit
from helper_functions.data.splits import TWO_SPLITS, Sample
from helper_functions.runtime.lookalikes import contrast

_BATCH = 4096  # files handed to the processes together


class DecodedImage(NamedTuple):
    """What is known of a file after decoding it."""

    problem: str | None  # why it cannot be used, a clause
    size: tuple[int, int] = (0, 0)  # width and height in pixels, as displayed
    format: str = ""  # file format and mode, such as "JPEG RGB"
    digest: bytes = b""  # hash of the decoded pixels


def decode(path: Path, image_format: ImageFormat = DEFAULT) -> DecodedImage:
    """Decode one file as a run would."""
    try:
        image = read_image(path, image_format)
    except ImageError as error:
        return DecodedImage(error.reason)
    except MemoryError:
        return DecodedImage("there is not enough memory to decode it")
    digest = hashlib.blake2b(repr(image.size).encode(), digest_size=16)
    digest.update(image.tobytes())
    return DecodedImage(None, image.size, _format(path), digest.digest())


def _format(path: Path) -> str:
    """Format and mode by the header; the extension where Pillow alone cannot tell."""
    try:
        with warnings.catch_warnings(), without_limit():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return f"{image.format} {image.mode}"
    except Exception:  # The image has been decoded, so this is no fault of it.
        return path.suffix.lower().removeprefix(".")


def decode_all(
    paths: Sequence[Path], workers: int, image_format: ImageFormat = DEFAULT
) -> Iterator[DecodedImage]:
    """Decode files in processes, in their order.

    Once a process has died (mostly for want of memory), one process does the rest, so that the file
    that ends it is known.
    """
    done = 0
    while done < len(paths):
        executor = ProcessPoolExecutor(
            workers,
            # Forking a process that has imported PyTorch and its threads is not safe.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_process,
        )
        try:
            for start in range(done, len(paths), _BATCH):
                batch = paths[start : start + _BATCH]
                for image in executor.map(partial(decode, image_format=image_format), batch):
                    done += 1
                    yield image
        except BrokenProcessPool:
            if workers == 1:
                done += 1
                yield DecodedImage("decoding it kills the process")
            workers = 1
        finally:
            executor.shutdown(cancel_futures=True)


def _start_process() -> None:
    # Ctrl-C reaches every process of a terminal; the main one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def check_files(
    samples: Sequence[Sample], images: Mapping[str, DecodedImage], findings: Findings
) -> None:
    """Find unreadable files; in the split test, which training does not open, they are notes."""
    for sample in samples:
        problem = images[sample.filename].problem
        if problem is None:
            continue
        sentence = f"Line {sample.line}: {sample.filename!r} cannot be read: {problem}."
        if sample.split == "test":
            findings.note("unreadable-test-image", sentence)
        else:
            findings.fault("unreadable-image", sentence)


def check_folder(img_dir: Path, named: Collection[Path], findings: Findings) -> None:
    """Note files of the folder that cannot be used and that no row names."""
    found = find_images(img_dir)
    unread = [path for path in found.unread if path not in named]
    dangling = [path for path in found.dangling if path not in named]
    for note in found._replace(unread=unread, dangling=dangling).notes():
        findings.note("left-out-files", note)


def check_contents(
    samples: Sequence[Sample], images: Mapping[str, DecodedImage], findings: Findings
) -> None:
    """Find one image under several names, in two splits (a fault) or in one (a note)."""
    first_seen: dict[bytes, Sample] = {}
    for sample in samples:
        digest = images[sample.filename].digest
        earlier = first_seen.setdefault(digest, sample)
        if not digest or earlier.filename == sample.filename:
            continue
        name, other = contrast(sample.filename, earlier.filename)
        same = (
            f"Line {sample.line}: {name} has the same pixels as the image of line "
            f"{earlier.line}, {other}"
        )
        if earlier.split != sample.split:
            two = f"but the splits are {sample.split} and {earlier.split}"
            findings.fault(TWO_SPLITS, f"{same}, {two}; an image belongs to one split.")
        else:
            differ = set(earlier.labels) != set(sample.labels)
            labels = ", with other labels" if differ else ", with the same labels"
            labels = labels if earlier.labels or sample.labels else ""
            findings.note("image-under-two-names", f"{same}{labels}.")
