"""Where a result comes from: the program, its libraries and the command."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from helper_functions.checkpoints.checkpoint import library_versions


def _git_revision() -> str | None:
    """The commit of this program, marked if files have been changed since; None outside of git."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            describe, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def provenance() -> dict[str, Any]:
    """Command line, versions and revision, as plain data."""
    return {
        "command": shlex.join(sys.argv),
        "versions": library_versions(),
        "git_revision": _git_revision(),
    }
