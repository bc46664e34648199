"""Label maps over images: colors, outlines, texts and legends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from helper_functions.results.overlays import (
    OPACITY,
    LegendEntry,
    color,
    draw_labels,
    draw_legend,
    draw_texts,
    label_positions,
    letter,
    resize,
    spread_to_pixels,
    write_image,
)
from helper_functions.results.style import INK, PALETTE, PAPER, rgb


def white(size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size, (255, 255, 255))


def tinted(name: str) -> list[float]:
    return [255 - OPACITY * (255 - channel) for channel in rgb(PALETTE[name])]


def test_letters_and_colors_go_on_without_end() -> None:
    letters = [letter(rank) for rank in range(800)]
    assert letters[:3] == ["A", "B", "C"]
    assert letters[25:28] == ["Z", "AA", "AB"]
    assert len(set(letters)) == 800
    assert [color(rank) for rank in (0, 6, 7)] == [*list(PALETTE.values())[::6], PALETTE["blue"]]


def test_spreading_takes_the_nearest_cell() -> None:
    cells = np.arange(12).reshape(3, 4)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(cells)[None, None].double(), (10, 13), mode="nearest-exact"
    )
    np.testing.assert_array_equal(spread_to_pixels(cells, 10, 13), expected[0, 0])


def test_every_part_of_a_label_has_its_text_inside() -> None:
    labels = np.array([[0, 0, 1, 0], [1, 0, 1, 0], [1, 1, 1, 2]])
    assert label_positions(labels, 0) == [(1.5, 0.5), (3.5, 0.5)]
    assert label_positions(labels, 0, largest=True) == [(1.5, 0.5)]
    assert label_positions(labels, 2) == [(3.5, 2.5)]
    assert label_positions(labels, 3, largest=True) == []
    ((x, y),) = label_positions(labels, 1)  # bent: its center lies elsewhere
    assert labels[int(y), int(x)] == 1


@pytest.mark.parametrize(
    ("size", "expected"), [((48, 40), (300, 250)), ((2000, 900), (600, 270)), ((400, 9), (400, 9))]
)
def test_sides_of_overlays(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resize(white(size), 600).size == expected


def test_labels_are_colored_and_outlined() -> None:
    labels = np.array([[0, 1], [2, 255]])
    drawn = draw_labels(white((40, 40)), labels, [PALETTE["blue"], PALETTE["orange"], None])
    assert drawn.getpixel((5, 5)) == pytest.approx(tinted("blue"), abs=1)
    assert drawn.getpixel((35, 5)) == pytest.approx(tinted("orange"), abs=1)
    assert drawn.getpixel((5, 35)) == drawn.getpixel((35, 35)) == (255, 255, 255)  # none, beyond
    colors = drawn.getcolors()
    assert colors is not None
    assert {rgb(INK), rgb(PAPER)} <= {found for _, found in colors}
    plain = draw_labels(white((40, 40)), labels, [], outlines=False)
    assert plain.tobytes() == white((40, 40)).tobytes()


def test_texts_stay_inside_the_image() -> None:
    labels = np.array([[0, 1, 1, 1]])
    drawn = white((200, 60))
    draw_texts(drawn, labels, ["a name\n0.50", ""], 14)
    box = ImageChops.difference(drawn, white(drawn.size)).getbbox()
    assert box is not None
    left, top, right, bottom = box
    assert left >= 0
    assert (right - left) > 50  # all of the name, though its region is 50 pixels wide
    assert 10 < top < bottom < 60


def test_the_legend_stands_beside_the_image() -> None:
    image = white((300, 250))
    names = ["oak", "a very long name " * 40, "x" * 300, "Säulen-Eiche"]
    entries = [LegendEntry(letter(k), color(k), name, "0.50") for k, name in enumerate(names)]
    sheet = draw_legend(image, entries)
    assert sheet.width > image.width
    assert sheet.height > image.height  # the names have pushed it down
    assert sheet.crop((0, 0, *image.size)).tobytes() == image.tobytes()
    few = draw_legend(image, entries[:1])
    assert few.height == image.height
    assert few.tobytes() != draw_legend(image, entries[3:]).tobytes()


def test_images_are_written_as_png(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", white((3, 2)))
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.size) == ("PNG", (3, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
