"""The report page: well-formed, self-contained, the right pictures with the right labels."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import chromium
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.metrics import precision_recall_curve

from helper_functions.metrics.multilabel import evaluate, per_class_table
from helper_functions.results.report import write_report
from helper_functions.tasks.classify.region_maps import RegionMap

VOID = {"meta", "link", "img", "input"}
SIGNS = {"right": "✓", "missed": "\N{EN DASH}", "wrong": "✗"}


class Page(HTMLParser):
    """Checks that tags balance and collects what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.figures: list[dict[str, list[str]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "figure":
            self.figures.append({"name": [], **{word: [] for word in SIGNS}})
        self.text.setdefault(tag, []).append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        kind = str(self.last("li").get("class")).removeprefix("chip ") if tag == "li" else ""
        if "figure" in self.open and kind in SIGNS:
            self.figures[-1][kind].append(self.text["li"][-1])
        if tag == "figcaption":
            self.figures[-1]["name"].append(self.text["figcaption"][-1])

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.text[tag][-1] += data

    def last(self, wanted: str) -> dict[str, str | None]:
        return next(attrs for tag, attrs in reversed(self.tags) if tag == wanted)

    def all(self, wanted: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == wanted]

    def names(self) -> list[str]:
        return [figure["name"][0].split()[0] for figure in self.figures]


def make_pictures(folder: Path, number: int, size: tuple[int, int] = (12, 8)) -> list[Path]:
    paths = [folder / f"p{index:03}.png" for index in range(number)]
    for index, path in enumerate(paths):
        Image.new("RGB", size, (index % 256, 90, 30)).save(path)
    return paths


def random_case(
    number: int, num_classes: int, seed: int = 0
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    targets = (generator.random((number, num_classes)) < 0.4).astype(np.uint8)
    targets[:, 0] = 1
    return targets, generator.random((number, num_classes), dtype=np.float32)


def report(
    folder: Path,
    targets: npt.NDArray[np.uint8],
    scores: npt.NDArray[np.float32],
    *,
    classes: list[str] | None = None,
    paths: list[Path] | None = None,
    threshold: float | list[float] = 0.5,
    extra: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[str, Page]:
    metrics = {
        **evaluate(targets, scores, threshold),
        "chance_mAP": 12.34,
        "frequency_mAP": 23.45,
        "classes": classes or [f"class {k}" for k in range(targets.shape[1])],
        "split": "val",
        "checkpoint": "runs/a & b/model-highest.ckpt",
        "csv_path": "data/splits.csv",
        **(extra or {}),
    }
    page = folder / "report.html"
    table = per_class_table(targets, scores, threshold)
    pictures = paths or make_pictures(folder, len(targets))
    write_report(page, metrics, table, pictures, targets, scores, **options)
    text = page.read_text(encoding="utf-8")
    return text, Page(text)


def plain_precision(target: npt.NDArray[np.uint8], score: npt.NDArray[np.float32]) -> float:
    """Average precision of one picture, label by label."""
    ranking = sorted(range(len(score)), key=lambda k: -float(score[k]))
    found, total = 0, 0.0
    for rank, k in enumerate(ranking, start=1):
        if target[k]:
            found += 1
            total += found / rank
    return total / found


def best_f1_threshold(target: npt.NDArray[np.uint8], score: npt.NDArray[np.float32]) -> float:
    """Half-way between the scores that scikit-learn's best F1 divides."""
    precision, recall, cuts = precision_recall_curve(target, score)
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))[:-1]
    best = np.flatnonzero(f1 == f1.max())[-1]
    lower = score[score < cuts[best]]
    return float((cuts[best] + lower.max(initial=0)) / 2)


def test_headline_and_key_figures(tmp_path: Path) -> None:
    targets, scores = random_case(7, 4)
    text, page = report(tmp_path, targets, scores)
    metrics = evaluate(targets, scores)
    assert page.text["h1"] == ["model-highest.ckpt split val"]
    assert page.text["title"] == ["model-highest.ckpt, split val"]
    for key in ("mAP", "F_C", "CF1", "F_O"):
        assert f"<b>{metrics[key]:.2f}</b>{key}<" in text
    assert "<b>7</b>images" in text
    assert "<b>0.5</b>threshold" in text
    assert "12.3" in text
    assert "23.4" in text
    assert "runs/a &amp; b/model-highest.ckpt on data/splits.csv, 4 classes" in text


def test_page_fetches_nothing(tmp_path: Path) -> None:
    text, page = report(tmp_path, *random_case(7, 4))
    assert not re.search(r"https?:|@import|url\((?!#)|<script[^>]+src", text)
    sources = [attrs[key] for _, attrs in page.tags for key in ("src", "href") if key in attrs]
    assert all(str(source).startswith(("data:", "#")) for source in sources)
    assert "prefers-color-scheme:dark" in text


def test_only_the_own_script_may_run(tmp_path: Path) -> None:
    text, page = report(tmp_path, *random_case(7, 4))
    policy = str(page.all("meta")[1]["content"])
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()) for script in scripts]
    assert policy.startswith("default-src 'none'; ")
    assert [f"script-src 'sha256-{digest.decode()}'" in policy for digest in digests] == [True]


def test_ids_differ_and_references_lead_to_them(tmp_path: Path) -> None:
    text, page = report(tmp_path, *random_case(9, 4))
    drawings = re.findall(r'<svg role="img".*?</svg>', text, flags=re.DOTALL)
    assert len(drawings) == 5
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    ids = [str(attrs["id"]) for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:href="|url\()#([^")]+)', text)
    assert set(references) <= set(ids)
    assert len(references) > 50


def test_class_table_lists_all_best_first(tmp_path: Path) -> None:
    targets, scores = random_case(30, 25)
    classes = [f"class-{k}" for k in range(25)]
    _, page = report(tmp_path, targets, scores, classes=classes)
    table = per_class_table(targets, scores)
    thresholds = [best_f1_threshold(targets[:, k], scores[:, k]) for k in range(25)]
    rows = page.text["tr"][1:]
    order = sorted(range(25), key=lambda k: -table["AP"][k])
    assert [row.split("class-")[1] for row in rows] == [
        f"{k}{table['support'][k]}{table['AP'][k]:.1f}{table['precision'][k]:.1f}"
        f"{table['recall'][k]:.1f}{table['F1'][k]:.1f}{thresholds[k]:.2f}"
        for k in order
    ]
    widths = [f"width:{table['AP'][k]:.1f}%" for k in order]
    assert [attrs["style"] for attrs in page.all("i")][-25:] == widths


def test_names_are_escaped(tmp_path: Path) -> None:
    names = ['<b>"bold"</b>', "</li></figure>", "a & b", "http://x 'y'"]
    folder = tmp_path / "<i>"
    folder.mkdir()
    picture = folder / "<u>&amp;.png"
    Image.new("RGB", (4, 4)).save(picture)
    targets = np.array([[1, 0, 1, 1]], np.uint8)
    scores = np.array([[0.9, 0.8, 0.1, 0.7]], np.float32)
    text, page = report(tmp_path, targets, scores, classes=names, paths=[picture])
    assert "<b>&quot;" not in text
    assert "&lt;b&gt;&quot;bold&quot;&lt;/b&gt;" in text
    assert sorted(page.text["th"][7:]) == sorted(names)
    assert page.names() == ["<u>&amp;.png"]
    assert page.all("img")[0]["alt"] == "<u>&amp;.png"
    assert page.figures[0]["wrong"] == ["✗ </li></figure> 0.80"]


def test_bytes_of_a_name_that_are_not_utf8(tmp_path: Path) -> None:
    picture = tmp_path / "tile_\udcff.png"
    try:
        Image.new("RGB", (4, 4)).save(picture)
    except OSError:
        pytest.skip("this file system refuses such names")
    targets, scores = random_case(1, 2)
    _, page = report(tmp_path, targets, scores, paths=[picture])
    assert page.names() == ["tile_?.png"]


@pytest.mark.parametrize("threshold", [0.5, 0.25, [0.1, 0.9, 0.5, 0.3]])
def test_chips(tmp_path: Path, threshold: float | list[float]) -> None:
    targets, scores = random_case(5, 4, seed=3)
    scores[0] = (0.25, 0.5, 0.5, 0.25)  # a score equal to the threshold is not predicted
    text, page = report(tmp_path, targets, scores, threshold=threshold)
    limits = np.broadcast_to(np.asarray(threshold, np.float32), 4)
    assert len(page.figures) == 5
    for figure, name in zip(page.figures, page.names(), strict=True):
        index = int(name[1:4])
        expected: dict[str, list[str]] = {word: [] for word in SIGNS}
        for k, (true, score) in enumerate(zip(targets[index], scores[index], strict=True)):
            predicted = score > limits[k]
            if true or predicted:
                word = "wrong" if not true else "right" if predicted else "missed"
                expected[word].append(f"{SIGNS[word]} class {k} {score:.2f}")
        for word in SIGNS:
            assert sorted(figure[word]) == sorted(expected[word])
            values = [float(chip.split()[-1]) for chip in figure[word]]
            assert values == sorted(values, reverse=True)
    assert ("<b>various</b>threshold" in text) is isinstance(threshold, list)


def test_legend(tmp_path: Path) -> None:
    _, page = report(tmp_path, *random_case(3, 2))
    signs = tuple(SIGNS.values())
    legend = [entry for entry in page.text["li"] if entry.startswith(signs) and ": " in entry]
    assert legend == [
        "✓ right: predicted and true",
        "\N{EN DASH} missed: true, not predicted",
        "✗ wrong: predicted, not true",
    ]


@pytest.mark.parametrize("shown", [0, 1, 5, 12, 100])
def test_best_and_worst(tmp_path: Path, shown: int) -> None:
    targets, scores = random_case(40, 30)
    targets[[3, 17, 22]] = 0
    precisions = {
        f"p{index:03}.png": plain_precision(targets[index], scores[index])
        for index in range(40)
        if targets[index].any()
    }
    assert len(precisions) == len(set(precisions.values())) == 37  # no ties in this case
    ranking = sorted(precisions, key=lambda name: -precisions[name])
    _, page = report(tmp_path, targets, scores, shown=shown)
    count = min(shown, 37)
    best = (count + 1) // 2
    assert page.names() == ranking[:best] + ranking[::-1][: count - best]
    assert len(page.all("img")) == count
    titles = [title for title in page.text["h3"] if title in ("Best", "Worst")]
    assert titles == ["Best", "Worst"][: min(count, 2)]
    for figure, name in zip(page.figures, page.names(), strict=True):
        assert figure["name"][0].endswith(f"AP\N{NO-BREAK SPACE}{100 * precisions[name]:.1f}")


def test_only_shown_pictures_are_read(tmp_path: Path) -> None:
    targets, scores = random_case(40, 30)
    targets[5] = 0
    paths = make_pictures(tmp_path, 40)
    paths[5].unlink()
    _, page = report(tmp_path, targets, scores, paths=paths, shown=39)
    assert len(page.figures) == 39
    assert "p005.png" not in page.names()


def test_no_picture_has_a_label(tmp_path: Path) -> None:
    scores = np.full((3, 2), 0.4, np.float32)
    text, page = report(tmp_path, np.zeros((3, 2), np.uint8), scores)
    assert page.all("img") == []
    assert page.text["h2"] == ["Classes", "Curves", "Look-alikes and company"]
    assert "Classes without an image in this split: 2; they count as AP&nbsp;0." in text
    assert "never predicted" in text


def test_one_class_one_picture(tmp_path: Path) -> None:
    _, page = report(tmp_path, np.ones((1, 1), np.uint8), np.full((1, 1), 0.75, np.float32))
    assert page.names() == ["p000.png"]
    assert page.figures[0]["right"] == ["✓ class 0 0.75"]
    assert page.text["h3"][-1] == "Best"
    assert "Worst" not in page.text["h3"]
    assert len(page.text["tr"]) == 2


def test_300_classes_fold_but_none_is_lost(tmp_path: Path) -> None:
    targets, scores = random_case(4, 300)
    _, page = report(tmp_path, targets, scores)
    assert len(page.text["tr"]) == 301
    wrong = [
        int(((scores[i] > 0.5) & (targets[i] == 0)).sum())
        for i in (int(name[1:4]) for name in page.names())
    ]
    assert [len(figure["wrong"]) for figure in page.figures] == wrong
    assert f"{wrong[0] - 12} more wrong" in page.text["summary"]


@pytest.mark.parametrize(
    ("size", "expected"), [((600, 300), (240, 120)), ((50, 480), (25, 240)), ((9, 7), (9, 7))]
)
def test_thumbnails(tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]) -> None:
    paths = make_pictures(tmp_path, 1, size)
    _, page = report(tmp_path, *random_case(1, 2), paths=paths)
    (attributes,) = page.all("img")
    header, data = str(attributes["src"]).split(",")
    assert header == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.format == "JPEG"
        assert image.size == expected
    assert (attributes["width"], attributes["height"]) == tuple(map(str, expected))


# Many classes, regions, settings


def class_data(page: Page) -> list[list[Any]]:
    """What the page's script knows of the classes."""
    found: list[list[Any]] = json.loads(page.text["script"][0])
    return found


def test_the_script_knows_every_class_and_the_page_stays_small(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    targets = (generator.random((12, 2000)) < 0.1).astype(np.uint8)
    scores = generator.random((12, 2000), dtype=np.float32)
    names = [f"class </script> & {k}" for k in range(2000)]
    text, page = report(tmp_path, targets, scores, classes=names, shown=2)
    assert sorted(entry[0] for entry in class_data(page)) == sorted(names)
    assert len(page.text["script"]) == 2
    assert len(page.text["tr"]) == 501
    assert "1,500 more classes are in per_class.csv." in page.text["noscript"][0]
    assert len(text) < 400 * 2000 + 500_000
    assert "and 6" in text  # some 900 wrong labels a picture, of which 300 are listed
    assert max(len(figure["wrong"]) for figure in page.figures) == 300


def test_class_data_by_scikit_learn(tmp_path: Path) -> None:
    targets, scores = random_case(50, 6, seed=2)
    scores = np.round(scores, 2).clip(0.01)  # ties; a score of 0 is never predicted
    _, page = report(tmp_path, targets, scores, shown=0)
    table = per_class_table(targets, scores)
    for entry in class_data(page):
        k = int(entry[0].split()[1])
        target, score = targets[:, k], scores[:, k]
        numbers = [round(float(table[key][k]), 1) for key in ("AP", "precision", "recall", "F1")]
        assert entry[1:6] == [target.sum(), *numbers]
        assert entry[6] == pytest.approx(best_f1_threshold(target, score), abs=5e-4)
        precision, recall, _ = precision_recall_curve(target, score)
        curve = [precision[:-1][recall[:-1] >= at / 10 - 1e-9].max() for at in range(11)]
        assert entry[7] == [round(100 * value) for value in curve]
        for value, counts in enumerate(entry[8]):
            assert counts == np.histogram(score[target == value], 10, (0, 1))[0].tolist()


def test_settings_and_summary(tmp_path: Path) -> None:
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 1]], np.uint8)
    scores = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.9, 0, 0.3], [0.7, 0.4, 0.2]], np.float32)
    classes = ["oak", "beech", "lime"]
    settings = {"image_size": 224, "mean": None}
    _, page = report(tmp_path, targets, scores, classes=classes, settings=settings)
    assert page.text["dt"] == ["image_size", "mean"]
    assert page.text["dd"] == ["224", "not set"]
    summary = page.text["ul"][0]
    assert "Best by AP: oak (100.0). Weakest: " in summary
    assert "it finds 33 % of the labels, and 50 % of its labels are right" in summary
    assert "2 classes are shown but never predicted: beech, lime." in summary
    assert "beech is missed and oak predicted in its place, 2 times." in summary


def test_region_maps_stand_beside_their_pictures(tmp_path: Path) -> None:
    targets, scores = random_case(5, 4)
    asked: list[Path] = []

    def find_maps(paths: Sequence[Path]) -> list[RegionMap]:
        asked.extend(paths)
        labels = np.array([[0, 0], [1, 2]])
        return [
            RegionMap(labels, np.array([3, 1, 3]), np.array([0.25, 0.5, 0.75], np.float32))
            for _ in paths
        ]

    _, page = report(tmp_path, targets, scores, find_maps=find_maps, shown=4)
    assert page.names() == [path.name for path in asked]
    assert len(page.all("img")) == 8
    entries = [entry for entry in page.text["li"] if entry.startswith(("A ", "B "))]
    assert entries == ["A class 3 0.75", "B class 1 0.50"] * 4
    written = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert written >= {"best_1.png", "best_2.png", "worst_1.png", "worst_2.png"}
    assert written >= {"precision_recall.png", "calibration.png", "scores.png", "together.png"}


def test_region_measures_are_shown(tmp_path: Path) -> None:
    measures = {
        f"region_{name}{suffix}": 10.0 * number
        for number, (name, suffix) in enumerate(
            [(name, s) for s in ("", "_majority") for name in ("purity", "accuracy", "miou")], 1
        )
    }
    extra = {**measures, "region_grid": [7, 5], "region_purity_chance": 5.0}
    _, page = report(tmp_path, *random_case(3, 2), extra=extra)
    assert "classes of the regions10.020.030.0" in page.text["tr"]
    assert "picture's top class40.050.060.0" in page.text["tr"]
    assert "a random class5.0" in page.text["tr"]


# In a browser


@pytest.mark.skipif(
    chromium.EXECUTABLE is None or os.name != "posix", reason="there is no Chromium here"
)
@pytest.mark.slow
def test_a_browser_shows_sorts_and_searches(tmp_path: Path) -> None:
    targets, scores = random_case(20, 700)
    names = [f"class {k} of a long, long, unusually long name" for k in range(700)]
    report(tmp_path, targets, scores, classes=names)
    names_shown = "[...document.querySelectorAll('#classes tbody th')].map(e => e.textContent)"
    with chromium.Chromium(tmp_path / "profile") as browser:
        for width in (1280, 400):
            for dark in (False, True):
                browser.open(tmp_path / "report.html", width, dark=dark)
                assert browser.ask("document.documentElement.scrollWidth") <= width
                cut = (
                    "[...document.querySelectorAll('th, td, li, dt, dd, figcaption')]"
                    ".filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth).length"
                )
                assert browser.ask(cut) == 0
                paper = browser.ask("getComputedStyle(document.body).backgroundColor")
                assert (paper == "rgb(255, 255, 255)") is not dark
        assert len(browser.ask(names_shown)) == 100  # rows are made as they are scrolled to
        browser.ask("document.getElementById('box').scrollTop = 1e6")
        assert len(browser.ask(names_shown)) > 100
        browser.ask("document.querySelector('#classes thead button').click()")
        assert browser.ask(names_shown)[0] == names[0]
        browser.ask("document.querySelectorAll('#classes thead button')[1].click()")
        support = targets.sum(axis=0)
        best = names.index(browser.ask(names_shown)[0])
        assert support[best] == support.max()
        search = "document.getElementById('search')"
        browser.ask(f"({search}.value = 'CLASS 69', {search}.dispatchEvent(new Event('input')))")
        expected = [name for name in names if name.startswith("class 69")]
        assert sorted(browser.ask(names_shown)) == sorted(expected)
        assert browser.ask("document.getElementById('count').textContent") == "11 of 700 classes"
        browser.ask("document.querySelector('#classes tbody tr').click()")
        assert browser.ask("document.querySelectorAll('.detail svg path').length") >= 7
        assert browser.complaints == []
        outside = [url for url in browser.requests if not url.startswith(("file:", "data:"))]
        assert outside == []
