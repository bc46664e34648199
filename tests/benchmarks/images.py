"""Time of making batches of images, compared with the released recipe's code. Prints ratios.

    python tests/benchmarks/images.py

Both run in one process on one thread, in turns, from the file to a float32 batch of 16. The
images are noise with the spectrum of photographs; the system's file cache holds them. glibc keeps
freed memory for both (`keep_freed_memory`), of which a plain loader worker would not profit.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

from plain_images import PlainDataset, plain_batches  # noqa: E402

from helper_functions.data.cache import ImageCache  # noqa: E402
from helper_functions.data.dataset import ImageDataset, Samples, collate  # noqa: E402
from helper_functions.data.transforms import (  # noqa: E402
    EvalTransform,
    TrainTransform,
    Transform,
)
from helper_functions.data.workers import keep_freed_memory  # noqa: E402

SIZE = 224
BATCH = 16
ROUNDS = 9
CPU = torch.device("cpu")


def photograph(width: int, height: int, seed: int) -> Image.Image:
    """Noise with the spectrum of photographs, so that it compresses about as they do."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    amplitude = np.maximum(frequency, 1 / max(width, height)) ** -1.2
    gray = rng.standard_normal((height, width))
    bands = []
    for _ in range(3):
        band = 0.8 * gray + 0.4 * rng.standard_normal((height, width))
        bands.append(np.fft.irfft2(np.fft.rfft2(band) * amplitude, s=(height, width)))
    values = np.stack(bands, axis=-1)
    values = (values - values.mean()) / values.std() * 50 + 110
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def write(folder: Path, size: tuple[int, int], suffix: str, count: int) -> list[Path]:
    """Images of a size and format; JPEG at quality 90, TIFF uncompressed."""
    paths = [folder / f"{size[0]}_{number}.{suffix}" for number in range(count)]
    for number, path in enumerate(paths):
        photograph(*size, number).save(path, quality=90)  # which the other formats ignore
    return paths


def ours(
    paths: list[Path], transform: Transform, cache: ImageCache | None = None
) -> Callable[[], None]:
    """Return one epoch of ours; every call is another one."""
    dataset = ImageDataset(Samples.from_paths(paths), transform, cache=cache)
    epochs = itertools.count()

    def run() -> None:
        epoch = next(epochs)
        for start in range(0, len(paths), BATCH):
            indices = range(start, min(start + BATCH, len(paths)))
            items = [dataset[epoch, index] for index in indices]
            collate(items, transform.normalize).to(CPU)

    return run


def plain(paths: list[Path], *, augment: bool) -> Callable[[], None]:
    """Return one epoch of the released pipeline."""
    dataset = PlainDataset(paths, SIZE, augment=augment)
    return lambda: plain_batches(dataset, BATCH)


def compare(
    name: str, ours: Callable[[], None], plain: Callable[[], None], images: tuple[int, int]
) -> None:
    """Print the median ratio of images a second; ``images``: how many a call, of each."""
    ours()
    plain()
    rates: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        pair = []
        for function, count in zip((ours, plain), images, strict=True):
            started = time.perf_counter()
            function()
            pair.append(count / (time.perf_counter() - started))
        rates.append((pair[0], pair[1]))
    ratio = statistics.median(first / second for first, second in rates)
    first, second = (statistics.median(column) for column in zip(*rates, strict=True))
    print(f"{name:44} {ratio:6.2f} x  ({first:.0f} against {second:.0f} images/s)", flush=True)


def main() -> None:
    """Write the images to a temporary folder and compare."""
    torch.set_num_threads(1)
    keep_freed_memory()
    train, evaluate = TrainTransform(SIZE), EvalTransform(SIZE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = ImageCache(folder / "cache")
        small = {suffix: write(folder, (304, 304), suffix, 48) for suffix in ("tif", "png", "jpg")}
        for suffix, paths in small.items():
            both = (len(paths), len(paths))
            title = f"304 x 304 {suffix}"
            compare(f"{title}, training", ours(paths, train), plain(paths, augment=True), both)
            compare(
                f"{title}, validation", ours(paths, evaluate), plain(paths, augment=False), both
            )
            cached = ours(paths, train, cache)
            compare(f"{title}, training, cached", cached, plain(paths, augment=True), both)
            compare(f"{title}, cached against not cached", cached, ours(paths, train), both)

        large, tiny = write(folder, (1920, 1080), "jpg", 16), write(folder, (224, 224), "jpg", 48)
        cached, both = ours(large, train, cache), (len(large), len(large))
        compare("1920 x 1080 jpg, training", ours(large, train), plain(large, augment=True), both)
        compare("1920 x 1080 jpg, training, cached", cached, plain(large, augment=True), both)
        compare("1920 x 1080 jpg, cached against not cached", cached, ours(large, train), both)
        compare(
            "1920 x 1080 jpg cached against 224 x 224 plain",
            cached,
            plain(tiny, augment=True),
            (len(large), len(tiny)),
        )


if __name__ == "__main__":
    main()
