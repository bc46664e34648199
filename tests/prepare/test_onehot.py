"""One-hot tables: splits of their own, very many classes, and bad input."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from raw_archives import onehot
from raw_archives.conversions import prepare, refused, replaced


def test_tables_may_bring_their_splits(raw: Path) -> None:
    truth = onehot.write(raw)
    lines = (raw / "labels.csv").read_text().splitlines()
    splits = ["split", *("val" if n % 3 == 0 else "train" for n in range(len(lines) - 1))]
    text = "\n".join(f"{line},{split}" for line, split in zip(lines, splits, strict=True))
    (raw / "labels.csv").write_text(text.replace(",1,", ",True,").replace(",0,", ",0.0,"))
    rows, _ = prepare("onehot", raw)
    assert rows == {
        name: (labels, split)
        for (name, (labels, _)), split in zip(truth.items(), splits[1:], strict=True)
    }


def test_tables_may_have_very_many_classes(raw: Path) -> None:
    raw.mkdir()
    count = 20_000
    names = ",".join(f"c{number}" for number in range(count))
    cells = [
        ",".join("1" if number % 4 == row else "0" for number in range(count)) for row in (0, 1)
    ]
    rows = [f"{row}.png,{cells[row % 2]}" for row in range(4)]
    (raw / "wide.csv").write_text("\n".join((f"filename,{names}", *rows)))
    found, _ = prepare("onehot", raw, "--keep-missing", "--val-fraction", 0.25)
    assert found["1.png"][0][:2] == ["c1", "c5"]
    assert len(found["1.png"][0]) == count // 4


def test_the_table_may_be_written_beside_a_onehot_table(raw: Path) -> None:
    onehot.write(raw)
    first, _ = prepare("onehot", raw, out="raw/splits.csv")
    assert prepare("onehot", raw, out="raw/splits.csv")[0] == first


CELLS: tuple[tuple[Callable[[Path], object], str], ...] = (
    (replaced("labels.csv", "filename", "what"), "has no column 'filename'"),
    (replaced("labels.csv", "anemone", "crab"), "has two columns 'crab'"),
    (replaced("labels.csv", ",1,", ",2,"), "'2' is neither 0 nor 1"),
    (replaced("labels.csv", ",1,", ",,"), "'' is neither 0 nor 1"),
    (replaced("labels.csv", "dive0/000", "/dive0/000"), "leaves the image folder"),
    (replaced("labels.csv", "dive0/000", "dive1/001"), "is listed for"),
    (lambda raw: shutil.copy(raw / "labels.csv", raw / "b.csv"), "table by --csv"),
)


@pytest.mark.parametrize(("damage", "sentence"), CELLS)
def test_wrong_content_gets_one_sentence(
    damage: Callable[[Path], object], sentence: str, raw: Path
) -> None:
    onehot.write(raw)
    damage(raw)
    refused("onehot", raw, sentence)
