"""Order of an epoch: seeds, positions, weights, processes."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from helper_functions.data.sampler import EpochSampler, Key


def _keys(sampler: EpochSampler, epoch: int, start: int = 0) -> list[Key]:
    sampler.set_position(epoch, start)
    keys = list(sampler)
    assert len(sampler) == len(keys)
    return keys


def _weights(length: int) -> npt.NDArray[np.float64]:
    """Weights of a long tail, from 1 to about 8."""
    return 1 + np.random.default_rng(length).pareto(2, length).clip(max=7)


def _sampler(weights: npt.NDArray[np.float64], **settings: Any) -> EpochSampler:
    return EpochSampler(len(weights), shuffle=True, weights=weights, **settings)


def test_epochs_come_in_orders_of_their_own_without_loss() -> None:
    sampler = EpochSampler(50, shuffle=True, seed=3)
    orders = []
    for epoch in range(3):
        keys = _keys(sampler, epoch)
        assert {key[0] for key in keys} == {epoch}
        orders.append([key[1] for key in keys])
        assert sorted(orders[-1]) == list(range(50))
    assert orders[0] != orders[1] != orders[2]
    assert [key[1] for key in _keys(sampler, 1, start=20)] == orders[1][20:]
    assert len(sampler) == 30


def test_without_shuffling_the_order_is_that_of_the_samples() -> None:
    assert _keys(EpochSampler(5, shuffle=False), 2, start=3) == [(2, 3), (2, 4)]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("length", [1, 8, 9, 11, 12])
def test_processes_share_every_batch(length: int, shuffle: bool) -> None:
    def keys(rank: int, processes: int) -> list[Key]:
        sampler = EpochSampler(
            length, batch_size=4, shuffle=shuffle, rank=rank, processes=processes
        )
        return _keys(sampler, 3)

    alone, shares = keys(0, 1), [keys(0, 2), keys(1, 2)]
    merged = [
        key
        for batch in range(0, 12, 4)
        for key in sorted([key for share in shares for key in share[batch // 2 : batch // 2 + 2]])
    ]
    # Training leaves out a last batch of one image.
    expected = alone[:8] if shuffle and length == 9 else [] if shuffle and length == 1 else alone
    batches = [sorted(expected[start : start + 4]) for start in range(0, 12, 4)]
    assert merged == [key for batch in batches for key in batch]


def test_an_epoch_shows_images_by_weight() -> None:
    weights = _weights(300)
    expected = 300 * weights / weights.sum()
    sampler, seen, epochs = _sampler(weights, seed=5), Counter[int](), 400
    for epoch in range(epochs):
        keys = _keys(sampler, epoch)
        assert len(keys) == len(set(keys)) == 300
        assert {key[0] for key in keys} == {epoch}
        times = Counter(key[1] for key in keys)
        for index, number in enumerate(expected):
            assert math.floor(number) <= times[index] <= math.ceil(number)
            repeats = sorted(key[2:] for key in keys if key[1] == index)
            assert repeats == [() if n == 0 else (n,) for n in range(times[index])]
        seen += times
    mean = np.array([seen[index] / epochs for index in range(300)])
    share = expected % 1
    error = np.sqrt(share * (1 - share) / epochs)
    assert np.abs(mean - expected).max() < 5 * error.max()
    assert (np.abs(mean - expected) < 5 * error + 1e-9).all()


def test_the_positions_of_repeats_are_random() -> None:
    """The copies of an image lie on average as far from the middle as any position of the epoch."""
    weights = np.array([50.0] + [1.0] * 199)
    sampler = _sampler(weights)
    positions = [
        position
        for epoch in range(40)
        for position, key in enumerate(_keys(sampler, epoch))
        if not key[1]
    ]
    assert len(positions) > 40 * 35
    deviation = 200 / math.sqrt(12) / math.sqrt(len(positions))
    assert abs(np.mean(positions) - 99.5) < 4 * deviation
    assert np.std(positions) == pytest.approx(200 / math.sqrt(12), rel=0.08)


def test_the_order_follows_from_seed_and_epoch() -> None:
    weights = _weights(90)
    orders = [_keys(_sampler(weights, seed=1), epoch) for epoch in range(3)]
    again = _sampler(weights, seed=1)
    assert [_keys(again, epoch) for epoch in (2, 0, 1)] == [orders[2], orders[0], orders[1]]
    assert [key[1:] for key in orders[0]] != [key[1:] for key in orders[1]]
    assert _keys(_sampler(weights, seed=2), 0) != orders[0]
    assert _keys(again, 1, start=40) == orders[1][40:]


def test_processes_share_every_weighted_batch() -> None:
    weights = _weights(41)
    alone = _keys(_sampler(weights, batch_size=6), 3)
    shares = [_keys(_sampler(weights, batch_size=6, rank=r, processes=3), 3) for r in range(3)]
    merged = [sorted(key for share in shares for key in share[n : n + 2]) for n in range(0, 14, 2)]
    # 41 = 6 * 6 + 5: the last batch holds at least one image a process.
    assert merged == [sorted(alone[start : start + 6]) for start in range(0, 41, 6)]


def test_equal_weights_show_every_image_once() -> None:
    for length in (1, 7, 1000):
        keys = _keys(_sampler(np.full(length, 0.3)), 0)
        assert sorted(keys) == [(0, index) for index in range(length)]


def test_without_weights_the_order_is_as_it_was() -> None:
    order = list(range(50))
    random.Random("3/order/7").shuffle(order)
    assert _keys(EpochSampler(50, shuffle=True, seed=3), 7) == [(7, index) for index in order]
