"""Folder of decoded, resized images, so that every image is decoded once and not every epoch.

One file an image, in two levels of folders: uint8 (H, W, 3), then a trailer of four sizes. Entries
that cannot be used are ignored: a cache may save time, and that is all it may do.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import PIL
from PIL import Image
from tqdm import tqdm

from helper_functions.data.bands import ImageFormat
from helper_functions.data.images import DEFAULT, read_image
from helper_functions.data.transforms import Resize
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import make_folder, write_atomically

# Part of every key: to be raised when `read_image` reads any image differently, or entries change.
FORMAT_VERSION = 4
# Height and width of the entry and of its source. At the end: a file that lost its end lacks it.
_TRAILER = struct.Struct("<4I")
# Left free on the disk, as checkpoints have to fit: this much, or this share of it if that is less.
KEEP_FREE_BYTES = 4 * 2**30
KEEP_FREE_SHARE = 0.05


def open_cache(folder: Path | None) -> ImageCache | None:
    """Open the cache of ``--cache-dir``; ``None`` without one."""
    return None if folder is None else ImageCache(folder)


class ImageCache:
    """Reads images through a folder, created if need be; for any number of processes at once.

    An entry belongs to the path of its source, the source's size and modification time, and
    everything that decides its pixels.

    Raises:
        UserError: If the folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_folder(folder)
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UserError(
                f"The cache folder {folder} cannot be written to: {error.strerror}; choose another "
                f"--cache-dir, or leave it out."
            ) from error
        # In shared memory: when the disk is full, one process says so and all of them stop.
        # Without a lock, which a worker that is killed might hold for ever.
        self._storing = multiprocessing.RawValue("b", True)

    def read(
        self, path: Path, resize: Resize, image_format: ImageFormat = DEFAULT
    ) -> tuple[Image.Image, tuple[int, int]]:
        """Return ``resize(read_image(path, image_format))``, and height and width before.

        Raises:
            ImageError: As ``read_image`` does.
        """
        entry = self._entry(path, f"{resize} {image_format}")
        if entry is not None and (stored := _load(entry)) is not None:
            return stored
        image = read_image(path, image_format)
        size, image = (image.height, image.width), resize(image)
        if entry is not None and self._storing.value:
            self._store(entry, image, size)
        return image, size

    def _entry(self, path: Path, settings: str) -> Path | None:
        """Return where the entry of a source is; ``None`` for one that `read_image` will refuse."""
        try:
            source = path.stat()
        except (OSError, ValueError):
            return None
        settings = f"{FORMAT_VERSION} Pillow {PIL.__version__} {settings}"
        key = f"\0{settings} {source.st_size} {source.st_mtime_ns}".encode()
        name = hashlib.sha256(os.fsencode(path.absolute()) + key).hexdigest()
        return Path(f"{self.folder}/{name[:2]}/{name[2:4]}/{name[4:]}")

    def _store(self, entry: Path, image: Image.Image, size: tuple[int, int]) -> None:
        """Write an entry; if that fails, report it once and write no more."""
        content = image.tobytes() + _TRAILER.pack(image.height, image.width, *size)
        try:
            disk = shutil.disk_usage(self.folder)
            if disk.free < min(KEEP_FREE_BYTES, KEEP_FREE_SHARE * disk.total):
                return self._stop("the disk is nearly full, and checkpoints need what is left")
            entry.parent.mkdir(parents=True, exist_ok=True)
            # Unsynced: syncing takes longer than decoding.
            write_atomically(entry, lambda file: file.write(content), sync=False)
        except OSError as error:
            self._stop(error.strerror or str(error))

    def _stop(self, reason: str) -> None:
        if self._storing.value:
            self._storing.value = False
            tqdm.write(
                f"Note: the cache {self.folder} takes no more images ({reason}); the run goes on "
                f"with those that it has.",
                file=sys.stderr,
            )


def _load(entry: Path) -> tuple[Image.Image, tuple[int, int]] | None:
    """Read an entry; ``None`` if there is none, or it is damaged."""
    try:
        # Of so small a file a copy takes less time than mapping its pages into memory.
        with entry.open("rb", buffering=0) as file:
            content = memoryview(file.read())
        height, width, *size = _TRAILER.unpack(content[-_TRAILER.size :])
    except (OSError, struct.error):
        return None
    pixels = content[: -_TRAILER.size]
    if len(pixels) != 3 * height * width or not pixels or 0 in size:
        return None
    return Image.frombytes("RGB", (width, height), pixels), (size[0], size[1])
