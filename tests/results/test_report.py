"""The report's shell: well-formed, self-contained, safe from names, without a word of any task."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from html_page import Page
from matplotlib.figure import Figure
from PIL import Image

from helper_functions.results.overlays import LegendEntry
from helper_functions.results.report import (
    Card,
    Cell,
    Chart,
    Charts,
    ChipGroup,
    Column,
    Gallery,
    KeyFigure,
    Section,
    Sparkline,
    Table,
    Text,
)
from helper_functions.results.report.page import write_report

DASH = "\N{EN DASH}"
HOSTILE = [
    '<b>"bold"</b>',
    "</script></td></figure>",
    "a & b",
    "http://x 'y'",
    "$x_1$",
    "{{ title }}",
]


def write(folder: Path, *sections: Section, **options: Any) -> tuple[str, Page]:
    given = {"title": "A title", "subtitle": "", "key_figures": [], "settings": {}, **options}
    write_report(folder / "report.html", sections=sections, **given)
    text = (folder / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


def tiny_image(size: tuple[int, int] = (12, 8)) -> Image.Image:
    return Image.new("RGB", size, (200, 90, 30))


def drawing() -> Figure:
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([0, 1])
    return figure


def every_section(names: Sequence[str] = ("one", "two")) -> list[Section]:
    """Sections of all sorts, these names wherever there can be text."""
    chips = [(name, name) for name in names]
    groups = [ChipGroup(name, "good", chips) for name in names]
    entries = [LegendEntry(name, "#0072B2", name, name) for name in names]
    cards = [Card(name, [tiny_image()], name, entries, groups) for name in names]
    rows: list[list[str | float]] = [[name, name, number] for number, name in enumerate(names)]
    return [
        *(Text(name, names) for name in names),
        *(Table(name, [Column(name), Column(name), Column(name, 1)], rows, name) for name in names),
        Charts(names[0], [Chart("drawing", names[0], drawing(), names[0])], names[0]),
        Gallery(names[0], cards, names[0], groups),
    ]


def test_the_page_fetches_nothing(tmp_path: Path) -> None:
    text, page = write(tmp_path, *every_section())
    assert not re.search(r"https?:|@import|url\(|<script[^>]+src", text)
    sources = [
        element.attributes[key]
        for tag in ("img", "link", "script")
        for element in page.all(tag)
        for key in ("src", "href")
        if key in element.attributes
    ]
    assert len(sources) == 4  # an icon, a chart, two cards
    assert all(str(source).startswith("data:") for source in sources)
    assert "prefers-color-scheme: dark" in text


def test_only_the_own_script_and_style_may_run(tmp_path: Path) -> None:
    text, page = write(tmp_path, *every_section())
    policy = str(page.all("meta")[1].attributes["content"])
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    attributes = [name for element in page.all("html")[0].inside() for name in element.attributes]
    assert not [name for name in attributes if name == "style" or name.startswith("on")]


def test_names_are_escaped_everywhere(tmp_path: Path) -> None:
    pages = []
    for names in (HOSTILE, [f"name {number}" for number in range(len(HOSTILE))]):
        _, page = write(
            tmp_path,
            *every_section(names),
            title=names[0],
            subtitle=names[1],
            key_figures=[KeyFigure(name, name, name, [(name, 50)]) for name in names],
            settings=dict(zip(names, names, strict=True)),
        )
        pages.append(page)
    page, plain = pages
    assert [element.tag for element in page.inside()] == [element.tag for element in plain.inside()]
    assert page.text.count("{{ title }}") == plain.text.count("name 5") > 20
    assert page.texts("h1") == page.texts("title") == [HOSTILE[0]]
    table = page.all("table")[0]
    assert table.texts("th")[3:] == HOSTILE
    assert table.texts("td")[::2] == HOSTILE
    assert page.texts("figcaption") == [f"{name} {name}" for name in HOSTILE]
    assert page.all("img")[1].attributes["alt"] == HOSTILE[0]
    assert page.texts("dt") == page.texts("dd") == HOSTILE


def test_bytes_of_a_name_that_are_not_utf8(tmp_path: Path) -> None:
    _, page = write(tmp_path, Gallery("Images", [Card("tile_\udcff.png", [tiny_image()])]))
    assert page.texts("figcaption") == ["tile_?.png"]


def test_headline_key_figures_and_settings(tmp_path: Path) -> None:
    figures = [
        KeyFigure("37.26", "mAP", "in percent", [("chance", 12.34), ("x", 200)]),
        KeyFigure("5,016", "classes", "in this set"),
    ]
    settings = {"image_size": 224, "mean": None, "amp": False, "grid": (4, 5)}
    _, page = write(tmp_path, subtitle="a & b", key_figures=figures, settings=settings)
    assert page.texts("p", "note") == ["a & b"]
    assert page.texts("div", "main") == [page.all("div", "key")[0].text.strip()]
    assert "37.26mAPin percent" in page.texts("p")
    assert page.texts("strong") == ["12.3", "200.0"]
    assert [bar.attributes["width"] for bar in page.all("rect")] == ["12.3", "100.0"]
    assert page.texts("dt") == list(settings)
    assert page.texts("dd") == ["224", "not set", "off", "4 5"]


def test_cells_of_a_table(tmp_path: Path) -> None:
    columns = [Column("class"), Column("images", 0), Column("AP", 1, bar=True), Column("curve")]
    rows: list[list[Cell]] = [
        ["oak", 1234, 56.78, Sparkline([[0, 0.5, 1], [1, 0]])],
        ["ash", None, float("nan"), None],
    ]
    _, page = write(tmp_path, Table("Classes", columns, rows))
    assert page.texts("th") == ["class", "images", "AP", "curve", "oak", "ash"]
    assert page.texts("td") == ["1,234", "56.8", "", DASH, DASH, DASH]
    assert [head.attributes.get("class") for head in page.all("th")[:4]] == [
        *(None, "number", "number", None),
    ]
    assert [bar.attributes["width"] for bar in page.all("rect")] == ["56.8"]
    lines = [line.attributes["points"] for line in page.all("polyline")]
    assert lines == ["0,17.0 30,9.0 60,1.0", "0,1.0 60,17.0"]


@pytest.mark.parametrize(("number", "long"), [(20, False), (21, True)])
def test_a_long_table_can_be_searched(tmp_path: Path, number: int, long: bool) -> None:
    rows = [[f"row {index}"] for index in range(number)]
    _, page = write(tmp_path, Table("Rows", [Column("name")], rows))
    assert len(page.all("tr")) == number + 1
    assert len(page.all("input")) == len(page.all("div", "box")) == int(long)


def test_thousands_of_rows_stay_small(tmp_path: Path) -> None:
    curve = Sparkline([[0.5] * 11])
    rows: list[list[Cell]] = [[f"name {index}", 1.0, 2.0, 3.0, curve] for index in range(5016)]
    columns = [Column("name"), *(Column("AP", 1, bar=True) for _ in range(3)), Column("curve")]
    text, page = write(tmp_path, Table("Rows", columns, rows))
    assert len(page.all("tr")) == 5017
    assert len(text) < 1000 * 5016


def test_charts_are_embedded_as_they_are_written(tmp_path: Path) -> None:
    charts = [Chart("curve", "Curve", drawing(), "how to read it"), Chart("none", "None", None)]
    _, page = write(tmp_path, Charts("Curves", charts))
    assert page.texts("h3") == ["Curve", "None"]
    (image,) = page.all("img")
    content = (tmp_path / "figures" / "curve.png").read_bytes()
    assert image.attributes["src"] == f"data:image/png;base64,{base64.b64encode(content).decode()}"
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["curve.png"]


@pytest.mark.parametrize(
    ("size", "expected"), [((720, 300), (360, 150)), ((60, 480), (45, 360)), ((9, 7), (9, 7))]
)
def test_images_of_cards_are_shrunk(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    _, page = write(tmp_path, Gallery("Images", [Card("a", [tiny_image(size)])]))
    (attributes,) = (image.attributes for image in page.all("img"))
    header, data = str(attributes["src"]).split(",")
    assert header == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.format == "JPEG"
        assert image.size == expected


def test_the_original_of_a_card_lies_beside_the_page(tmp_path: Path) -> None:
    card = Card("a", [tiny_image(), tiny_image()], name="best_1", original=tiny_image((700, 500)))
    _, page = write(tmp_path, Gallery("Images", [card]))
    assert len(page.all("div", "wide")) == 1
    with Image.open(tmp_path / "figures" / "best_1.png") as image:
        assert image.size == (700, 500)


def test_signs_of_chips(tmp_path: Path) -> None:
    groups = [
        ChipGroup("right", "good", [("oak", "0.9")]),
        ChipGroup("wrong", "bad", [("ash", "0.8")]),
        ChipGroup("missed", "missing", [("elm", "0.1")]),
        ChipGroup("noted", "neutral", [("lime", "")]),
    ]
    _, page = write(tmp_path, Gallery("Images", [Card("a", [tiny_image()], groups=groups)]))
    assert page.texts("li") == ["✓ oak 0.9", "✗ ash 0.8", f"{DASH} elm 0.1", "lime"]
    signs = [element.attributes for element in page.all("span") if "role" in element.attributes]
    assert [sign["aria-label"] for sign in signs] == ["right", "wrong", "missed", "noted"]


def test_many_chips_fold_and_end(tmp_path: Path) -> None:
    group = ChipGroup("wrong", "bad", [(f"class {k}", "") for k in range(1400)])
    _, page = write(tmp_path, Gallery("Images", [Card("a", [tiny_image()], groups=[group])]))
    assert page.texts("summary") == ["1,388 more wrong"]
    assert len(page.all("li")) == 300
    assert "and 1,100 more" in page.texts("p")
    assert len(page.all("details")[0].all("li")) == 288
