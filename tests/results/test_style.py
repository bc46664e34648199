"""What figures share: colors, and files that are the same each time."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from helper_functions.results.style import new_figure, png_bytes, rgb, tint, write_png


def test_tints_lie_between_white_and_the_color() -> None:
    assert rgb("#0AC81E") == (10, 200, 30)
    assert [tint("#0AC81E", share) for share in (0, 0.5, 1)] == ["#FFFFFF", "#84E48E", "#0AC81E"]


@pytest.mark.filterwarnings("error")
def test_letters_that_no_font_has_are_no_reason_to_warn() -> None:
    figure = new_figure(2, 1)
    figure.text(0.5, 0.5, "\U0001f332 \u6c34")
    assert png_bytes(figure) == png_bytes(figure)


def test_images_can_have_a_palette(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    write_png(Figure(figsize=(1, 1), dpi=4, facecolor="#0AC81E"), path, colors=256)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert image.convert("RGB").getpixel((2, 2)) == (10, 200, 30)
