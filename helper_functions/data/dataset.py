"""Images and targets as batches.

What happens to an image depends on seed, epoch and index only (and, if an epoch shows it again, on
how often it has been there): runs repeat exactly whatever the number of workers, and a resumed run
sees what it would have seen.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from helper_functions.data.bands import ImageFormat
from helper_functions.data.cache import ImageCache
from helper_functions.data.folders import locate
from helper_functions.data.images import DEFAULT, ImageError, image_problem, read_image
from helper_functions.data.sampler import EpochSampler, Key
from helper_functions.data.splits import Sample, SplitTable
from helper_functions.data.targets import IGNORE, Target, is_mask, is_points, resize_target
from helper_functions.data.transforms import Normalize, Transform
from helper_functions.data.workers import keep_freed_memory, start_worker
from helper_functions.runtime.errors import UserError


class Samples(NamedTuple):
    """Images with their targets, for every data set and task; three sequences of one length."""

    names: list[str]  # what messages and results call the images
    paths: list[Path]
    targets: Sequence[Target]  # may be made on demand

    @classmethod
    def from_paths(
        cls,
        paths: list[Path],
        targets: Sequence[Target] | None = None,
        names: list[str] | None = None,
    ) -> Samples:
        """Return samples named as their files and without targets, unless these are given."""
        names = [path.name for path in paths] if names is None else names
        return cls(list(names), list(paths), [None] * len(paths) if targets is None else targets)


@dataclass(frozen=True)
class Item:
    """One image, uint8 (3, H, W), its target, its position in the samples and its name."""

    image: Tensor
    target: Target
    index: int
    file: str


@dataclass(eq=False)
class ImageDataset(Dataset["Item | ImageError"]):
    """Transformed images with targets."""

    samples: Samples
    transform: Transform  # called with the image, the target and a random generator of its own
    seed: int = 0  # of the run
    cache: ImageCache | None = None  # where decoded images are looked up first
    image_format: ImageFormat = DEFAULT

    def __len__(self) -> int:
        return len(self.samples.paths)

    def __getitem__(self, key: Key) -> Item | ImageError:
        """Return the item of a sampler's key, or the error of an image that cannot be read.

        The error travels as a value: only the loop knows whether to go on.
        """
        index = key[1]
        path = self.samples.paths[index]
        try:
            target = self.samples.targets[index]  # may be read from a file as well
            if self.cache is None:
                image = read_image(path, self.image_format)
            else:
                image, old_size = self.cache.read(path, self.transform.resize, self.image_format)
                target = resize_target(target, old_size, (image.height, image.width))
        except ImageError as error:
            error.index = index
            return error
        rng = random.Random("/".join(map(str, (self.seed, *key))))
        pixels, target = self.transform(image, target, rng)
        return Item(pixels, target, index, self.samples.names[index])


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor; without waiting only on CUDA, as elsewhere that can read freed memory."""
    return tensor.to(device, non_blocking=device.type == "cuda")


class Batch(NamedTuple):
    """Images with targets, and a sentence on each image that cannot be read.

    Images of different sizes are padded at the right and bottom to the largest: with 0, masks with
    255. A batch of unreadable images alone has B = 0 and no targets.
    """

    images: Tensor  # (B, 3, H, W), uint8 out of a loader and float32 after ``to``
    targets: Tensor | list[Target] | None  # stacked by ``stack_targets``; None if no image has one
    failures: list[str]  # sentences
    files: list[str]  # names of the B images
    sizes: list[tuple[int, int]]  # height and width of the B images before padding
    indices: list[int]  # positions of the B images in the samples
    failed_indices: list[int]  # positions of the images in ``failures``
    normalize: Normalize = Normalize()

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device, ready for the model; floats are not normalized again."""
        images, targets = to_device(self.images, device), self.targets
        if images.dtype == torch.uint8:
            images = self.normalize(images)
        if isinstance(targets, Tensor):
            targets = to_device(targets, device)
        elif targets is not None:
            targets = [None if one is None else to_device(one, device) for one in targets]
        return self._replace(images=images, targets=targets)


def collate(items: Sequence[Item | ImageError], normalize: Normalize) -> Batch:
    """Make a batch of what could be read and list what could not."""
    good = [item for item in items if isinstance(item, Item)]
    errors = [item for item in items if isinstance(item, ImageError)]
    sizes = [(item.image.shape[-2], item.image.shape[-1]) for item in good]
    height, width = (max(sides) for sides in zip(*sizes, strict=True)) if good else (0, 0)
    images = [_pad(item.image, height, width, 0) for item in good]
    targets = [
        _pad(item.target, height, width, IGNORE) if is_mask(item.target) else item.target
        for item in good
    ]
    return Batch(
        images=torch.stack(images) if images else torch.zeros(0, 3, 0, 0, dtype=torch.uint8),
        targets=stack_targets(targets),
        failures=[str(error) for error in errors],
        files=[item.file for item in good],
        sizes=sizes,
        indices=[item.index for item in good],
        failed_indices=[error.index for error in errors],
        normalize=normalize,
    )


def stack_targets(targets: list[Target]) -> Tensor | list[Target] | None:
    """Return targets stacked if all are tensors of one shape and no points; else the list."""
    tensors = [target for target in targets if target is not None]
    if not tensors:
        return None
    same = len({target.shape for target in tensors}) == 1 and len(tensors) == len(targets)
    return torch.stack(tensors) if same and not is_points(tensors[0]) else targets


def _pad(tensor: Tensor, height: int, width: int, value: int) -> Tensor:
    """Fill a tensor up (..., H, W) at the right and bottom."""
    missing = (0, width - tensor.shape[-1], 0, height - tensor.shape[-2])
    return functional.pad(tensor, missing, value=value) if any(missing) else tensor


def make_loader(
    dataset: ImageDataset,
    *,
    batch_size: int,
    workers: int,
    shuffle: bool = False,
    pin_memory: bool = False,
    rank: int = 0,
    processes: int = 1,
    weights: npt.NDArray[np.float64] | None = None,
) -> DataLoader[Item | ImageError]:
    """Make a loader of ``Batch``; its ``sampler`` is an ``EpochSampler``, see there.

    Raises:
        UserError: If the processes cannot share a batch evenly.
    """
    if batch_size % processes:
        raise UserError(
            f"--batch-size is {batch_size}, which {processes} processes cannot share evenly; "
            f"choose a multiple of {processes}."
        )
    keep_freed_memory()
    return DataLoader(
        dataset,
        batch_size=batch_size // processes,
        sampler=EpochSampler(
            len(dataset),
            batch_size=batch_size,
            shuffle=shuffle,
            seed=dataset.seed,
            rank=rank,
            processes=processes,
            weights=weights,
        ),
        num_workers=workers,
        collate_fn=partial(collate, normalize=dataset.transform.normalize),
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=start_worker,
        # One of its own: starting an epoch must not draw from the model's random numbers.
        generator=torch.Generator().manual_seed(dataset.seed),
    )


def split_samples(
    table: SplitTable,
    split: str,
    img_dir: Path,
    targets: Callable[[Sequence[Sample]], Sequence[Target]],
    image_format: ImageFormat,
    unreadable_allowed: int = 0,
) -> Samples:
    """Return the images of a split, checked by ``check_images``; ``targets`` makes those of rows.

    Raises:
        UserError: If there are none, the folder is missing, or more than allowed cannot be read.
    """
    rows = table.split(split)
    names = [row.filename for row in rows]
    samples = Samples(names, [locate(img_dir, name) for name in names], targets(rows))
    check_images(
        samples,
        image_format,
        source=f"the split {split} in {table.path}",
        lines=[row.line for row in rows],
        unreadable_allowed=unreadable_allowed,
        img_dir=img_dir,
    )
    return samples


def check_images(
    samples: Samples,
    image_format: ImageFormat,
    *,
    source: str,
    lines: Sequence[int] | None = None,
    unreadable_allowed: int = 0,
    img_dir: Path | None = None,
) -> None:
    """Read the headers of all images and decode the first, before anything runs.

    Args:
        samples: The images.
        image_format: How they will be read.
        source: What lists the images, for messages: "the split train in splits.csv".
        lines: Line of each image in that file.
        unreadable_allowed: How many may be missing or unreadable.
        img_dir: The folder that ``--img_dir`` names.

    Raises:
        UserError: If the folder is missing, or more images than allowed are.
    """
    if img_dir is not None and not img_dir.is_dir():
        raise UserError(f"The image folder {img_dir} does not exist; check --img_dir.")
    checked = tqdm(samples.paths, desc="checking images", disable=None, leave=False)
    found = (image_problem(path, image_format) for path in checked)
    problems = {i: problem for i, problem in enumerate(found) if problem}
    if len(problems) > unreadable_allowed:
        first, problem = next(iter(problems.items()))
        line = "" if lines is None else f", in line {lines[first]}"
        raise UserError(
            f"{len(problems)} of {len(samples.paths)} images of {source} cannot be read; the first"
            f"{line}: {problem}"
        )
    if samples.paths and not unreadable_allowed:
        try:
            read_image(samples.paths[0], image_format)
        except ImageError as error:
            line = "" if lines is None else f", line {lines[0]}"
            raise UserError(f"{source}{line}: {error}") from error
