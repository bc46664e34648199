"""Result files against pandas, which reads and writes them its own way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from helper_functions.results.tables import write_predictions

NAMES = ["plain.png", 'a "quoted", name.png', "dive/ü.png"]
CLASSES = ["oak", "ash, common"]
SCORES = np.array([[0.5, 1e-30], [0.1, 1.0], [0.33333334, 0.0]], np.float32)


def test_predictions_are_what_pandas_would_write(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions.csv", NAMES, CLASSES, SCORES)
    table = pd.DataFrame(SCORES, columns=CLASSES)
    table.insert(0, "filename", NAMES)
    expected = table.to_csv(index=False, float_format="%.9g")
    assert (tmp_path / "predictions.csv").read_text(encoding="utf-8") == expected


def test_scores_survive_the_file_to_the_last_bit(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).random((50, 2), np.float32)
    write_predictions(tmp_path / "predictions.csv", ["x"] * 50, CLASSES, scores)
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert (table[CLASSES].to_numpy().astype(np.float32) == scores).all()


def test_a_name_that_is_not_utf_8_gets_question_marks(tmp_path: Path) -> None:
    name = b"caf\xe9.png".decode(errors="surrogateescape")
    write_predictions(tmp_path / "predictions.csv", [name], CLASSES, SCORES[:1])
    assert "caf?.png,0.5," in (tmp_path / "predictions.csv").read_text(encoding="utf-8")
