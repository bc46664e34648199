"""Batches: targets, order, repeatability, unreadable images."""

from __future__ import annotations

import importlib
import platform
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from torch import Tensor

from helper_functions.data.cache import ImageCache
from helper_functions.data.dataset import (
    Batch,
    EpochSampler,
    ImageDataset,
    MultiHotTargets,
    NoTargets,
    image_paths,
    make_loader,
)
from helper_functions.data.splits import Sample
from helper_functions.data.transforms import EvalTransform, TrainTransform
from helper_functions.runtime.errors import UserError

# torchvision ships no types, so it is imported by name.
to_tensor = importlib.import_module("torchvision.transforms.functional").to_tensor

SAMPLES = [
    Sample("a.png", ("x",), "train", 2),
    Sample("b.png", ("z", "x"), "train", 3),
    Sample("c.png", (), "train", 4),
]


def _images(folder: Path, count: int) -> list[Path]:
    paths = []
    for number in range(count):
        paths.append(folder / f"{number}.png")
        Image.new("RGB", (10, 8), (number * 20, 255 - number * 20, 60)).save(paths[-1])
    return paths


def _batches(
    dataset: ImageDataset, epoch: int, start: int = 0, workers: int = 0, batch_size: int = 3
) -> list[Batch]:
    loader = make_loader(dataset, batch_size=batch_size, workers=workers, shuffle=True)
    assert isinstance(loader.sampler, EpochSampler)
    loader.sampler.set_position(epoch, start)
    return list(loader)


def test_multi_hot_targets() -> None:
    targets = MultiHotTargets(SAMPLES, ["x", "y", "z"], Path("s.csv"))
    expected = [[1, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert [target.tolist() for target in targets] == expected
    assert targets.matrix().tolist() == expected


def test_labels_the_model_does_not_know_are_named() -> None:
    with pytest.raises(UserError, match=r"s\.csv, line 3: .* class 'z'"):
        MultiHotTargets(SAMPLES, ["x", "y"], Path("s.csv"))


def test_epochs_come_in_orders_of_their_own_without_loss() -> None:
    sampler = EpochSampler(50, shuffle=True, seed=3)
    orders = []
    for epoch in range(3):
        sampler.set_position(epoch)
        keys = list(sampler)
        assert {key[0] for key in keys} == {epoch}
        orders.append([key[1] for key in keys])
        assert sorted(orders[-1]) == list(range(50))
    assert orders[0] != orders[1] != orders[2]
    sampler.set_position(1, start=20)
    assert [key[1] for key in sampler] == orders[1][20:]
    assert len(sampler) == 30


def test_batches_depend_on_seed_and_epoch_but_not_on_workers(tmp_path: Path) -> None:
    paths = _images(tmp_path, 8)
    dataset = ImageDataset(paths, NoTargets(8), TrainTransform(32), seed=1)
    reference = _batches(dataset, epoch=2)
    with_workers = _batches(dataset, epoch=2, workers=2)
    for batch, other in zip(reference, with_workers, strict=True):
        assert torch.equal(batch.images, other.images)
    resumed = _batches(dataset, epoch=2, start=3)
    for batch, other in zip(reference[1:], resumed, strict=True):
        assert torch.equal(batch.images, other.images)
    changed_epoch = _batches(dataset, epoch=3)
    assert not torch.equal(reference[0].images, changed_epoch[0].images)
    other_seed = ImageDataset(paths, NoTargets(8), TrainTransform(32), seed=2)
    assert not torch.equal(reference[0].images, _batches(other_seed, epoch=2)[0].images)


def test_every_image_gets_a_generator_of_its_own(tmp_path: Path) -> None:
    class Draw(EvalTransform):
        def __call__(self, image: Image.Image, rng: random.Random | None = None) -> Tensor:
            assert rng is not None
            return torch.tensor([image.width + rng.random()])

    dataset = ImageDataset(_images(tmp_path, 8), NoTargets(8), Draw(4))
    drawn = torch.cat([batch.images for batch in _batches(dataset, epoch=0)])
    assert len(set(drawn.flatten().tolist())) == 8


def test_unreadable_images_travel_as_sentences(tmp_path: Path) -> None:
    paths = _images(tmp_path, 4)
    paths[2].write_bytes(b"no image")
    dataset = ImageDataset(paths, NoTargets(4), EvalTransform(16))
    batches = _batches(dataset, epoch=0, batch_size=4)
    assert batches[0].images.shape == (3, 3, 16, 16)
    assert batches[0].images.dtype == torch.uint8
    assert len(batches[0].failures) == 1
    assert str(paths[2]) in batches[0].failures[0]


def test_a_batch_of_unreadable_images_is_empty(tmp_path: Path) -> None:
    dataset = ImageDataset([tmp_path / "none.png"], NoTargets(1), EvalTransform(16))
    batch = _batches(dataset, epoch=0)[0]
    assert len(batch.images) == 0
    assert len(batch.failures) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_become_normalized_floats_on_their_device(tmp_path: Path, workers: int) -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    dataset = ImageDataset(_images(tmp_path, 3), NoTargets(3), EvalTransform(16, mean, std))
    loader = make_loader(dataset, batch_size=3, workers=workers)
    (batch,) = [batch.to(torch.device("cpu")) for batch in loader]
    for number, image in enumerate(batch.images):
        color = torch.tensor([number * 20, 255 - number * 20, 60]) / 255
        expected = (color - torch.tensor(mean)) / torch.tensor(std)
        torch.testing.assert_close(image, expected.view(3, 1, 1).expand(3, 16, 16))
    again = batch.to(torch.device("cpu"))  # what is float already stays as it is
    assert torch.equal(again.images, batch.images)


@pytest.mark.parametrize("cached", [False, True])
def test_the_model_gets_what_torchvision_makes_of_an_image(tmp_path: Path, cached: bool) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, pixels in zip(paths, values, strict=True):
        Image.fromarray(pixels).save(path)
    cache = ImageCache(tmp_path / "cache") if cached else None
    dataset = ImageDataset(paths, NoTargets(3), EvalTransform(16), cache=cache)
    for _ in range(2):
        (batch,) = make_loader(dataset, batch_size=3, workers=0)
        images = batch.to(torch.device("cpu")).images
        assert images.is_contiguous()
        assert torch.equal(images, torch.stack([to_tensor(pixels) for pixels in values]))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so")
def test_freed_memory_is_kept() -> None:
    # In a process of its own: whether memory is kept depends on what was freed before.
    script = """
import resource, sys
import numpy as np
from helper_functions.data.workers import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    images = [np.ones(300_000) for _ in range(16)]  # 37 MiB, 9,400 pages
    del images
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        way: int(
            subprocess.run(
                [sys.executable, "-c", script, way], capture_output=True, check=True, cwd=ROOT
            ).stdout
        )
        for way in ("keep", "give")
    }
    assert 10 * faults["keep"] + 10 < faults["give"]


def test_missing_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"2 of 3 images .* line 3: .*b\.png: there is no such"):
        image_paths(SAMPLES, tmp_path, Path("s.csv"))
    assert len(image_paths(SAMPLES, tmp_path, Path("s.csv"), unreadable_allowed=2)) == 3
    with pytest.raises(UserError, match=r"folder .*nowhere does not exist; check --img_dir"):
        image_paths(SAMPLES, tmp_path / "nowhere", Path("s.csv"))
