"""Batches: targets, sizes, repeatability, unreadable images."""

from __future__ import annotations

import importlib
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helper_functions.data.bands import ImageFormat
from helper_functions.data.cache import ImageCache
from helper_functions.data.dataset import (
    Batch,
    ImageDataset,
    Item,
    Samples,
    check_images,
    collate,
    make_loader,
)
from helper_functions.data.images import DEFAULT, ImageError
from helper_functions.data.sampler import EpochSampler
from helper_functions.data.targets import Target
from helper_functions.data.transforms import EvalTransform, Normalize, TrainTransform
from helper_functions.runtime.errors import UserError

# torchvision ships no types, so it is imported by name.
to_tensor = importlib.import_module("torchvision.transforms.functional").to_tensor

CPU = torch.device("cpu")


def _images(folder: Path, count: int, targets: Sequence[Target] | None = None) -> Samples:
    """Images of 10 x 8, each of a color of its own."""
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (10, 8), (number * 20, 255 - number * 20, 60)).save(path)
    return Samples.from_paths(paths, targets)


def _batches(
    dataset: ImageDataset, epoch: int, start: int = 0, workers: int = 0, batch_size: int = 3
) -> list[Batch]:
    loader = make_loader(dataset, batch_size=batch_size, workers=workers, shuffle=True)
    assert isinstance(loader.sampler, EpochSampler)
    loader.sampler.set_position(epoch, start)
    return list(loader)


def test_batches_depend_on_seed_and_epoch_but_not_on_workers(tmp_path: Path) -> None:
    samples = _images(tmp_path, 8)
    dataset = ImageDataset(samples, TrainTransform(32), seed=1)
    reference = _batches(dataset, epoch=2)
    with_workers = _batches(dataset, epoch=2, workers=2)
    for batch, other in zip(reference, with_workers, strict=True):
        assert torch.equal(batch.images, other.images)
    resumed = _batches(dataset, epoch=2, start=3)
    for batch, other in zip(reference[1:], resumed, strict=True):
        assert torch.equal(batch.images, other.images)
    changed_epoch = _batches(dataset, epoch=3)
    assert not torch.equal(reference[0].images, changed_epoch[0].images)
    other_seed = ImageDataset(samples, TrainTransform(32), seed=2)
    assert not torch.equal(reference[0].images, _batches(other_seed, epoch=2)[0].images)


def test_every_image_gets_a_generator_of_its_own(tmp_path: Path) -> None:
    class Draw(EvalTransform):
        def __call__(
            self, image: Image.Image, target: Target = None, rng: random.Random | None = None
        ) -> tuple[Tensor, Target]:
            assert rng is not None
            return torch.full((3, 1, 1), image.width + rng.random()), target

    dataset = ImageDataset(_images(tmp_path, 8), Draw(4))
    drawn = torch.cat([batch.images[:, 0] for batch in _batches(dataset, epoch=0)])
    assert len(set(drawn.flatten().tolist())) == 8


def test_a_repeated_image_is_augmented_again(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    dataset = ImageDataset(Samples.from_paths([tmp_path / "a.png"]), TrainTransform(32), seed=1)
    images = []
    for key in ((0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 1)):
        item = dataset[key]
        assert isinstance(item, Item)
        images.append(item.image)
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[1], images[2])
    assert torch.equal(images[1], images[3])


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_travel_as_sentences(tmp_path: Path, workers: int) -> None:
    samples = _images(tmp_path, 4, [torch.tensor([float(index)]) for index in range(4)])
    samples.paths[2].write_bytes(b"no image")
    dataset = ImageDataset(samples, EvalTransform(16))
    (batch,) = make_loader(dataset, batch_size=4, workers=workers)
    assert batch.images.shape == (3, 3, 16, 16)
    assert batch.images.dtype == torch.uint8
    assert batch.indices == [0, 1, 3]
    assert batch.files == ["0.png", "1.png", "3.png"]
    assert batch.targets.tolist() == [[0], [1], [3]]
    assert batch.failed_indices == [2]
    assert len(batch.failures) == 1
    assert str(samples.paths[2]) in batch.failures[0]


def test_a_batch_of_unreadable_images_is_empty(tmp_path: Path) -> None:
    samples = Samples.from_paths([tmp_path / "none.png"], [torch.ones(2)])
    (batch,) = _batches(ImageDataset(samples, EvalTransform(16)), epoch=0)
    batch = batch.to(CPU)
    assert batch.images.shape == (0, 3, 0, 0)
    assert batch.targets is None
    assert (batch.indices, batch.files, batch.sizes) == ([], [], [])
    assert len(batch.failures) == 1
    assert batch.failed_indices == [0]


# --- targets and sizes


def item(image: Tensor, target: Target = None, index: int = 0) -> Item:
    return Item(image, target, index, f"{index}.png")


def filled(height: int, width: int, level: int) -> Tensor:
    return torch.full((3, height, width), level, dtype=torch.uint8)


def test_images_of_different_sizes_are_padded_at_the_right_and_bottom() -> None:
    masks = [torch.full((4, 6), 3), torch.full((5, 2), 1)]
    points = torch.tensor([[1.0, 2.0]])
    images = [filled(4, 6, 9), filled(5, 2, 8)]
    batch = collate([item(*pair) for pair in zip(images, masks, strict=True)], Normalize())
    assert batch.sizes == [(4, 6), (5, 2)]
    assert batch.images.shape == (2, 3, 5, 6)
    assert isinstance(batch.targets, Tensor)
    assert batch.targets.dtype == torch.int64
    for number, (height, width) in enumerate(batch.sizes):
        assert torch.equal(batch.images[number, :, :height, :width], images[number])
        assert batch.images[number].sum() == images[number].sum()  # the rest is 0
        assert torch.equal(batch.targets[number, :height, :width], masks[number])
        assert (batch.targets[number] == 255).sum() == 30 - height * width
    batch = collate([item(images[0], points), item(images[1], points * 2)], Normalize())
    assert isinstance(batch.targets, list)
    assert [one if one is None else one.tolist() for one in batch.targets] == [[[1, 2]], [[2, 4]]]


def test_targets_are_stacked_where_that_makes_sense() -> None:
    image = filled(2, 2, 0)

    def targets(*targets: Target) -> Tensor | list[Target] | None:
        return collate([item(image, target) for target in targets], Normalize()).targets

    assert targets(None, None) is None
    labels = targets(torch.ones(3), torch.zeros(3))
    assert isinstance(labels, Tensor)
    assert labels.shape == (2, 3)
    for pair in [
        (torch.ones(1, 2), torch.ones(1, 2)),  # points: their number is no dimension
        (torch.ones(1, 2), torch.ones(4, 2)),
        (None, torch.ones(3)),
        (torch.ones(2), torch.ones(3)),
    ]:
        mixed = targets(*pair)
        assert isinstance(mixed, list)
        assert all(one is other for one, other in zip(mixed, pair, strict=True))


def test_targets_in_lists_go_to_the_device() -> None:
    pair = [item(filled(2, 2, 255), torch.ones(1, 2)), item(filled(2, 2, 0))]
    batch = collate(pair, Normalize()).to(torch.device("meta"))
    assert isinstance(batch.targets, list)
    assert batch.targets[0] is not None
    assert batch.targets[0].device.type == batch.images.device.type == "meta"
    assert batch.targets[1] is None


@pytest.mark.parametrize("cached", [False, True])
def test_targets_follow_their_image_through_the_cache(tmp_path: Path, cached: bool) -> None:
    mask = torch.zeros(8, 10, dtype=torch.int64)
    mask[:4, :5] = 2
    targets = [mask, torch.tensor([[0.0, 0.0], [9.0, 7.0]]), torch.ones(1)]
    cache = ImageCache(tmp_path / "cache") if cached else None
    dataset = ImageDataset(_images(tmp_path, 3, targets), EvalTransform(4), cache=cache)
    for _ in range(2):
        (batch,) = make_loader(dataset, batch_size=3, workers=0)
        quarter, points, label = batch.targets
        assert quarter.tolist() == [[2, 2, 0, 0]] * 2 + [[0] * 4] * 2
        expected = [[0.5 * 0.4 - 0.5, 0.5 * 0.5 - 0.5], [9.5 * 0.4 - 0.5, 7.5 * 0.5 - 0.5]]
        torch.testing.assert_close(points, torch.tensor(expected))
        assert label is targets[2]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_become_normalized_floats_on_their_device(tmp_path: Path, workers: int) -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    dataset = ImageDataset(_images(tmp_path, 3), EvalTransform(16, mean, std))
    loader = make_loader(dataset, batch_size=3, workers=workers)
    (batch,) = [batch.to(CPU) for batch in loader]
    for number, image in enumerate(batch.images):
        color = torch.tensor([number * 20, 255 - number * 20, 60]) / 255
        expected = (color - torch.tensor(mean)) / torch.tensor(std)
        torch.testing.assert_close(image, expected.view(3, 1, 1).expand(3, 16, 16))
    again = batch.to(CPU)  # what is float already stays as it is
    assert torch.equal(again.images, batch.images)


@pytest.mark.parametrize("cached", [False, True])
def test_the_model_gets_what_torchvision_makes_of_an_image(tmp_path: Path, cached: bool) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, pixels in zip(paths, values, strict=True):
        Image.fromarray(pixels).save(path)
    cache = ImageCache(tmp_path / "cache") if cached else None
    dataset = ImageDataset(Samples.from_paths(paths), EvalTransform(16), cache=cache)
    for _ in range(2):
        (batch,) = make_loader(dataset, batch_size=3, workers=0)
        images = batch.to(CPU).images
        assert images.is_contiguous()
        assert torch.equal(images, torch.stack([to_tensor(pixels) for pixels in values]))


# --- the check before a run


def test_missing_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    samples = _images(tmp_path, 3)
    for path in samples.paths[1:]:
        path.unlink()
    source, lines = "the split train in s.csv", [2, 3, 4]
    message = (
        r"^2 of 3 images of the split train in s\.csv cannot be read; the first, in line 3: "
        r"Cannot read the image .*1\.png: there is no such file\.$"
    )
    with pytest.raises(UserError, match=message):
        check_images(samples, DEFAULT, source=source, lines=lines)
    with pytest.raises(UserError, match=r"the first: Cannot read the image .*1\.png"):
        check_images(samples, DEFAULT, source=source, unreadable_allowed=1)
    check_images(samples, DEFAULT, source=source, unreadable_allowed=2)
    with pytest.raises(UserError, match=r"folder .*nowhere does not exist; check --img_dir"):
        check_images(samples, DEFAULT, source=source, img_dir=tmp_path / "nowhere")


def test_the_first_image_shows_whether_the_format_fits(tmp_path: Path) -> None:
    samples, image_format = _images(tmp_path, 2), ImageFormat((1, 2, 9))
    with pytest.raises(UserError, match=r"of s\.csv .*, in line 7: .*0\.png: .* there is no 9\.$"):
        check_images(samples, image_format, source="s.csv", lines=[7, 8])
    with pytest.raises(UserError, match=r"of the folder x cannot be read; the first: Cannot"):
        check_images(samples, image_format, source="the folder x")
    check_images(Samples.from_paths([]), image_format, source="s.csv")


def test_samples_of_paths_have_file_names_and_no_targets() -> None:
    paths = [Path("a/b.png")] * 3
    assert Samples.from_paths(paths) == Samples(["b.png"] * 3, paths, [None] * 3)


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path: Path) -> None:
    dataset = ImageDataset(_images(tmp_path, 3), EvalTransform(4))
    with pytest.raises(UserError, match="--batch-size is 5, which 2 processes cannot share"):
        make_loader(dataset, batch_size=5, workers=0, processes=2)


def test_the_error_of_an_item_tells_its_index(tmp_path: Path) -> None:
    samples = _images(tmp_path, 2)
    samples.paths[1].write_bytes(b"")
    error = ImageDataset(samples, EvalTransform(4))[0, 1]
    assert isinstance(error, ImageError)
    assert error.index == 1
