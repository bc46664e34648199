"""A folder of decoded, resized pictures, so that every picture is decoded once and not every epoch.

One file a picture, in two levels of folders. A file is written under another name and then renamed,
and carries a checksum, without which it is not used. Whatever is wrong with it, the picture is read
from its source again: a cache may save time, and that is all it may do.
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

import imagecodecs
import PIL
from PIL import Image
from tqdm import tqdm

from helper_functions.data.bands import Reading
from helper_functions.data.images import DEFAULT, read_image
from helper_functions.data.transforms import Resize
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import make_folder, write_atomically

# Part of every key: to be raised when `read_image` reads any picture differently.
READING = 2
# Magic, key, checksum of key and pixels; then the pixels, (side, side, 3) uint8.
HEADER = struct.Struct("<8s32sI")
MAGIC = b"VoLUNet\n"
# Left free on the disk, as checkpoints have to fit: this much, or this share of it if that is less.
KEEP_FREE_BYTES = 4 * 2**30
KEEP_FREE_SHARE = 0.05


def open_cache(folder: Path | None) -> PictureCache | None:
    """The cache of ``--cache-dir``; ``None`` without one.

    Raises:
        UserError: If the folder cannot be made or written to.
    """
    return None if folder is None else PictureCache(folder)


class PictureCache:
    """Reads pictures through a folder; for any number of processes at once.

    An entry belongs to the path of its source, the source's size and modification time, and
    everything that decides its pixels. Of a source that has changed the entry is replaced.

    Args:
        folder: Where the entries are; created if need be.

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

    def read(self, path: Path, resize: Resize, reading: Reading = DEFAULT) -> Image.Image:
        """What ``resize(read_image(path, reading))`` gives, from the cache if it can be had there.

        Raises:
            ImageError: As ``read_image`` does.
        """
        try:
            source = path.stat()
        except (OSError, ValueError):
            return read_image(path, reading)  # It raises too, and says what is wrong.
        place = hashlib.sha256(os.fsencode(path.absolute()))
        place.update(f"\0{READING} Pillow {PIL.__version__} {resize} {reading}".encode())
        name = place.hexdigest()
        entry = Path(f"{self.folder}/{name[:2]}/{name[2:4]}/{name[4:]}")
        place.update(f"\0{source.st_size} {source.st_mtime_ns}".encode())
        key = place.digest()
        image = _load(entry, key, resize.side)
        if image is None:
            image = resize(read_image(path, reading))
            if self._storing.value:
                self._store(entry, key, image)
        return image

    def _store(self, entry: Path, key: bytes, image: Image.Image) -> None:
        """Write an entry; if that fails, say so once and write no more."""
        pixels = image.tobytes()
        header = HEADER.pack(MAGIC, key, _checksum(key, pixels))
        try:
            disk = shutil.disk_usage(self.folder)
            if disk.free < min(KEEP_FREE_BYTES, KEEP_FREE_SHARE * disk.total):
                self._stop("the disk is nearly full, and checkpoints need what is left")
                return
            entry.parent.mkdir(parents=True, exist_ok=True)
            # Unsynced: after a power failure the checksum tells, and syncing takes longer than
            # decoding.
            write_atomically(entry, lambda file: file.write(header + pixels), sync=False)
        except OSError as error:
            self._stop(error.strerror or str(error))

    def _stop(self, reason: str) -> None:
        if self._storing.value:
            self._storing.value = False
            tqdm.write(
                f"Note: the cache {self.folder} takes no more pictures ({reason}); the run goes on "
                f"with those that it has.",
                file=sys.stderr,
            )


def _load(entry: Path, key: bytes, side: int) -> Image.Image | None:
    """The picture of an entry; ``None`` if there is none, or it is out of date or damaged."""
    length = side * side * 3
    try:
        # Of so small a file a copy takes less time than mapping its pages into memory.
        with entry.open("rb", buffering=0) as file:
            header, pixels = file.read(HEADER.size), file.read(length + 1)
    except OSError:
        return None
    if len(pixels) != length:
        return None
    magic, found, checksum = HEADER.unpack(header)
    if magic != MAGIC or found != key or checksum != _checksum(key, pixels):
        return None
    return Image.frombytes("RGB", (side, side), pixels)


def _checksum(key: bytes, pixels: bytes) -> int:
    """CRC-32 of an entry; sure to find any damage within four bytes."""
    # zlib's, ten times as fast: libdeflate uses the processor's carry-less multiplication.
    checksum: int = imagecodecs.deflate_crc32(pixels, imagecodecs.deflate_crc32(key))
    return checksum
