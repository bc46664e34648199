"""Where a raw data set goes."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder that is still to be made."""
    return tmp_path / "raw"
