"""Order of the images of an epoch: shuffled, weighted, shared by processes, resumable."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

# What a sampler asks a data set for: epoch, index and, if the epoch has shown the image before, how
# many times.
Key = tuple[int, ...]


@dataclass(eq=False)
class EpochSampler(Sampler[Key]):
    """Keys of one epoch in an order that follows from seed and epoch; can start in the middle.

    Of several processes each gets its share of every batch, so that a step sees the same images
    however many there are. Training leaves out a last batch with fewer images than processes.

    With weights, an epoch still has N images, but image i is expected in it
    q_i = N * w_i / sum(w) times, see ``systematic_sample``.
    """

    length: int  # N, images in the data set
    _: KW_ONLY
    shuffle: bool  # a random order, another one each epoch
    batch_size: int = 1  # over all processes
    seed: int = 0
    rank: int = 0
    processes: int = 1
    weights: npt.NDArray[np.float64] | None = None  # (N,), with ``shuffle``
    epoch: int = field(default=0, init=False)
    start: int = field(default=0, init=False)

    def set_position(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, and how many of its images to leave out at the beginning."""
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[Key]:
        order = self._order()
        return iter([(self.epoch, *order[position]) for position in self._positions(self.start)])

    def __len__(self) -> int:
        return len(self._positions(self.start))

    def batch_sizes(self) -> list[int]:
        """Return how many images the largest and the smallest batch of an epoch hold here."""
        count, full = len(self._positions(0)), self.batch_size // self.processes
        return sorted({min(count, full), count % full or min(count, full)} - {0}, reverse=True)

    def sizes_without_single_images(self) -> list[int]:
        """Return the sizes of batches nearest to this one's that leave no process one image."""
        found = []
        for step in (-self.processes, self.processes):
            size = self.batch_size + step
            while 2 * self.processes <= size <= max(self.length, self.batch_size):
                rest = self.length % size
                if (
                    rest < self.processes and (self.shuffle or not rest)
                ) or rest >= 2 * self.processes:
                    found.append(size)
                    break
                size += step
        return found

    def _order(self) -> list[tuple[int, ...]]:
        """Return the keys of the epoch for all processes, without the epoch."""
        order = list(range(self.length))
        if self.shuffle:
            rng = random.Random(f"{self.seed}/order/{self.epoch}")
            rng.shuffle(order)
            if self.weights is not None:
                return systematic_sample(order, self.weights, rng)
        return [(index,) for index in order]

    def _positions(self, start: int) -> list[int]:
        """Return the positions in the order of the epoch, from one on, that this process reads."""
        last = self.length % self.batch_size
        end = self.length - (last if self.shuffle and last < self.processes else 0)
        return [
            position
            for position in range(start, end)
            if position % self.batch_size % self.processes == self.rank
        ]


def systematic_sample(
    order: list[int], weights: npt.NDArray[np.float64], rng: random.Random
) -> list[tuple[int, ...]]:
    """Choose as many images as ``order`` has, by weight.

    Image i is chosen floor(q_i) or ceil(q_i) times: the images, in random order, lie end to end
    with lengths q_i, and N points at distances of 1, the first at random, choose those they hit.
    Drawing with replacement would scatter much more.

    Args:
        order: The N indices in random order.
        weights: (N,), by index.
        rng: Source of all draws.

    Returns:
        N keys in random order: the index and, from the second time on, the number of the repeat.
    """
    ends = np.cumsum(weights[order])
    before = np.floor(ends * (len(order) / ends[-1]) + rng.random())  # points up to each end
    before[-1] = len(order)  # whatever rounding makes of it
    times = np.diff(before, prepend=0).astype(int)
    keys: list[tuple[int, ...]] = [
        (index, repeat) if repeat else (index,)
        for index, count in zip(order, times, strict=True)
        for repeat in range(count)
    ]
    rng.shuffle(keys)
    return keys
