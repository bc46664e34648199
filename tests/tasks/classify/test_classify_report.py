"""What the report says of a classification: the right images with the right labels and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from html_page import Page
from matplotlib.text import Text as DrawnText
from PIL import Image
from sklearn.metrics import precision_recall_curve

from helper_functions.metrics.multilabel import multilabel_metrics
from helper_functions.results.report import (
    Card,
    Charts,
    Gallery,
    Section,
    Table,
    Text,
)
from helper_functions.results.report.page import write_report
from helper_functions.tasks.classify.region_maps import RegionMap
from helper_functions.tasks.classify.report import Results, key_figures, sections
from helper_functions.tasks.classify.report.tables import precision_by_recall, score_histogram

Targets = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float32]

WORDS = ("right", "missed", "wrong")


def make_images(folder: Path, number: int) -> list[Path]:
    paths = [folder / f"p{index:03}.png" for index in range(number)]
    for index, path in enumerate(paths):
        Image.new("RGB", (12, 8), (index % 256, 90, 30)).save(path)
    return paths


def random_case(number: int, num_classes: int, seed: int = 0) -> tuple[Targets, Scores]:
    generator = np.random.default_rng(seed)
    targets = (generator.random((number, num_classes)) < 0.4).astype(np.uint8)
    targets[:, 0] = 1
    return targets, generator.random((number, num_classes), dtype=np.float32)


def validation(
    folder: Path,
    targets: Targets,
    scores: Scores,
    *,
    classes: list[str] | None = None,
    paths: list[Path] | None = None,
    threshold: float | list[float] = 0.5,
    extra: dict[str, Any] | None = None,
    **options: Any,
) -> Results:
    measures, table = multilabel_metrics(targets, scores, threshold)
    metrics = {
        **measures,
        "chance_mAP": 12.34,
        "frequency_mAP": 23.45,
        "classes": classes or [f"class {k}" for k in range(targets.shape[1])],
        "split": "val",
        "checkpoint": "runs/a & b/model-highest.ckpt",
        "csv_path": "data/splits.csv",
        **(extra or {}),
    }
    images = paths or make_images(folder, len(targets))
    return Results(metrics, table, images, targets, scores, **options)


def galleries(found: Sequence[Section]) -> list[Gallery]:
    return [section for section in found if isinstance(section, Gallery)]


def cards(found: Sequence[Section]) -> list[Card]:
    return [card for gallery in galleries(found) for card in gallery.cards]


def table_named(found: Sequence[Section], title: str) -> Table:
    (table,) = (part for part in found if isinstance(part, Table) and part.title == title)
    return table


def labels_of(card: Card, word: str) -> list[tuple[str, str]]:
    (group,) = (group for group in card.groups if group.name == word)
    return list(group.chips)


def plain_precision(target: Targets, score: Scores) -> float:
    """Average precision of one image, label by label."""
    ranking = sorted(range(len(score)), key=lambda k: -float(score[k]))
    hits, total = 0, 0.0
    for rank, k in enumerate(ranking, start=1):
        if target[k]:
            hits += 1
            total += hits / rank
    return total / hits


def best_f1_threshold(target: Targets, score: Scores) -> float:
    """Half-way between the scores that scikit-learn's best F1 divides."""
    precision, recall, cuts = precision_recall_curve(target, score)
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))[:-1]
    best = np.flatnonzero(f1 == f1.max())[-1]
    lower = score[score < cuts[best]]
    return float((cuts[best] + lower.max(initial=0)) / 2)


def test_key_figures(tmp_path: Path) -> None:
    metrics = validation(tmp_path, *random_case(7, 4)).metrics
    figures = {figure.name: figure for figure in key_figures(metrics)}
    for key in ("mAP", "F_C", "CF1", "F_O"):
        assert figures[key].value == f"{metrics[key]:.2f}"
    assert figures["images"].value == "7"
    assert figures["threshold"].value == "0.5"
    compared = [percent for _, percent in figures["mAP"].comparisons]
    assert compared == [metrics["mAP"], 12.34, 23.45]
    several = key_figures({**metrics, "threshold": [0.1, 0.2, 0.3, 0.4]})
    assert several[-1].value == "various"


def test_the_page(tmp_path: Path) -> None:
    results = validation(tmp_path, *random_case(7, 4))
    write_report(
        tmp_path / "report.html",
        title="model-highest.ckpt, split val",
        subtitle="",
        key_figures=key_figures(results.metrics),
        sections=sections(results),
        settings={"seed": 7},
    )
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert len(page.all("div", "key")) == 6
    assert page.texts("h2") == [
        *("Findings", "Classes", "Curves", "Confusions and co-occurrence"),
        *("Most frequent confusions", "Classes most often in one image"),
        *("Best images", "Worst images", "Settings"),
    ]
    written = {path.name for path in (tmp_path / "figures").iterdir()}
    charts = ("precision_recall", "calibration", "scores", "confusions", "cooccurrence")
    assert written == {f"{name}.png" for name in charts}


def test_the_class_table_lists_all_best_first(tmp_path: Path) -> None:
    targets, scores = random_case(30, 25)
    results = validation(tmp_path, targets, scores)
    table = table_named(sections(results, 0), "Classes")
    order = sorted(range(25), key=lambda k: -results.table["AP"][k])
    assert [row[0] for row in table.rows] == [f"class {k}" for k in order]
    for k, row in zip(order, table.rows, strict=True):
        numbers = [results.table[key][k] for key in ("support", "AP", "precision", "recall", "F1")]
        assert row[1:6] == pytest.approx(numbers)
        assert row[6] == pytest.approx(best_f1_threshold(targets[:, k], scores[:, k]), abs=5e-4)


def test_many_classes_have_their_extremes_listed(tmp_path: Path) -> None:
    targets, scores = random_case(30, 41)
    targets[:, 7] = 0  # a class that no image shows is not weak
    results = validation(tmp_path, targets, scores)
    rows = table_named(sections(results, 0), "Best and weakest classes").rows
    present = [k for k in np.argsort(-results.table["AP"], kind="stable") if k != 7]
    assert [row[0] for row in rows] == [f"class {k}" for k in present[:10]]
    assert [row[2] for row in rows] == [f"class {k}" for k in present[::-1][:10]]


def test_curves_of_a_class_by_scikit_learn(tmp_path: Path) -> None:
    targets, scores = random_case(50, 6, seed=2)
    targets[:, 5] = 0
    results = validation(tmp_path, targets, scores)
    assert precision_by_recall(results, 5) == []
    for k in range(6):
        target, score = targets[:, k], scores[:, k]
        if k < 5:
            precision, recall, _ = precision_recall_curve(target, score)
            curve = [precision[:-1][recall[:-1] >= at / 10 - 1e-9].max() for at in range(11)]
            assert precision_by_recall(results, k) == pytest.approx(curve)
        counts = [np.histogram(score[target == value], 10, (0, 1))[0] for value in (1, 0)]
        heights = np.log1p(counts) / np.log1p(max(map(max, counts)))
        np.testing.assert_allclose(score_histogram(results, k), heights)


def test_names_between_dollars_are_drawn_as_they_are(tmp_path: Path) -> None:
    targets, scores = random_case(20, 3)
    names = ["$x_1$", "$\\frac{$", "_a & $b$"]
    found = sections(validation(tmp_path, targets, scores, classes=names), 0)
    drawn = [
        text
        for section in found
        if isinstance(section, Charts)
        for chart in section.charts
        if chart.figure is not None and chart.png
        for text in chart.figure.findobj(DrawnText)
        if any(name in text.get_text() for name in names)
    ]
    assert len(drawn) >= 9  # three in each of three charts
    assert not any(text.get_parse_math() for text in drawn)


@pytest.mark.parametrize("threshold", [0.5, 0.25, [0.1, 0.9, 0.5, 0.3]])
def test_labels_of_images(tmp_path: Path, threshold: float | list[float]) -> None:
    targets, scores = random_case(5, 4, seed=3)
    scores[0] = (0.25, 0.5, 0.5, 0.25)  # a score equal to the threshold is not predicted
    found = cards(sections(validation(tmp_path, targets, scores, threshold=threshold)))
    limits = np.broadcast_to(np.asarray(threshold, np.float32), 4)
    assert len(found) == 5
    for card in found:
        index = int(card.caption[1:4])
        expected: dict[str, list[tuple[str, str]]] = {word: [] for word in WORDS}
        for k, (true, score) in enumerate(zip(targets[index], scores[index], strict=True)):
            predicted = score > limits[k]
            if true or predicted:
                word = "wrong" if not true else "right" if predicted else "missed"
                expected[word].append((f"class {k}", f"{score:.2f}"))
        for word in WORDS:
            labels = labels_of(card, word)
            assert sorted(labels) == sorted(expected[word])
            values = [float(value) for _, value in labels]
            assert values == sorted(values, reverse=True)


def test_the_legend_of_labels(tmp_path: Path) -> None:
    for gallery in galleries(sections(validation(tmp_path, *random_case(3, 2)))):
        assert [(group.tone, group.chips[0][0]) for group in gallery.legend] == [
            ("good", "right: predicted and true"),
            ("missing", "missed: true, not predicted"),
            ("bad", "wrong: predicted, not true"),
        ]


@pytest.mark.parametrize("shown", [0, 1, 5, 12, 100])
def test_best_and_worst_images(tmp_path: Path, shown: int) -> None:
    targets, scores = random_case(40, 30)
    targets[[3, 17, 22]] = 0
    precisions = {
        f"p{index:03}.png": plain_precision(targets[index], scores[index])
        for index in range(40)
        if targets[index].any()
    }
    assert len(precisions) == len(set(precisions.values())) == 37  # no ties in this case
    ranking = sorted(precisions, key=lambda name: -precisions[name])
    found = sections(validation(tmp_path, targets, scores), shown)
    count = min(shown, 37)
    best = (count + 1) // 2
    names = [card.caption for card in cards(found)]
    assert names == ranking[:best] + ranking[::-1][: count - best]
    titles = [gallery.title for gallery in galleries(found)]
    assert titles == ["Best images", "Worst images"][: min(count, 2)]
    for card in cards(found):
        assert card.value == f"AP\N{NO-BREAK SPACE}{100 * precisions[card.caption]:.1f}"


def test_only_shown_images_are_read(tmp_path: Path) -> None:
    targets, scores = random_case(40, 30)
    targets[5] = 0
    paths = make_images(tmp_path, 40)
    paths[5].unlink()
    found = cards(sections(validation(tmp_path, targets, scores, paths=paths), 39))
    assert len(found) == 39
    assert "p005.png" not in [card.caption for card in found]


def test_no_image_has_a_label(tmp_path: Path) -> None:
    scores = np.full((3, 2), 0.4, np.float32)
    found = sections(validation(tmp_path, np.zeros((3, 2), np.uint8), scores))
    assert [section.title for section in found] == [
        *("Findings", "Classes", "Curves", "Confusions and co-occurrence"),
    ]
    note = table_named(found, "Classes").note
    assert "Classes without an image in this split: 2; they count as AP 0." in note
    assert "never predicted" in note
    (pairs,) = (part for part in found if part.title.startswith("Confusions"))
    assert isinstance(pairs, Charts)
    assert [chart.figure for chart in pairs.charts] == [None, None]
    assert all(chart.note.endswith("There is no such pair.") for chart in pairs.charts)


def test_one_class_one_image(tmp_path: Path) -> None:
    targets, scores = np.ones((1, 1), np.uint8), np.full((1, 1), 0.75, np.float32)
    found = sections(validation(tmp_path, targets, scores))
    (gallery,) = galleries(found)
    assert gallery.title == "Best images"
    assert labels_of(gallery.cards[0], "right") == [("class 0", "0.75")]
    assert len(table_named(found, "Classes").rows) == 1


def test_findings_and_pairs(tmp_path: Path) -> None:
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 1]], np.uint8)
    scores = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.9, 0, 0.3], [0.7, 0.4, 0.2]], np.float32)
    classes = ["oak", "beech", "lime"]
    found = sections(validation(tmp_path, targets, scores, classes=classes))
    (findings,) = (section for section in found if isinstance(section, Text))
    summary = " ".join(findings.sentences)
    assert "Best by AP: oak (100.0). Weakest: " in summary
    assert "it finds 33 % of the labels, and 50 % of its labels are right" in summary
    assert "2 classes are shown but never predicted: beech, lime." in summary
    assert "beech is missed and oak predicted in its place, 2 times." in summary
    confusions = table_named(found, "Most frequent confusions")
    assert confusions.rows == [["beech", "oak", 2, 2], ["lime", "oak", 1, 2]]
    together = table_named(found, "Classes most often in one image")
    assert together.rows == [["oak", "lime", 1, 0], ["beech", "lime", 1, 0]]


def test_region_maps_stand_beside_their_images(tmp_path: Path) -> None:
    targets, scores = random_case(5, 4)
    asked: list[int] = []

    def find_maps(indices: Sequence[int]) -> list[RegionMap]:
        asked.extend(indices)
        labels = np.array([[0, 0], [1, 2]])
        return [
            RegionMap(labels, np.array([3, 1, 3]), np.array([0.25, 0.5, 0.75], np.float32))
            for _ in indices
        ]

    found = cards(sections(validation(tmp_path, targets, scores, find_maps=find_maps), 4))
    assert [card.caption for card in found] == [f"p{index:03}.png" for index in asked]
    assert [len(card.images) for card in found] == [2] * 4
    assert [card.name for card in found] == ["best_1", "best_2", "worst_1", "worst_2"]
    for card in found:
        entries = [(entry.letter, entry.name, entry.detail) for entry in card.legend]
        assert entries == [("A", "class 3", "0.75, 0.25"), ("B", "class 1", "0.50")]
        assert card.original is not None
        assert card.original.width > card.images[1].width


def test_region_measures_are_shown(tmp_path: Path) -> None:
    measures = {
        f"region_{name}{suffix}": 10.0 * number
        for number, (name, suffix) in enumerate(
            [(name, s) for s in ("", "_majority") for name in ("purity", "accuracy", "miou")], 1
        )
    }
    extra = {**measures, "region_grid": [7, 5], "region_purity_chance": 5.0}
    found = sections(validation(tmp_path, *random_case(3, 2), extra=extra), 0)
    table = table_named(found, "Regions against masks")
    assert table.rows == [
        ["classes of the regions", 10, 20, 30],
        ["image's top class", 40, 50, 60],
        ["a random class", 5, None, None],
    ]
    assert "7 x 5 cells" in table.note
    (findings,) = (section for section in found if isinstance(section, Text))
    assert "In 10 % of the cells" in findings.sentences[-1]
