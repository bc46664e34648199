"""Result files against pandas, which reads and writes them its own way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helper_functions.results.tables import (
    write_metrics,
    write_prediction_parts,
    write_table,
)

NAMES = ["plain.png", 'a "quoted", name.png', "dive/ü.png"]
CLASSES = ["oak", "ash, common"]
SCORES = np.array([[0.5, 1e-30], [0.1, 1.0], [0.33333334, 0.0]], np.float32)


def test_predictions_are_what_pandas_would_write(tmp_path: Path) -> None:
    write_prediction_parts(tmp_path / "predictions.csv", CLASSES, [(NAMES, SCORES)])
    table = pd.DataFrame(SCORES, columns=CLASSES)
    table.insert(0, "filename", NAMES)
    expected = table.to_csv(index=False, float_format="%.9g")
    assert (tmp_path / "predictions.csv").read_text(encoding="utf-8") == expected


def test_parts_make_one_file(tmp_path: Path) -> None:
    write_prediction_parts(tmp_path / "together.csv", CLASSES, [(NAMES, SCORES)])
    parts = ((NAMES[start : start + 2], SCORES[start : start + 2]) for start in (0, 2))
    write_prediction_parts(tmp_path / "parts.csv", CLASSES, parts)
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "together.csv").read_bytes()


def test_scores_survive_the_file_to_the_last_bit(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).random((50, 2), np.float32)
    write_prediction_parts(tmp_path / "predictions.csv", CLASSES, [(["x"] * 50, scores)])
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert (table[CLASSES].to_numpy().astype(np.float32) == scores).all()


def test_a_name_that_is_not_utf_8_gets_question_marks(tmp_path: Path) -> None:
    name = b"caf\xe9.png".decode(errors="surrogateescape")
    write_prediction_parts(tmp_path / "predictions.csv", CLASSES, [([name], SCORES[:1])])
    assert "caf?.png,0.5," in (tmp_path / "predictions.csv").read_text(encoding="utf-8")
    write_table(tmp_path / "per_image.csv", {"filename": [name]})
    assert (tmp_path / "per_image.csv").read_text(encoding="utf-8") == "filename\ncaf?.png\n"


def test_a_table_is_what_pandas_would_write(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "class": NAMES,
        "images": np.array([1, -2, 3]),
        "AP, percent": SCORES[:, 0],
    }
    write_table(tmp_path / "per_class.csv", columns)
    expected = pd.DataFrame(columns).to_csv(index=False, float_format="%.4f")
    assert (tmp_path / "per_class.csv").read_text(encoding="utf-8") == expected


def test_a_table_protects_text_from_spreadsheets_and_leaves_numbers(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", {"=name": ["=1+1", "@a", "b"], "bias": [-1.5, 2, -3]}, ".2f")
    assert (tmp_path / "t.csv").read_text() == "'=name,bias\n'=1+1,-1.50\n'@a,2\nb,-3\n"


def test_columns_of_different_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_table(tmp_path / "t.csv", {"a": [1, 2], "b": [1]})
    assert not list(tmp_path.iterdir())


def test_metrics_are_plain_json_without_nan(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.json", {"mAP": 1.5, "classes": ["a"]})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"mAP": 1.5, "classes": ["a"]}
    with pytest.raises(ValueError):
        write_metrics(tmp_path / "metrics.json", {"mAP": float("nan")})
