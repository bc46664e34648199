"""Several processes on one or more machines, started by ``torchrun``; without it, one process.

Every process runs the same program on its share of each batch. Host-side agreements (has a signal
come in? is it time to save?) go over gloo, so that they never wait for a GPU.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from helper_functions.runtime.errors import UserError

_control: Any = None  # the process group of what the hosts agree on


def world_size() -> int:
    """Return how many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that prints and writes files."""
    return rank() == 0


@contextmanager
def session(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes of ``torchrun``, if there are any, while the block runs.

    Args:
        device: What ``--device`` stands for; CUDA is spread over the processes of a machine.

    Yields:
        The device of this process.

    Raises:
        UserError: If a machine has fewer GPUs than processes.
    """
    global _control
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise UserError(
                f"torchrun started more processes than this machine's {torch.cuda.device_count()} "
                f"GPUs; lower --nproc-per-node."
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    _control = dist.new_group(backend="gloo")
    warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
    if not is_main():
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (until the process ends)
    try:
        yield device
    finally:
        _control = None
        dist.destroy_process_group()


def all_reduce_max(values: Sequence[float]) -> list[float]:
    """Return the highest of all processes' values, element by element."""
    return _reduce(values, dist.ReduceOp.MAX)


def all_reduce_sum(values: Sequence[float]) -> list[float]:
    """Return the sum of all processes' values, element by element."""
    return _reduce(values, dist.ReduceOp.SUM)


def _reduce(values: Sequence[float], how: Any) -> list[float]:
    if world_size() == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor, how, group=_control)
    return tensor.tolist()


def all_gather(value: Any) -> list[Any]:
    """Return the values of all processes by rank; they must be picklable."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=_control)
    return values
