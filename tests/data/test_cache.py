"""The image cache: the same pixels always, whatever happens to its files."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from PIL import Image

from helper_functions.data import cache as cache_module
from helper_functions.data.bands import ImageFormat
from helper_functions.data.cache import ImageCache, open_cache
from helper_functions.data.dataset import ImageDataset, Samples, make_loader
from helper_functions.data.images import ImageError, read_image
from helper_functions.data.sampler import EpochSampler
from helper_functions.data.transforms import EvalTransform, Resize, TrainTransform
from helper_functions.runtime.errors import UserError

SIDE = 16


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (30, 20), **options: Any) -> Path:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path, **options)
    return path


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def check(cache: ImageCache, path: Path, resize: Resize | None = None) -> None:
    """The cache gives what reading gives."""
    resize = resize or Resize(SIDE)
    source = read_image(path)
    image, size = cache.read(path, resize)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(resize(source)))
    assert size == (source.height, source.width)


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "cache")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The sources that the cache had to decode."""
    paths: list[Path] = []

    def record(path: Path, image_format: ImageFormat) -> Image.Image:
        paths.append(path)
        return read_image(path, image_format)

    monkeypatch.setattr(cache_module, "read_image", record)
    return paths


# --- pixels


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("side", [1, SIDE, 50])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_pixels_are_those_without_a_cache(
    cache: ImageCache, tmp_path: Path, decoded: list[Path], suffix: str, side: int, fast: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    path = draw(tmp_path / f"a.{suffix}", exif=exif)
    for _ in range(3):
        check(cache, path, Resize(side, fast))
    assert decoded == [path]


def test_entries_may_have_any_size(cache: ImageCache, tmp_path: Path, decoded: list[Path]) -> None:
    class Keep(Resize):
        def __call__(self, image: Image.Image) -> Image.Image:
            return image

    for seed, size in enumerate([(30, 20), (7, 40), (1, 1)]):
        path = draw(tmp_path / f"{seed}.png", seed, size)
        for _ in range(2):
            check(cache, path, Keep(SIDE))
    assert len(decoded) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_without_a_cache(cache: ImageCache, tmp_path: Path, workers: int) -> None:
    samples = Samples.from_paths([draw(tmp_path / f"{seed}.png", seed) for seed in range(10)])
    for transform in (TrainTransform(SIDE, horizontal_flip=True), EvalTransform(SIDE)):
        loaders = [
            make_loader(
                ImageDataset(samples, transform, seed=3, cache=used),
                batch_size=4,
                workers=workers,
                shuffle=True,
            )
            for used in (None, cache)
        ]
        for epoch in range(3):
            for loader in loaders:
                assert isinstance(loader.sampler, EpochSampler)
                loader.sampler.set_position(epoch)
            for plain, cached in zip(*loaders, strict=True):
                assert torch.equal(plain.images, cached.images)
    assert len(files(cache.folder)) == 20


# --- what an entry belongs to


def test_a_changed_source_is_read_again(
    cache: ImageCache, tmp_path: Path, decoded: list[Path]
) -> None:
    path = tmp_path / "a.bmp"  # of equal length, whatever the pixels
    for seed in range(3):
        draw(path, seed)
        os.utime(path, ns=(0, 10**18 + seed))  # a nanosecond later
        for _ in range(2):
            check(cache, path)
    draw(path, seed=4, size=(31, 20))
    os.utime(path, ns=(0, 10**18 + 2))  # another length, but not another time
    check(cache, path)
    assert len(decoded) == 4


def test_settings_and_paths_do_not_mix(
    cache: ImageCache, tmp_path: Path, decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = draw(tmp_path / "a.bmp", 1), draw(tmp_path / "b.bmp", 2)
    for path in (first, second):
        os.utime(path, ns=(0, 10**18))
    resizes = [Resize(SIDE), Resize(SIDE, fast=True), Resize(SIDE + 1)]
    for _ in range(2):
        for path in (first, second):
            for resize in resizes:
                check(cache, path, resize)
    assert len(decoded) == 6
    for name in ("FORMAT_VERSION", "PIL.__version__"):
        monkeypatch.setattr(f"helper_functions.data.cache.{name}", "another")
        cache.read(first, resizes[0])
    assert len(decoded) == 8
    assert len(files(cache.folder)) == 8


def test_relative_and_absolute_paths_are_the_same_source(
    cache: ImageCache, tmp_path: Path, decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = draw(tmp_path / "a.png")
    cache.read(path, Resize(SIDE))
    monkeypatch.chdir(tmp_path)
    cache.read(Path("a.png"), Resize(SIDE))
    assert decoded == [path]


# --- damage


def test_torn_entries_are_replaced(cache: ImageCache, tmp_path: Path, decoded: list[Path]) -> None:
    path = draw(tmp_path / "a.png")
    check(cache, path)
    (entry,) = files(cache.folder)
    good = entry.read_bytes()
    cut = [good[:length] for length in (0, 1, 15, 16, 17, len(good) - 16, len(good) - 1)]
    torn = [*cut, *(part.ljust(len(good), b"\0") for part in cut[:-1]), good * 2]
    for bad in torn:
        entry.write_bytes(bad)
        check(cache, path)
        assert entry.read_bytes() == good
    assert len(decoded) == 1 + len(torn)


def test_a_folder_where_an_entry_should_be(
    cache: ImageCache, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = draw(tmp_path / "a.png")
    check(cache, path)
    (entry,) = files(cache.folder)
    entry.unlink()
    entry.mkdir()
    for _ in range(2):
        check(cache, path)
    assert capfd.readouterr().err.count("takes no more images") == 1


@pytest.mark.parametrize("content", [None, b"", b"no image", "half"])
def test_unreadable_images_are_reported_as_without_a_cache(
    cache: ImageCache, tmp_path: Path, content: bytes | str | None
) -> None:
    path = tmp_path / "a.png"
    if content == "half":
        intact = draw(path).read_bytes()
        path.write_bytes(intact[: len(intact) // 2])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ImageError) as plain:
        read_image(path)
    for _ in range(2):
        with pytest.raises(ImageError) as cached:
            cache.read(path, Resize(SIDE))
        assert str(cached.value) == str(plain.value)
    assert files(cache.folder) == []


def test_an_image_that_has_been_removed_is_reported(cache: ImageCache, tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png")
    cache.read(path, Resize(SIDE))
    path.unlink()
    with pytest.raises(ImageError, match="there is no such file"):
        cache.read(path, Resize(SIDE))
    with pytest.raises(ImageError, match="null"):
        cache.read(Path("a\0b.png"), Resize(SIDE))


# --- folders and disks


def test_no_folder_no_cache(tmp_path: Path) -> None:
    assert open_cache(None) is None
    assert open_cache(tmp_path / "a" / "b") is not None
    assert (tmp_path / "a" / "b").is_dir()
    assert files(tmp_path) == []


def test_folders_that_cannot_serve_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").touch()
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(UserError, match=rf"folder {folder} cannot be created: "):
            ImageCache(folder)

    def refuse(**_: object) -> BinaryIO:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    message = rf"cache folder {tmp_path} cannot be written to: Read-only file system; choose"
    with pytest.raises(UserError, match=message):
        ImageCache(tmp_path)


def test_a_write_that_fails_is_reported_once_and_stops_nothing(
    cache: ImageCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    paths = [draw(tmp_path / f"{seed}.png", seed) for seed in range(4)]
    check(cache, paths[0])
    (kept,) = files(cache.folder)

    def fill(_path: Path, _write: object, **_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "write_atomically", fill)
        for path in paths:
            check(cache, path)
    check(cache, paths[3])  # there is room again, but the run has given up
    assert files(cache.folder) == [kept]
    errors = capfd.readouterr().err
    assert errors.count("\n") == 1
    assert f"the cache {cache.folder} takes no more images (No space left on device)" in errors


@pytest.mark.parametrize(
    ("total", "free", "stored"),
    [
        (10**12, 5 * 2**30, True),
        (10**12, 4 * 2**30 - 1, False),
        (2**30, 2**30 // 19, True),
        (2**30, 2**30 // 21, False),
    ],
)
def test_room_is_left_for_checkpoints(
    cache: ImageCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    total: int,
    free: int,
    stored: bool,
) -> None:
    usage = type(shutil.disk_usage(tmp_path))(total, total - free, free)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: usage)
    for seed in range(2):
        cache.read(draw(tmp_path / f"{seed}.png", seed), Resize(SIDE))
    assert len(files(cache.folder)) == (2 if stored else 0)
    notes = capfd.readouterr().err.count("the disk is nearly full")
    assert notes == (0 if stored else 1)


def test_a_folder_that_is_removed_stops_nothing(
    cache: ImageCache, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = draw(tmp_path / "a.png")
    check(cache, path)
    shutil.rmtree(cache.folder)
    for _ in range(2):
        check(cache, path)
    assert capfd.readouterr().err.count("takes no more images") == 1


# --- several processes


def _give_up(cache: ImageCache) -> None:
    cache._stop("a reason")


def test_when_one_process_gives_up_all_do(
    cache: ImageCache, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_give_up, args=(cache,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    cache.read(draw(tmp_path / "a.png"), Resize(SIDE))
    cache._stop("another reason")
    assert files(cache.folder) == []
    errors = capfd.readouterr().err
    assert errors.count("takes no more images") == 1
    assert "(a reason)" in errors


def _read_often(folder: Path, paths: list[Path], seconds: float) -> None:
    cache, rng = ImageCache(folder), np.random.default_rng(os.getpid())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if rng.random() < 0.3:  # so that all write the same entries over and over
            for entry in files(folder):
                if not entry.name.startswith("."):
                    entry.unlink(missing_ok=True)
        check(cache, paths[rng.integers(len(paths))])


def test_processes_share_a_folder_and_may_be_killed(tmp_path: Path) -> None:
    paths = [draw(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    folder, context = tmp_path / "cache", multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_read_often, args=(folder, paths, seconds))
        for seconds in (3.0, 3.0, 60.0)
    ]
    for process in processes:
        process.start()
    for process in processes[:2]:
        process.join(60)
    processes[2].kill()
    processes[2].join(60)
    assert [process.exitcode for process in processes[:2]] == [0, 0]
    cache = ImageCache(folder)
    for _ in range(2):
        for path in paths:
            check(cache, path)
