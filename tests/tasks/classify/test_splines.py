"""The drawing of a head's splines."""

from __future__ import annotations

import pytest

from helper_functions.tasks.classify.splines import draw_splines
from models import create_model


@pytest.mark.filterwarnings("error::UserWarning:helper_functions")
@pytest.mark.filterwarnings("error:Glyph")
def test_splines_of_classes_of_any_name() -> None:
    model = create_model("resnet10t", num_classes=7)
    names = ["$\\frac{$", "日本語", "\ud800", "x" * 300, "_a", "\x1b", "unseen"]
    image = draw_splines(model, names)
    assert image is not None
    assert image.size == (1200, 650)
