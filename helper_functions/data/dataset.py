"""Pictures and targets as batches.

What happens to a picture depends on seed, epoch and index only (and, if an epoch shows it again, on
how often it has been there): runs repeat exactly whatever the number of workers, and a resumed run
sees what it would have seen.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from helper_functions.data.bands import Reading
from helper_functions.data.cache import PictureCache
from helper_functions.data.images import DEFAULT, ImageError, image_problem, read_image
from helper_functions.data.splits import Sample
from helper_functions.data.transforms import Normalise, Resize
from helper_functions.data.workers import keep_freed_memory, start_worker
from helper_functions.runtime.errors import UserError

# What a sampler asks a data set for: epoch, index and, if the epoch has shown the picture before,
# how many times.
Key = tuple[int, ...]


class Transform(Protocol):
    """What a picture goes through.

    Attributes:
        resize: The first step, which leaves a picture of the right size as it is.
        normalise: Makes floats of a batch of pictures.
    """

    resize: Resize
    normalise: Normalise

    def __call__(self, image: Image.Image, rng: random.Random) -> Tensor:
        """One picture as uint8 (3, size, size), with random numbers from ``rng`` alone."""
        ...


class Item(NamedTuple):
    """One picture, (3, size, size), its target and the name of its file."""

    image: Tensor
    target: Tensor
    file: str


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor; without waiting only on CUDA, as elsewhere that can read freed memory."""
    return tensor.to(device, non_blocking=device.type == "cuda")


class Batch(NamedTuple):
    """Pictures (B, 3, size, size), targets (B, ...), and a sentence on each unreadable file.

    The pictures are uint8 as they come out of a loader and float32 after ``to``, which applies
    ``normalise``; those that a transform has made floats stay as they are.

    Attributes:
        images: The pictures.
        targets: One row a picture.
        failures: Sentences.
        files: Names of the pictures' files.
        normalise: Makes floats of the pictures.
    """

    images: Tensor
    targets: Tensor
    failures: list[str]
    files: list[str]
    normalise: Normalise = Normalise()

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, ready for the model."""
        images = to_device(self.images, device)
        if images.dtype == torch.uint8:
            images = self.normalise(images)
        return self._replace(images=images, targets=to_device(self.targets, device))


class MultiHotTargets(Sequence[Tensor]):
    """Targets of multi-label samples: 0/1 float32 (K,) each, stored as class indices.

    Args:
        samples: Rows of a split CSV.
        classes: Class names in the order of the logits.
        source: Name of the CSV, for messages.

    Raises:
        UserError: If a label is none of the classes.
    """

    def __init__(self, samples: Sequence[Sample], classes: Sequence[str], source: Path) -> None:
        position = {name: index for index, name in enumerate(classes)}
        self.num_classes = len(classes)
        self.indices: list[list[int]] = []
        for sample in samples:
            unknown = [name for name in sample.labels if name not in position]
            if unknown:
                raise UserError(
                    f"{source}, line {sample.line}: the model does not know the class "
                    f"{unknown[0]!r}; it was trained on {len(classes)} others."
                )
            self.indices.append([position[name] for name in sample.labels])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        target = torch.zeros(self.num_classes)
        target[self.indices[index]] = 1
        return target

    def matrix(self) -> npt.NDArray[np.uint8]:
        """All targets at once, 0/1 (N, K)."""
        matrix = np.zeros((len(self), self.num_classes), np.uint8)
        for row, indices in zip(matrix, self.indices, strict=True):
            row[indices] = 1
        return matrix


class NoTargets(Sequence[Tensor]):
    """Empty targets, for prediction."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        return torch.zeros(0)


class ImageDataset(Dataset["Item | ImageError"]):
    """Pictures with targets, for every data set and task.

    Args:
        paths: Image files.
        targets: One tensor a file.
        transform: Called with the picture and a random generator of its own.
        seed: Seed of the run.
        cache: Where to look for a decoded picture first.
        reading: How raw values become red, green and blue.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        targets: Sequence[Tensor],
        transform: Transform,
        seed: int = 0,
        cache: PictureCache | None = None,
        reading: Reading = DEFAULT,
    ) -> None:
        self.paths = list(paths)
        self.targets = targets
        self.transform = transform
        self.seed = seed
        self.cache = cache
        self.reading = reading

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Key) -> Item | ImageError:
        index = key[1]
        # An unreadable picture travels as a value: only the loop knows whether to go on.
        try:
            image = self._read(self.paths[index])
        except ImageError as error:
            return error
        rng = random.Random("/".join(map(str, (self.seed, *key))))
        return Item(self.transform(image, rng), self.targets[index], self.paths[index].name)

    def _read(self, path: Path) -> Image.Image:
        if self.cache is None:
            return read_image(path, self.reading)
        return self.cache.read(path, self.transform.resize, self.reading)


class EpochSampler(Sampler[Key]):
    """Keys of one epoch in an order that follows from seed and epoch; can start in the middle.

    Of several processes each gets its share of every batch, so that a step sees the same pictures
    however many there are. Training leaves out a last batch with fewer pictures than processes.

    With weights, an epoch has as many pictures as ever, N, but picture i is expected in it
    q_i = N * w_i / sum(w) times. It is there floor(q_i) or ceil(q_i) times, by systematic sampling:
    the pictures, in random order, lie end to end with lengths q_i, and N points at distances of 1,
    the first at random, choose those they hit. Drawing with replacement would scatter much more.

    Args:
        length: Pictures in the data set.
        batch_size: Pictures of a batch, over all processes.
        shuffle: Random order, another one each epoch.
        seed: Seed of the run.
        rank: Number of this process.
        processes: How many there are.
        weights: (N,), how often to show each picture in relation to the others, with ``shuffle``;
            ``None``: each once.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int = 1,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        processes: int = 1,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.processes = processes
        self.weights = weights
        self.epoch = 0
        self.start = 0

    def set_position(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, and how many of its pictures to leave out at the beginning."""
        self.epoch = epoch
        self.start = start

    def __iter__(self) -> Iterator[Key]:
        order = self._order()
        return iter([(self.epoch, *order[place]) for place in self._places()])

    def __len__(self) -> int:
        return len(self._places())

    def _order(self) -> list[tuple[int, ...]]:
        """The keys of the whole epoch, less the epoch."""
        order = list(range(self.length))
        if self.shuffle:
            rng = random.Random(f"{self.seed}/order/{self.epoch}")
            rng.shuffle(order)
            if self.weights is not None:
                return _systematic_sample(order, self.weights, rng)
        return [(index,) for index in order]

    def _places(self) -> list[int]:
        """Positions in the order of the epoch that this process reads."""
        last = self.length % self.batch_size
        end = self.length - (last if self.shuffle and last < self.processes else 0)
        return [
            place
            for place in range(self.start, end)
            if place % self.batch_size % self.processes == self.rank
        ]


def _systematic_sample(
    order: list[int], weights: npt.NDArray[np.float64], rng: random.Random
) -> list[tuple[int, ...]]:
    """As many pictures as ``order`` has, chosen by weight, each with the number of its repeat."""
    ends = np.cumsum(weights[order])
    before = np.floor(ends * (len(order) / ends[-1]) + rng.random())  # points up to each end
    before[-1] = len(order)  # whatever rounding says
    times = np.diff(before, prepend=0).astype(int)
    keys: list[tuple[int, ...]] = [
        (index, repeat) if repeat else (index,)
        for index, number in zip(order, times, strict=True)
        for repeat in range(number)
    ]
    rng.shuffle(keys)
    return keys


def collate(items: list[Item | ImageError], normalise: Normalise) -> Batch:
    """Stack what could be read and list what could not."""
    good = [item for item in items if isinstance(item, Item)]
    failures = [str(item) for item in items if isinstance(item, ImageError)]
    if not good:
        return Batch(torch.zeros(0), torch.zeros(0), failures, [], normalise)
    return Batch(
        torch.stack([item.image for item in good]),
        torch.stack([item.target for item in good]),
        failures,
        [item.file for item in good],
        normalise,
    )


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
    """A loader of ``Batch``; its ``sampler`` is an ``EpochSampler``, which explains the arguments.

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
        collate_fn=partial(collate, normalise=dataset.transform.normalise),
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=start_worker,
        # One of its own: starting an epoch must not draw from the model's random numbers.
        generator=torch.Generator().manual_seed(dataset.seed),
    )


def image_paths(
    samples: Sequence[Sample],
    img_dir: Path,
    source: Path,
    unreadable_allowed: int = 0,
    reading: Reading = DEFAULT,
) -> list[Path]:
    """Paths of the pictures of a split; before anything runs, all headers and one picture are read.

    Args:
        samples: Rows of the split CSV.
        img_dir: Folder that file names are relative to.
        source: The CSV, for messages.
        unreadable_allowed: How many may be missing or unreadable.
        reading: How they will be read; the first picture shows whether that makes sense.

    Raises:
        UserError: If the folder is missing, or more pictures than allowed are.
    """
    if not img_dir.is_dir():
        raise UserError(f"The image folder {img_dir} does not exist; check --img_dir.")
    paths = [img_dir / sample.filename for sample in samples]
    checked = tqdm(paths, desc="checking images", disable=None, leave=False)
    found = zip(samples, map(image_problem, checked), strict=True)
    problems = [(sample, problem) for sample, problem in found if problem is not None]
    if len(problems) > unreadable_allowed:
        sample, problem = problems[0]
        raise UserError(
            f"{len(problems)} of {len(paths)} pictures of the split {sample.split} in {source} "
            f"cannot be read; the first, in line {sample.line}: {problem}"
        )
    if not unreadable_allowed:
        try:
            read_image(paths[0], reading)
        except ImageError as error:
            raise UserError(f"{source}, line {samples[0].line}: {error}") from error
    return paths
