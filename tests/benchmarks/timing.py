"""Timing of several functions that do the same, side by side in one process.

Other work on a machine slows all of them alike when they take turns, so the ratio of two of them
within a round says more than either's seconds.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

# So that a script that imports this module imports the project too.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def _processor() -> str:
    """Return the name of the CPU model, as far as the system tells it."""
    table = Path("/proc/cpuinfo")
    if table.exists():
        for line in table.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def hardware() -> str:
    """Return a line to print above the figures: CPU model, cores, threads, versions, GPU."""
    parts = [
        _processor(),
        f"{os.cpu_count()} cores",
        f"{torch.get_num_threads()} threads",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
    ]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def interleaved(
    callables: dict[str, Callable[[], object]], rounds: int, before: int = 0
) -> dict[str, list[float]]:
    """Call all in turns, ``rounds`` times, after one round to warm up that does not count.

    Args:
        callables: By name; what runs on CUDA is waited for.
        rounds: Timed calls of each.
        before: Calls of the same just before each timed one: a step of a training follows its like,
            and finds caches and freed memory as that has left them.

    Returns:
        Seconds of each call, by name, in the order of the rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in callables}
    for turn in range(rounds + 1):
        for name, function in callables.items():
            for _ in range(before):
                function()
            started = time.perf_counter()
            function()
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """Return how many times faster ``fast`` is than ``slow``: the median of the quotients."""
    pairs = zip(seconds[slow], seconds[fast], strict=True)
    return statistics.median(first / second for first, second in pairs)
