"""Names that hold anything, in everything that shows or keeps them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from html_page import Page
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.text import Text as DrawnText
from PIL import Image

from helper_functions.results.overlays import (
    LegendEntry,
    draw_caption,
    draw_legend,
    draw_texts,
)
from helper_functions.results.report import Column, Table
from helper_functions.results.report.page import write_report
from helper_functions.results.style import fold, new_figure, png_bytes, to_image
from helper_functions.results.tables import column_names, write_prediction_parts, write_table
from helper_functions.runtime.text import printable, shorten

HOSTILE = [
    *("a $x^2$ b", "$\\frac{$", "$", "_hidden", "日本語", "שלום", "<b>", "</script>", "x" * 300),
    *("a\rb", "a\nb", "a\tb", "\0", "\x1b[31mred", "\u202ereversed", "\ud800", "NA", '"', ",", "|"),
    *("=1+1", "'=1+1", "+a", "-a", "@a", "filename", "filename_", "label", "x", "Filename"),
]
FEW = settings(
    max_examples=12,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
# Any names, all different: of a split CSV they are never empty, and without blanks around.
NAMES = st.lists(
    st.one_of(st.text(min_size=1, max_size=20), st.sampled_from(HOSTILE)).filter(
        lambda name: name == name.strip() != ""
    ),
    min_size=1,
    max_size=6,
    unique=True,
)


def expected_columns(names: list[str]) -> list[str]:
    """The columns of classes that only ``filename`` clashes with."""
    return [
        "filename" + "_" * (1 + ("filename_" in names)) if n == "filename" else n for n in names
    ]


def as_cells(names: list[str]) -> list[str]:
    """Names with an apostrophe before a formula."""
    return ["'" * name.lstrip("'").startswith((*"=+-@\t\r",)) + name for name in names]


def score_row(names: list[str]) -> npt.NDArray[np.float32]:
    return np.linspace(0, 1, len(names), dtype=np.float32)[None]


@FEW
@given(names=NAMES.filter(lambda names: not any("\ud800" in name for name in names)))
def test_columns_of_predictions_are_read_back(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder, scores = tmp_path_factory.mktemp("names"), score_row(names)
    for suffix in ("csv", "parquet"):
        write_prediction_parts(folder / f"p.{suffix}", names, [(["a.png"], scores)])
    expected = expected_columns(names)
    with (folder / "p.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)) == ["filename", *as_cells(expected)]
    table = pd.read_csv(folder / "p.csv", keep_default_na=False)
    assert list(table.columns) == ["filename", *as_cells(expected)]
    table = pd.read_parquet(folder / "p.parquet")
    assert parquet.read_schema(folder / "p.parquet").names == ["filename", *expected]
    assert list(table.columns) == ["filename", *expected]
    assert (table[expected].to_numpy() == scores).all()


@FEW
@given(names=NAMES.filter(lambda names: not any("\ud800" in name for name in names)))
def test_rows_of_tables_are_read_back(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("names") / "per_class.csv"
    write_table(path, {"class": names, "AP": np.zeros(len(names))})
    with path.open(encoding="utf-8", newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == as_cells(names)
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    assert table["class"].tolist() == as_cells(names)


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["oak", "label", "split"], ["oak", "label", "split"]),
        (["filename", "oak"], ["filename_", "oak"]),
        (["filename", "filename_", "filename__"], ["filename___", "filename_", "filename__"]),
        (["\ud800", "\ud801", "?_"], ["?", "?__", "?_"]),
        (["Filename", "FILENAME"], ["Filename", "FILENAME"]),
    ],
)
def test_columns_never_clash(names: list[str], columns: list[str], tmp_path: Path) -> None:
    assert column_names(names, ["filename"]) == columns
    pytest.importorskip("pyarrow")
    path = tmp_path / "p.parquet"
    write_prediction_parts(path, names, [(["a.png"], score_row(names))])
    table = pd.read_parquet(path)
    assert list(table.columns) == ["filename", *columns]
    assert (table[columns].to_numpy() == score_row(names)).all()


@pytest.mark.filterwarnings("error")
@FEW
@given(names=NAMES)
def test_figures_draw_every_name(names: list[str]) -> None:
    figure = new_figure(4, 4, 40)
    axes = figure.subplots()
    lines = [axes.plot([0, 1])[0] for _ in names]
    shown = [fold(name, 20, 2) for name in names]
    axes.set_title(shown[0])
    axes.set_yticks(range(len(names)), shown)
    figure.legend(lines, [f"best: {name}" for name in shown], loc="outside lower left")
    assert to_image(figure).size == (160, 160)
    png_bytes(figure)
    drawn = [text for text in figure.findobj(DrawnText) if text.get_text() in shown]
    assert len(drawn) > len(names)
    assert not any(text.get_parse_math() for text in drawn)


def test_powers_of_ten_beside_a_chart_stay_mathematics() -> None:
    figure = new_figure(3, 3, 40)
    axes = figure.subplots()
    axes.bar([0, 1], [1, 1e6])
    axes.set_yscale("log")
    axes.set_ylabel("$x$")
    png_bytes(figure)
    assert any(label.get_parse_math() for label in axes.get_yticklabels())
    assert not axes.yaxis.label.get_parse_math()


@FEW
@given(names=NAMES)
def test_images_show_every_name(names: list[str]) -> None:
    image = Image.new("RGB", (60, 40))
    entries = [LegendEntry("A", "#0072B2", name, "0.50") for name in names]
    assert draw_legend(image, entries).width < 700
    draw_caption(image, ", ".join(names))
    draw_texts(image, np.arange(len(names))[None], [f"{name}\n0.50" for name in names], 9)


@FEW
@given(names=NAMES)
def test_pages_show_names_as_text(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("names") / "report.html"
    table = Table("Classes", [Column("class"), Column("too")], [[name, name] for name in names])
    given_ = {"title": names[0], "subtitle": "", "key_figures": [], "settings": {}}
    write_report(path, sections=[table], **given_)  # type: ignore[arg-type]
    page = Page(path.read_text(encoding="utf-8"))
    expected = [printable(name.replace("\ud800", "?")) for name in names]
    assert [cell.text for cell in page.all("td")] == expected
    assert [cell.text for cell in page.all("tbody")[0].all("th")] == expected
    assert page.all("h1")[0].text == expected[0]


def test_names_cannot_steer_a_terminal() -> None:
    assert printable("\x1b[31m a\nb\r\u202e\ud800\0") == r"\x1b[31m a\nb\r\u202e\ud800\x00"
    assert printable("日本語 שלום é\xa0x") == "日本語 שלום é\xa0x"
    assert shorten("x" * 300, 10) == "x" * 9 + "…"


def test_folded_names_fit() -> None:
    assert fold("oak " * 100, 20, 2).count("\n") == 1
    assert max(map(len, fold("x" * 300, 20, 3).splitlines())) == 20
    assert max(map(len, fold("日" * 300, 20, 3).splitlines())) == 10
    assert fold("a\nb", 20) == r"a\nb"
    assert fold("x" * 30, 10, 2) == f"{'x' * 10}\n{'x' * 9}…"
    assert fold("oak ash elm", 7, None) == "oak ash\nelm"
