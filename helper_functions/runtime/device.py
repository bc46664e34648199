"""The device of a run: which one, in which precision, and what to do when its memory ends."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext

import torch

from helper_functions.runtime.errors import UserError

_HOST_MEMORY = re.compile(r"DefaultCPUAllocator: ([^.]*)")
_LOST_WORKER = re.compile(r"DataLoader worker \(pid.*?\) (?:is (killed by signal: [^.]*)|exited)")


def resolve_device(name: str) -> torch.device:
    """Return the device of ``--device``; ``auto`` takes CUDA, else MPS, else the CPU.

    Raises:
        UserError: If the device is unknown or absent.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"The device {name!r} cannot be used here; choose auto, cpu, cuda or mps."
        ) from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"The device {name!r} cannot train; choose auto, cpu, cuda or mps.")
    return device


def resolve_amp(name: str, device: torch.device) -> torch.dtype | None:
    """Return the autocast type of ``--amp``; ``auto`` is float16 on CUDA and off elsewhere.

    Raises:
        UserError: For float16 on MPS, whose gradients PyTorch cannot scale in all releases.
    """
    if name == "fp16" and device.type == "mps":
        raise UserError("--amp fp16 needs loss scaling, which MPS lacks; choose bf16 or off.")
    if name == "auto":
        return torch.float16 if device.type == "cuda" else None
    return {"off": None, "fp16": torch.float16, "bf16": torch.bfloat16}[name]


def autocast(device: torch.device, amp: torch.dtype | None) -> AbstractContextManager[object]:
    """Return the context of mixed precision; of nothing where ``amp`` is ``None``."""
    return nullcontext() if amp is None else torch.autocast(device.type, dtype=amp)


def out_of_memory_message(error: BaseException) -> str | None:
    """Return a sentence on the memory that a run lacked and what to do; ``None`` for other errors.

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
    if allocation := _HOST_MEMORY.search(text):
        return _too_little(allocation[1])
    # How a worker ended is known to the error that interrupted the wait for it.
    worker = _LOST_WORKER.match(str(error.__cause__)) or _LOST_WORKER.match(text)
    if worker:
        return (
            f"A process that reads images was {worker[1] or 'ended'}. Mostly that is for want of "
            f"memory: lower --workers or --batch-size, or allow more shared memory (/dev/shm; "
            f"docker run --shm-size). If an image causes it, python -m "
            f"helper_functions.check_data names it."
        )
    return None


def _too_little(detail: str) -> str:
    return (
        f"This machine has too little memory ({detail}); lower --batch-size, --image-size or "
        f"--workers."
    )
