"""Stands in for a decoder that some file crashes; spawned processes import it, so it is small."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from helper_functions.check_data.decoding import Picture
from helper_functions.data.bands import Reading


def inspect(path: Path, reading: Reading) -> Picture:  # noqa: ARG001
    """Say that every file is fine, unless it is a deadly one."""
    if "deadly" in path.name:
        os.kill(os.getpid(), signal.SIGKILL)
    return Picture(None, (1, 1), path.name, path.name.encode())
