"""Worker processes that read images: their start, their errors, their memory."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from functools import partial
from types import TracebackType

import torch

# What fetching a batch raises when a worker has ended: PyTorch's own error, or that of a connection
# to a worker that is about to end.
LOST_WORKERS = (RuntimeError, EOFError, OSError)

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # parameters of mallopt(3)


def start_worker(_worker: int) -> None:
    """Set up a loader's worker: signals, errors, threads, memory."""
    # Ctrl-C reaches every process of a terminal; the main one decides when the workers end. It does
    # so by SIGTERM, but so do clusters, to the whole group: a quiet exit suits both, whereas death
    # by a signal would make PyTorch raise in the midst of the main process's last step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    sys.excepthook = partial(report_error, parent=os.getppid())
    torch.set_num_threads(1)
    keep_freed_memory()


def report_error(
    error_type: type[BaseException], error: BaseException, trace: TracebackType | None, parent: int
) -> None:
    """Print an error of a worker's thread, unless nobody is left to hand batches to.

    A main process that is killed outright leaves connections half open. The system closes them a
    moment before it gives the worker another parent than it had, so that is waited for.
    """
    if issubclass(error_type, (EOFError, OSError)):
        for _ in range(100):
            if os.getppid() != parent:
                return
            time.sleep(0.01)
    sys.__excepthook__(error_type, error, trace)


def keep_freed_memory() -> None:
    """Let the C library keep the memory of one image or step for the next.

    glibc returns large blocks, and what is free at the end of its heap, to the system at once;
    fetching them again, page by page, can take as long as the work itself. So blocks of up to 32
    MiB (the most that it allows) come from the heap, and up to 1 GiB of it stays. Other C libraries
    are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, 32 * 2**20)
    mallopt(_TRIM_THRESHOLD, 2**30)
