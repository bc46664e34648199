"""Conversions of the tiny data sets: run, refused, and with damaged files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helper_functions.data.splits import read_split_table
from helper_functions.prepare.__main__ import main
from helper_functions.runtime.errors import UserError
from raw_archives import coco, fathomnet, geolifeclef, labels, onehot, shiprsimagenet, treesatai

ARCHIVES: dict[str, ModuleType] = {
    "treesatai": treesatai,
    "geolifeclef": geolifeclef,
    "fathomnet": fathomnet,
    "shiprsimagenet": shiprsimagenet,
    "coco": coco,
    "onehot": onehot,
    "labels": labels,
}
# The file of each that holds the labels.
TABLES = {
    "treesatai": "labels/TreeSatBA_v9_60m_multi_labels.json",
    "geolifeclef": "GLC24_PA_metadata_train.csv",
    "fathomnet": "multilabel_classification/train.csv",
    "shiprsimagenet": "COCO_Format/ShipRSImageNet_bbox_train_level_3.json",
    "coco": "annotations/instances_train2017.json",
    "onehot": "labels.csv",
    "labels": "labels.csv",
}

Result = tuple[dict[str, tuple[list[str], str]], dict[str, Any]]


def prepare(layout: str, raw: Path, *flags: object, out: str = "out/splits.csv") -> Result:
    """Labels and split of every image, and the manifest; beside the raw folder."""
    path = raw.parent / out
    main([layout, "--raw-dir", str(raw), "--out", str(path), *map(str, flags)])
    rows = {s.filename: (list(s.labels), s.split) for s in read_split_table(path).samples}
    manifest = json.loads(path.with_name(f"{path.stem}.manifest.json").read_text(encoding="utf-8"))
    return rows, manifest


def refused(layout: str, raw: Path, sentence: str, *flags: object) -> None:
    """One sentence, nothing written."""
    before = sorted(raw.parent.rglob("*"))
    with pytest.raises(UserError) as caught:
        prepare(layout, raw, *flags)
    message = str(caught.value)
    assert sentence in message
    assert len(message) < 700
    assert "\n" not in message
    assert message.endswith((".", "?"))
    assert sorted(raw.parent.rglob("*")) == before


def replaced(path: str, old: str, new: str) -> Callable[[Path], None]:
    """What replaces a text that a file of a raw folder holds."""

    def damage(raw: Path) -> None:
        text = (raw / path).read_text()
        assert old in text
        (raw / path).write_text(text.replace(old, new, 1))

    return damage


def appended(path: str, text: str) -> Callable[[Path], None]:
    """What appends a text to a file of a raw folder."""

    def damage(raw: Path) -> None:
        with (raw / path).open("a") as file:
            file.write(text)

    return damage
