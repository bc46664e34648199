"""What a machine ran out of in the midst of a run, as a sentence."""

from __future__ import annotations

import re

import torch

_HOST_MEMORY = re.compile(r"DefaultCPUAllocator: ([^.]*)")
_LOST_WORKER = re.compile(r"DataLoader worker \(pid.*?\) (?:is (killed by signal: [^.]*)|exited)")


def shortage(error: BaseException) -> str | None:
    """Say what a machine lacked, if that is what ended a run, and what to do about it.

    PyTorch has no types of their own for most of these: the words of a ``RuntimeError`` tell.
    """
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"The device has too little memory ({text.partition('. GPU ')[0]}); lower --batch-size "
            f"(--accum-steps makes up for it in training) or --image-size, or train with "
            f"--grad-checkpointing."
        )
    if isinstance(error, MemoryError):
        return _too_little(text or "it could not be allocated")
    if not isinstance(error, RuntimeError):
        return None
    allocation = _HOST_MEMORY.search(text)
    if allocation:
        return _too_little(allocation[1])
    # How a worker ended is known to what interrupted the wait for it.
    worker = _LOST_WORKER.match(str(error.__cause__)) or _LOST_WORKER.match(text)
    if worker:
        return (
            f"A process that reads pictures was {worker[1] or 'ended'}. Mostly that is for want of "
            f"memory: lower --workers or --batch-size, or allow more shared memory (/dev/shm; "
            f"docker run --shm-size). If it is a picture's fault, python -m "
            f"helper_functions.check_data names it."
        )
    return None


def _too_little(what: str) -> str:
    return (
        f"This machine has too little memory ({what}); lower --batch-size, --image-size or "
        f"--workers."
    )
