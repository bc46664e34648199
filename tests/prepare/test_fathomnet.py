"""FathomNet 2023: names from the key, extensions from COCO, the published tables, bad input."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from raw_archives import fathomnet
from raw_archives.conversions import appended, prepare, refused, replaced

from helper_functions.data.splits import read_split_table
from helper_functions.prepare.__main__ import main
from helper_functions.runtime.errors import UserError

TABLE = "multilabel_classification/train.csv"
KEY = "multilabel_classification/category_key.csv"


def test_names_come_from_the_key_and_extensions_from_coco(raw: Path) -> None:
    truth = fathomnet.write(raw)
    rows, manifest = prepare("fathomnet", raw)
    assert {name: labels for name, (labels, _) in rows.items()} == {
        name: labels for name, (labels, _) in truth.items()
    }
    assert "4a7f2199-772d-486d-b8e2-b651246316b5.jpg" in rows
    assert any("hidden" in note for note in manifest["notes"])
    shutil.rmtree(raw / "object_detection")
    assert prepare("fathomnet", raw, "--overwrite")[0] == rows  # then by the images themselves


def test_without_images_needs_an_extension(raw: Path) -> None:
    fathomnet.write(raw, images=False)
    shutil.rmtree(raw / "object_detection")
    with pytest.raises(UserError, match=r"line 2: .*3b6f01ae.* give it by --extension"):
        prepare("fathomnet", raw, "--keep-missing")
    rows, _ = prepare("fathomnet", raw, "--keep-missing", "--extension", "png")
    assert {name.rpartition(".")[2] for name in rows} == {"png"}


def _shared() -> Path | None:
    named = os.environ.get("VOLUNET_SHARED")
    folders = [Path(named)] if named else [ROOT.parent / "shared"]
    return next((folder for folder in folders if folder.is_dir()), None)


def test_published_tables_convert_without_loss(tmp_path: Path) -> None:
    shared = _shared()
    tables = None if shared is None else shared / "data" / "fathomnet2023_labels"
    if tables is None or not tables.is_dir():
        pytest.skip("the published label tables are not here; VOLUNET_SHARED names their folder")
    out = tmp_path / "splits.csv"
    flags = ["--out", str(out), "--extension", ".png", "--keep-missing"]
    main(["fathomnet", "--raw-dir", str(tables), *flags])
    with (tables / "category_key.csv").open(newline="") as file:
        names = {row["id"]: row["name"] for row in csv.DictReader(file)}
    expected = {}
    with (tables / "train.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            numbers = row["categories"].strip("[]").split(", ")
            expected[f"{row['id']}.png"] = [names[number.removesuffix(".0")] for number in numbers]
    table = read_split_table(out)
    assert {sample.filename: list(sample.labels) for sample in table.samples} == expected
    assert len(table.samples) == 5950
    assert len(table.classes) == 133
    assert round(sum(len(sample.labels) for sample in table.samples) / 5950, 2) == 1.51
    trained = {name for sample in table.split("train") for name in sample.labels}
    assert trained == set(table.classes)


CELLS: tuple[tuple[Callable[[Path], object], str], ...] = (
    (replaced(TABLE, "[1.0]", "[2.0]"), "has no category 2.0"),
    (replaced(TABLE, "[1.0]", "[1.5]"), "has no category 1.5"),
    (replaced(TABLE, "[1.0]", "[NaN]"), "has no category nan"),
    (replaced(TABLE, "[1.0]", "[true]"), "has no category True"),
    (replaced(TABLE, "[1.0]", "1.0"), "are no list such as"),
    (replaced(TABLE, "[1.0]", "[1.0"), "are no list such as"),
    (replaced(TABLE, "3b6f01ae", "../3b6f"), "leaves the image folder"),
    (appended(TABLE, f"{next(iter(fathomnet.IMAGES))},[1.0]\n"), "twice"),
    (replaced(KEY, "9,Apost", "1,Apost"), "comes twice"),
    (replaced(KEY, "id,name", "id,label"), "has no column 'name'"),
)


@pytest.mark.parametrize(("damage", "sentence"), CELLS)
def test_wrong_content_gets_one_sentence(
    damage: Callable[[Path], object], sentence: str, raw: Path
) -> None:
    fathomnet.write(raw)
    damage(raw)
    refused("fathomnet", raw, sentence)
