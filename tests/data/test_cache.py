"""The image cache: the same pixels always, whatever happens to its files."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import time
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from PIL import Image

from helper_functions.data import cache as cache_module
from helper_functions.data.bands import ImageFormat
from helper_functions.data.cache import HEADER, ImageCache, open_cache
from helper_functions.data.dataset import EpochSampler, ImageDataset, NoTargets, make_loader
from helper_functions.data.images import ImageError, read_image
from helper_functions.data.transforms import EvalTransform, Resize, TrainTransform
from helper_functions.runtime.errors import UserError

SIDE = 16


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (30, 20), **options: Any) -> Path:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path, **options)
    return path


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


def expected(path: Path, resize: Resize) -> np.ndarray:
    return pixels(resize(read_image(path)))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "cache")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The sources that the cache had to decode."""
    paths: list[Path] = []

    def record(path: Path, reading: ImageFormat) -> Image.Image:
        paths.append(path)
        return read_image(path, reading)

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
    path, resize = draw(tmp_path / f"a.{suffix}", exif=exif), Resize(side, fast)
    for _ in range(3):
        np.testing.assert_array_equal(pixels(cache.read(path, resize)), expected(path, resize))
    assert decoded == [path]


def test_an_image_that_has_the_size_already(cache: ImageCache, tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", size=(SIDE, SIDE))
    for _ in range(2):
        np.testing.assert_array_equal(
            pixels(cache.read(path, Resize(SIDE))), pixels(read_image(path))
        )


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_without_a_cache(cache: ImageCache, tmp_path: Path, workers: int) -> None:
    paths = [draw(tmp_path / f"{seed}.png", seed) for seed in range(10)]
    for transform in (TrainTransform(SIDE, horizontal_flip=True), EvalTransform(SIDE)):
        loaders = [
            make_loader(
                ImageDataset(paths, NoTargets(10), transform, seed=3, cache=used),
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


def test_entries_lie_in_two_levels_of_folders(cache: ImageCache, tmp_path: Path) -> None:
    for seed in range(20):
        cache.read(draw(tmp_path / f"{seed}.png", seed), Resize(SIDE))
    places = [path.relative_to(cache.folder).parts for path in files(cache.folder)]
    assert len(places) == 20
    assert all([len(part) for part in place] == [2, 2, 60] for place in places)
    assert len({place[0] for place in places}) > 10


# --- what an entry belongs to


def test_a_changed_source_is_read_again(
    cache: ImageCache, tmp_path: Path, decoded: list[Path]
) -> None:
    path, resize = tmp_path / "a.bmp", Resize(SIDE)  # of equal length, whatever the pixels
    for seed in range(3):
        draw(path, seed)
        os.utime(path, ns=(0, 10**18 + seed))  # a nanosecond later
        for _ in range(2):
            np.testing.assert_array_equal(pixels(cache.read(path, resize)), expected(path, resize))
    draw(path, seed=4, size=(31, 20))
    os.utime(path, ns=(0, 10**18 + 2))  # another length, but not another time
    np.testing.assert_array_equal(pixels(cache.read(path, resize)), expected(path, resize))
    assert len(decoded) == 4
    assert len(files(cache.folder)) == 1  # the old ones are replaced


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
                found = pixels(cache.read(path, resize))
                np.testing.assert_array_equal(found, expected(path, resize))
    assert len(decoded) == 6
    for name in ("READING", "PIL.__version__"):  # other ways to read
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


def entry_of(cache: ImageCache, path: Path, resize: Resize) -> Path:
    cache.read(path, resize)
    (entry,) = files(cache.folder)
    return entry


def test_any_damaged_byte_is_found_and_mended(
    cache: ImageCache, tmp_path: Path, decoded: list[Path]
) -> None:
    path, resize = draw(tmp_path / "a.png"), Resize(SIDE)
    entry = entry_of(cache, path, resize)
    good = entry.read_bytes()
    assert len(good) == HEADER.size + SIDE * SIDE * 3
    wanted = expected(path, resize)
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        entry.write_bytes(bad)
        np.testing.assert_array_equal(pixels(cache.read(path, resize)), wanted)
        assert entry.read_bytes() == good
    assert len(decoded) == 1 + len(good)


def test_the_checksum_is_the_crc_of_key_and_pixels(cache: ImageCache, tmp_path: Path) -> None:
    content = entry_of(cache, draw(tmp_path / "a.png"), Resize(SIDE)).read_bytes()
    _, key, checksum = HEADER.unpack_from(content)
    assert checksum == zlib.crc32(key + content[HEADER.size :])


@pytest.mark.parametrize("length", [0, 1, HEADER.size - 1, HEADER.size, HEADER.size + 100, -1])
def test_torn_entries_are_mended(cache: ImageCache, tmp_path: Path, length: int) -> None:
    path, resize = draw(tmp_path / "a.png"), Resize(SIDE)
    entry = entry_of(cache, path, resize)
    good = entry.read_bytes()
    for bad in (good[:length], good[:length] + bytes(len(good) - len(good[:length])), good * 2):
        entry.write_bytes(bad)
        np.testing.assert_array_equal(pixels(cache.read(path, resize)), expected(path, resize))
        assert entry.read_bytes() == good


def test_an_entry_in_the_place_of_another_is_not_taken(cache: ImageCache, tmp_path: Path) -> None:
    first, second, resize = draw(tmp_path / "a.png", 1), draw(tmp_path / "b.png", 2), Resize(SIDE)
    entry = entry_of(cache, first, resize)
    cache.read(second, resize)
    (other,) = set(files(cache.folder)) - {entry}
    shutil.copy(other, entry)
    np.testing.assert_array_equal(pixels(cache.read(first, resize)), expected(first, resize))


def test_pickles_are_not_opened(cache: ImageCache, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    path, resize = draw(tmp_path / "a.png"), Resize(SIDE)
    entry = entry_of(cache, path, resize)
    entry.write_bytes(pickle.dumps(Trap()))
    np.testing.assert_array_equal(pixels(cache.read(path, resize)), expected(path, resize))
    assert not (tmp_path / "sprung").exists()


def test_a_folder_in_the_place_of_an_entry(
    cache: ImageCache, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, resize = draw(tmp_path / "a.png"), Resize(SIDE)
    entry = entry_of(cache, path, resize)
    entry.unlink()
    entry.mkdir()
    for _ in range(2):
        np.testing.assert_array_equal(pixels(cache.read(path, resize)), expected(path, resize))
    assert capfd.readouterr().err.count("takes no more images") == 1


# --- unreadable images


@pytest.mark.parametrize("content", [None, b"", b"no image", "half"])
def test_unreadable_images_are_reported_as_without_a_cache(
    cache: ImageCache, tmp_path: Path, content: bytes | str | None
) -> None:
    path = tmp_path / "a.png"
    if content == "half":
        whole = draw(path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ImageError) as plain:
        read_image(path)
    for _ in range(2):
        with pytest.raises(ImageError) as cached:
            cache.read(path, Resize(SIDE))
        assert str(cached.value) == str(plain.value)
    dataset = ImageDataset([path], NoTargets(1), EvalTransform(SIDE), cache=cache)
    assert str(dataset[0, 0]) == str(plain.value)
    assert files(cache.folder) == []


def test_an_image_that_is_gone_is_reported(cache: ImageCache, tmp_path: Path) -> None:
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
    opened = open_cache(tmp_path / "a" / "b")
    assert opened is not None
    assert (tmp_path / "a" / "b").is_dir()
    assert files(tmp_path) == []


def test_a_file_is_no_cache_folder(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(UserError, match=rf"folder {folder} cannot be created: "):
            ImageCache(folder)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match=rf"cache folder {tmp_path} cannot be written to: "):
        ImageCache(tmp_path)


def test_a_folder_that_takes_no_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> BinaryIO:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    message = (
        rf"cache folder {tmp_path} cannot be written to: Read-only file system; choose another"
    )
    with pytest.raises(UserError, match=message):
        ImageCache(tmp_path)


def test_a_write_that_fails_is_told_once_and_stops_nothing(
    cache: ImageCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    paths, resize = [draw(tmp_path / f"{seed}.png", seed) for seed in range(4)], Resize(SIDE)
    cache.read(paths[0], resize)
    (kept,) = files(cache.folder)

    def fill(path: Path, _write: object, **_: object) -> None:
        path.with_name("part").write_bytes(b"torn")
        path.with_name("part").unlink()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "write_atomically", fill)
        for path in paths:
            np.testing.assert_array_equal(pixels(cache.read(path, resize)), expected(path, resize))
    cache.read(paths[3], resize)  # there is room again, but the run has given up
    assert files(cache.folder) == [kept]
    told = capfd.readouterr().err
    assert told.count("\n") == 1
    assert f"the cache {cache.folder} takes no more images (No space left on device)" in told


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
    told = capfd.readouterr().err.count("the disk is nearly full")
    assert told == (0 if stored else 1)


def test_a_folder_that_is_removed_stops_nothing(
    cache: ImageCache, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, resize = draw(tmp_path / "a.png"), Resize(SIDE)
    cache.read(path, resize)
    shutil.rmtree(cache.folder)
    for _ in range(2):
        np.testing.assert_array_equal(pixels(cache.read(path, resize)), expected(path, resize))
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
    told = capfd.readouterr().err
    assert told.count("takes no more images") == 1
    assert "(a reason)" in told


def _read_often(folder: Path, paths: list[Path], wanted: list[np.ndarray], seconds: float) -> None:
    cache, resize = ImageCache(folder), Resize(SIDE)
    end = time.monotonic() + seconds
    rng = np.random.default_rng(os.getpid())
    while time.monotonic() < end:
        index = int(rng.integers(len(paths)))
        if rng.random() < 0.3:  # so that both write the same entries over and over
            for entry in files(folder):
                if not entry.name.startswith("."):
                    entry.unlink(missing_ok=True)
        np.testing.assert_array_equal(pixels(cache.read(paths[index], resize)), wanted[index])


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    paths = [draw(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    wanted = [expected(path, Resize(SIDE)) for path in paths]
    folder = tmp_path / "cache"
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_read_often, args=(folder, paths, wanted, 3.0)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert all(not path.name.startswith(".") for path in files(folder))  # nothing half-written
    cache = ImageCache(folder)
    for path, values in zip(paths, wanted, strict=True):
        np.testing.assert_array_equal(pixels(cache.read(path, Resize(SIDE))), values)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_killed_writer_leaves_nothing_wrong(tmp_path: Path) -> None:
    paths = [draw(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    wanted = [expected(path, Resize(SIDE)) for path in paths]
    folder = tmp_path / "cache"
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_read_often, args=(folder, paths, wanted, 60.0))
    process.start()
    while not (folder.is_dir() and files(folder)):
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    cache = ImageCache(folder)
    for _ in range(2):
        for path, values in zip(paths, wanted, strict=True):
            np.testing.assert_array_equal(pixels(cache.read(path, Resize(SIDE))), values)
