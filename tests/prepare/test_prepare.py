"""Converters: every trap of the raw layouts, cuts, manifests, repetition, and bad input."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
import os
import random
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Command
from raw_archives import coco, fathomnet, geolifeclef, onehot, shiprsimagenet, treesatai
from raw_archives.pictures import noise

from helper_functions.check_data.__main__ import make_parser as check_data_parser
from helper_functions.data.bands import Reading
from helper_functions.data.images import read_image
from helper_functions.data.splits import read_split_table
from helper_functions.prepare.__main__ import main, make_parser
from helper_functions.prepare.cutting import cut_at_random, cut_by_blocks
from helper_functions.prepare.geolifeclef import patch_names
from helper_functions.prepare.rows import Row
from helper_functions.runtime.errors import UserError
from helper_functions.training import flags as train_flags

ARCHIVES: dict[str, ModuleType] = {
    "treesatai": treesatai,
    "geolifeclef": geolifeclef,
    "fathomnet": fathomnet,
    "shiprsimagenet": shiprsimagenet,
    "coco": coco,
    "onehot": onehot,
}
GLC_TABLE = "GLC24_PA_metadata_train.csv"
TREE_LABELS = "labels/TreeSatBA_v9_60m_multi_labels.json"
FATHOM_TABLE = "multilabel_classification/train.csv"
FATHOM_KEY = "multilabel_classification/category_key.csv"
SHIP_XML = "VOC_Format/Annotations/000001.xml"
SHIP_COCO = "COCO_Format/ShipRSImageNet_bbox_{}_level_3.json"

Result = tuple[dict[str, tuple[list[str], str]], dict[str, Any]]


def prepare(layout: str, raw: Path, *flags: object, out: str = "out/splits.csv") -> Result:
    """Labels and split of every picture, and the manifest; beside the raw folder."""
    path = raw.parent / out
    main([layout, "--raw-dir", str(raw), "--out", str(path), *map(str, flags)])
    rows = {s.filename: (list(s.labels), s.split) for s in read_split_table(path).samples}
    manifest = json.loads(path.with_name(f"{path.stem}.manifest.json").read_text(encoding="utf-8"))
    return rows, manifest


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Where a raw set goes."""
    return tmp_path / "raw"


@pytest.mark.parametrize("layout", ARCHIVES)
def test_the_manifest_tells_what_was_read_and_decided(layout: str, raw: Path) -> None:
    ARCHIVES[layout].write(raw)
    rows, manifest = prepare(layout, raw)
    table = (raw.parent / "out" / "splits.csv").read_bytes()
    assert manifest["layout"] == layout
    assert manifest["split_csv"] == {
        "bytes": len(table),
        "sha256": hashlib.sha256(table).hexdigest(),
    }
    assert manifest["sources"]
    for source in manifest["sources"]:
        if "files" in source:
            paths = sorted(raw.glob(source["file"]))
            assert source["files"] == len(paths)
            assert source["bytes"] == sum(path.stat().st_size for path in paths)
        else:
            content = (raw / source["file"]).read_bytes()
            assert source["bytes"] == len(content)
            assert source["sha256"] == hashlib.sha256(content).hexdigest()
    splits = Counter(split for _, split in rows.values())
    assert manifest["pictures"] == {name: splits[name] for name in ("train", "val", "test")}
    counts = Counter((name, split) for labels, split in rows.values() for name in labels)
    assert manifest["classes"] == {
        name: {split: counts[name, split] for split in ("train", "val", "test")}
        for name in {name for name, _ in counts}
    }
    assert str(raw) not in json.dumps(manifest)
    cut = any(split is None for _, split in ARCHIVES[layout].write(raw.parent / "again").values())
    assert manifest["options"].get("val_fraction") == (0.1 if cut else None)
    ours = layout not in ("coco", "onehot")
    assert any("this is a re-creation" in note for note in manifest["notes"]) == ours


@pytest.mark.parametrize("layout", ARCHIVES)
def test_repeated_commands_give_equal_bytes_and_others_need_overwrite(
    layout: str, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ARCHIVES[layout].write(raw)
    flag = {"treesatai": ("--min-area", "0"), "shiprsimagenet": ("--level", "1")}.get(
        layout, ("--seed", "1", "--val-fraction", "0.4")
    )
    files = [raw.parent / "out" / name for name in ("splits.csv", "splits.manifest.json")]
    if layout == "coco":
        (raw / "annotations" / "instances_val2017.json").unlink()

    prepare(layout, raw)
    first = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    capsys.readouterr()
    prepare(layout, raw)
    assert "are up to date" in capsys.readouterr().out
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in files] == first
    with pytest.raises(UserError, match=r"is there already and differs .* --overwrite"):
        prepare(layout, raw, *flag)
    assert [path.read_bytes() for path in files] == [content for content, _ in first]
    prepare(layout, raw, *flag, "--overwrite")
    assert all(
        path.read_bytes() != content for path, (content, _) in zip(files, first, strict=True)
    )
    prepare(layout, raw, out="elsewhere/splits.csv")
    assert [(raw.parent / "elsewhere" / path.name).read_bytes() for path in files] == [
        content for content, _ in first
    ]
    # Killed between the two files, the command completes them.
    files[0].unlink()
    prepare(layout, raw, *flag)
    assert {path.name for path in files[0].parent.iterdir()} == {path.name for path in files}


@pytest.mark.parametrize("layout", ARCHIVES)
def test_a_dry_run_counts_and_writes_nothing(
    layout: str, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ARCHIVES[layout].write(raw)
    before = sorted(raw.parent.rglob("*"))
    main([layout, "--raw-dir", str(raw), "--out", str(raw.parent / "new/s.csv"), "--dry-run"])
    assert sorted(raw.parent.rglob("*")) == before
    printed = capsys.readouterr().out
    assert "Nothing is written (--dry-run)" in printed
    rows, _ = prepare(layout, raw)
    assert f"{len(rows)} pictures (" in printed


# TreeSatAI


def test_treesatai_shares_above_the_threshold_are_labels(raw: Path) -> None:
    truth = treesatai.write(raw)
    rows, manifest = prepare("treesatai", raw)
    assert rows == truth
    assert rows["Abies_alba_1_834_WEFL_NLF.tif"] == (["Abies"], "train")
    assert rows["Alnus_spec._5_117_WEFL_NLF.tif"] == (["Alnus"], "train")
    assert rows["Acer_pseudoplatanus_2_12_BI_NLF.tif"] == (["Acer"], "train")  # 7 % is not above
    assert manifest["dropped"] == [
        {"filename": treesatai.EMPTY, "reason": "no genus covers more than 0.07 of it"}
    ]
    assert manifest["options"]["min_area"] == 0.07
    assert "above 0.07" in manifest["label_source"]
    assert "not the species of the file names" in manifest["label_source"]
    rows, manifest = prepare("treesatai", raw, "--min-area", 0, "--overwrite")
    assert rows["Abies_alba_1_834_WEFL_NLF.tif"][0] == ["Abies", "Picea"]
    assert rows[treesatai.EMPTY][0] == ["Cleared", "Pinus"]
    assert manifest["dropped"] == []


def test_treesatai_validation_is_the_test_list_or_a_cut(raw: Path) -> None:
    truth = treesatai.write(raw)
    _, manifest = prepare("treesatai", raw)
    assert any("published test list is the split val" in note for note in manifest["notes"])
    rows, manifest = prepare("treesatai", raw, "--val-fraction", 0.3, "--overwrite")
    published = {name for name, (_, split) in truth.items() if split == "val"}
    assert {name for name, (_, split) in rows.items() if split == "test"} == published
    cut = [name for name, (_, split) in rows.items() if split == "val"]
    assert 0 < len(cut) < len(truth) - len(published)
    assert any("neighbouring tiles leak" in note for note in manifest["notes"])


def test_treesatai_reads_the_time_series_edition(raw: Path) -> None:
    truth = treesatai.write(raw, "aerial")
    assert prepare("treesatai", raw)[0] == truth


@pytest.mark.parametrize(("bands", "numbers"), [("paper", "1, 2, 3"), ("rgb", "4, 2, 3")])
def test_treesatai_names_the_bands_to_read(bands: str, numbers: str, raw: Path) -> None:
    treesatai.write(raw)
    _, manifest = prepare("treesatai", raw, "--bands", bands)
    assert manifest["options"]["bands"] == bands
    assert f"Bands {numbers} of infrared, green, blue, red are to be read" in manifest["notes"][0]


def test_treesatai_tiles_hold_their_bands_in_the_published_order(raw: Path) -> None:
    treesatai.write(raw)
    for number, (name, _, _) in enumerate(treesatai.TILES):
        infrared, green, blue, red = np.moveaxis(noise(number, 4), -1, 0)
        for bands, expected in (
            ("paper", (infrared, green, blue)),
            ("rgb", (red, green, blue)),
        ):
            picture = read_image(raw / "aerial/60m" / name, Reading(bands))
            np.testing.assert_array_equal(np.asarray(picture), np.stack(expected, axis=-1))


def test_treesatai_download_tells_the_source_and_checks_what_is_there(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    treesatai.write(raw)
    archive = treesatai.write_archive(raw)
    prepare("treesatai", raw, "--download")
    printed = capsys.readouterr().out
    assert "https://zenodo.org/records/6780578" in printed
    assert "sizes and checksums are not known to this program" in printed
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    size = archive.stat().st_size
    assert f"{archive.name}: whole, 1 files, {size:,} bytes, SHA-256 {digest}" in printed
    assert "tiles in aerial/60m: 14 (50,381 are published)" in printed
    content = bytearray(archive.read_bytes())
    content[100] ^= 255
    archive.write_bytes(content)
    with pytest.raises(UserError, match=r"aerial_60m_abies_alba\.zip is damaged .*again"):
        prepare("treesatai", raw, "--download", "--overwrite")


def test_treesatai_odd_entries_are_listed_with_reasons(raw: Path) -> None:
    treesatai.write(raw)
    (raw / "train_filenames.lst").open("a").write("Larix_decidua_9_9_WEFL_NLF.tif\n")
    labels = json.loads((raw / TREE_LABELS).read_text())
    labels["Tilia_spec._19_1_BI_NLF.tif"] = [["Tilia", 1.0]]
    labels["Acer_pseudoplatanus_2_12_BI_NLF.tif"] = [["Acer pseudoplatanus", 1.0]]
    (raw / TREE_LABELS).write_text(json.dumps(labels))
    (raw / "aerial/60m/Picea_abies_10_1_WEFL_NLF.tif").unlink()
    _, manifest = prepare("treesatai", raw)
    assert {d["filename"]: d["reason"] for d in manifest["dropped"]} == {
        treesatai.EMPTY: "no genus covers more than 0.07 of it",
        "Larix_decidua_9_9_WEFL_NLF.tif": "it has no labels",
        "Tilia_spec._19_1_BI_NLF.tif": "neither list names it",
        "Picea_abies_10_1_WEFL_NLF.tif": "the picture is not there",
    }
    assert manifest["dropped_by_reason"]["the picture is not there"] == 1
    notes = " ".join(manifest["notes"])
    assert "none of the 15 published genera: Acer pseudoplatanus" in notes
    assert "2 classes occur in validation or test only and cannot be learnt: Picea" not in notes
    assert "1 class occurs in validation or test only and cannot be learnt: Picea" not in notes


# GeoLifeCLEF


def test_geolifeclef_surveys_keep_all_their_species(raw: Path) -> None:
    truth = geolifeclef.write(raw)
    rows, manifest = prepare("geolifeclef", raw)
    assert {name: labels for name, (labels, _) in rows.items()} == {
        name: labels for name, (labels, _) in truth.items()
    }
    assert rows["12/2/212.jpeg"][0] == ["476", "6874"]
    assert manifest["dropped"] == [
        {"filename": geolifeclef.MISSING, "reason": "the picture is not there"}
    ]
    assert any("neighbouring surveys leak" in note for note in manifest["notes"])


def test_geolifeclef_patches_lie_under_the_last_digits() -> None:
    assert patch_names(3018575) == ["75/85/3018575.jpeg"]
    assert patch_names(212) == ["12/2/212.jpeg", "12/02/212.jpeg", "12/02/0212.jpeg"]
    assert patch_names(5) == ["5/5.jpeg", "05/00/5.jpeg", "05/00/0005.jpeg"]


@pytest.mark.parametrize("degrees", [0.5, 2.0])
def test_geolifeclef_blocks_are_not_divided(degrees: float, raw: Path) -> None:
    geolifeclef.write(raw)
    flags = ("--spatial-block", degrees, "--val-fraction", 0.4)
    rows, manifest = prepare("geolifeclef", raw, *flags)
    sides: dict[tuple[int, int], set[str]] = {}
    for patch, lon, lat, _ in geolifeclef.SURVEYS.values():
        if patch is not None:
            block = math.floor(lon / degrees), math.floor(lat / degrees)
            sides.setdefault(block, set()).add(rows[patch][1])
    assert all(len(splits) == 1 for splits in sides.values())
    assert {split for splits in sides.values() for split in splits} == {"train", "val"}
    assert sum(split == "val" for _, split in rows.values()) <= 0.4 * len(rows)
    assert manifest["options"]["spatial_block"] == degrees


def test_geolifeclef_says_when_blocks_leave_classes_to_validation_only(raw: Path) -> None:
    geolifeclef.write(raw)
    table = raw / GLC_TABLE
    table.write_text(table.read_text() + "12.2,41.9,2021,5,100,ATLANTIC,Italy,99.0,2401001\n")
    flags = ("--spatial-block", 1, "--val-fraction", 0.5)
    for seed in range(20):
        rows, manifest = prepare("geolifeclef", raw, *flags, "--seed", seed, "--overwrite")
        only = "1 class occurs in validation or test only and cannot be learnt: 99."
        in_validation = rows["01/10/2401001.jpeg"][1] == "val"
        assert (only in manifest["notes"]) == in_validation
        if in_validation:
            return
    pytest.fail("No seed puts the block in validation.")


def test_geolifeclef_survey_at_two_places_is_noted(raw: Path) -> None:
    geolifeclef.write(raw)
    table = raw / GLC_TABLE
    table.write_text(table.read_text() + "9.9,41.9,2021,5,100,ATLANTIC,Italy,476.0,2401001\n")
    _, manifest = prepare("geolifeclef", raw, "--spatial-block", 0.5, "--val-fraction", 0.4)
    assert "1 surveys have rows at different places; the first counts." in manifest["notes"]


# FathomNet


def test_fathomnet_names_come_from_the_key_and_extensions_from_coco(raw: Path) -> None:
    truth = fathomnet.write(raw)
    rows, manifest = prepare("fathomnet", raw)
    assert {name: labels for name, (labels, _) in rows.items()} == {
        name: labels for name, (labels, _) in truth.items()
    }
    assert "4a7f2199-772d-486d-b8e2-b651246316b5.jpg" in rows
    assert any("hidden" in note for note in manifest["notes"])
    shutil.rmtree(raw / "object_detection")
    assert prepare("fathomnet", raw, "--overwrite")[0] == rows  # then by the pictures themselves


def test_fathomnet_without_pictures_needs_an_extension(raw: Path) -> None:
    fathomnet.write(raw, pictures=False)
    shutil.rmtree(raw / "object_detection")
    with pytest.raises(UserError, match=r"line 2: .*3b6f01ae.* give it by --extension"):
        prepare("fathomnet", raw, "--keep-missing")
    rows, _ = prepare("fathomnet", raw, "--keep-missing", "--extension", "png")
    assert {name.rpartition(".")[2] for name in rows} == {"png"}


def _shared() -> Path | None:
    named = os.environ.get("VOLUNET_SHARED")
    folders = [Path(named)] if named else [ROOT.parent / "shared"]
    return next((folder for folder in folders if folder.is_dir()), None)


def test_fathomnet_published_tables_convert_without_loss(tmp_path: Path) -> None:
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


# ShipRSImageNet


@pytest.mark.parametrize("level", range(4))
def test_shiprsimagenet_levels_and_published_splits(level: int, raw: Path) -> None:
    shiprsimagenet.write(raw)
    rows, manifest = prepare("shiprsimagenet", raw, "--level", level)
    assert rows == shiprsimagenet.truth(level)
    assert rows["000005.bmp"] == (["Dock"], "train")
    assert rows["000022.bmp"] == (["Dock"], "test")
    assert rows["000004.bmp"] == ([], "train")
    assert manifest["options"]["level"] == level
    instances = sum(len(objects) for _, objects in shiprsimagenet.PICTURES.values())
    assert f"There are {instances} instances; 17,573 are published." in manifest["notes"]


def _shift_coco(raw: Path, stems: int) -> None:
    """Move the categories of the first pictures of both COCO files by one."""
    for split in ("train", "val"):
        path = raw / SHIP_COCO.format(split)
        content = json.loads(path.read_text())
        for entry in content["annotations"]:
            if entry["image_id"] < stems:
                entry["category_id"] = entry["category_id"] % 50 + 1
        path.write_text(json.dumps(content))


def test_shiprsimagenet_numbers_are_held_against_coco(raw: Path) -> None:
    shiprsimagenet.write(raw)
    _shift_coco(raw, 1)
    _, manifest = prepare("shiprsimagenet", raw)
    note = "COCO_Format gives other labels for 2 of 9 pictures (the first: 000001.bmp)"
    assert any(note in each for each in manifest["notes"])
    _shift_coco(raw, 9)
    with pytest.raises(UserError, match="the class numbers do not fit"):
        prepare("shiprsimagenet", raw, "--overwrite")


def test_shiprsimagenet_pictures_without_annotation_are_listed(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shiprsimagenet.write(raw)
    (raw / "VOC_Format/Annotations/000022.xml").unlink()
    (raw / "VOC_Format/JPEGImages/000006.bmp").unlink()
    rows, manifest = prepare("shiprsimagenet", raw, "--download")
    assert len(rows) == 9
    assert manifest["dropped_by_reason"] == {
        "its annotation is not there": 1,
        "the picture is not there": 1,
    }
    printed = capsys.readouterr().out
    assert "the address, sizes and checksums are not known to this program" in printed
    assert "pictures in VOC_Format: 10 (3,435 are published)" in printed


# COCO and one-hot tables


def test_coco_pictures_are_found_below_the_folder(raw: Path) -> None:
    truth = coco.write(raw)
    (raw / "loop").symlink_to(raw)
    assert prepare("coco", raw)[0] == truth
    (raw / "copy").mkdir()
    shutil.copy(raw / "train2017" / "000000000009.jpg", raw / "copy")
    with pytest.raises(UserError, match=r"several pictures '000000000009\.jpg' .* --images"):
        prepare("coco", raw, "--overwrite")


def test_coco_files_can_be_named_and_validation_cut(raw: Path) -> None:
    truth = coco.write(raw)
    train, val = (f"annotations/instances_{split}2017.json" for split in ("train", "val"))
    rows, _ = prepare("coco", raw, "--json", f"train={train}", f"test={val}", "--val-fraction", 0.2)
    assert {name for name, (_, split) in rows.items() if split == "test"} == {
        name for name, (_, split) in truth.items() if split == "val"
    }
    assert sum(split == "val" for _, split in rows.values()) == 1
    flags = ("--json", train, "--images", "train2017", "--overwrite")
    rows, _ = prepare("coco", raw, *flags)
    assert set(rows) == {Path(name).name for name, (_, s) in truth.items() if s == "train"}


def test_onehot_tables_may_bring_their_splits(raw: Path) -> None:
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


def test_onehot_tables_may_have_very_many_classes(raw: Path) -> None:
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


# Cuts


def test_a_random_cut_keeps_every_class_in_training() -> None:
    rows = [Row(f"{n}.png", (f"c{n % 40}", *(("rare",) * (n == 3))), None) for n in range(100)]
    for seed in range(10):
        cut = cut_at_random(rows, 0.3, seed)
        assert [row.filename for row in cut] == [row.filename for row in rows]
        assert sum(row.split == "val" for row in cut) == 30
        trained = {name for row in cut if row.split == "train" for name in row.labels}
        assert trained == {name for row in rows for name in row.labels}
    assert cut_at_random(rows, 0.3, 0) != cut_at_random(rows, 0.3, 1)


def test_blocks_of_the_map_meet_at_whole_multiples_of_their_side() -> None:
    centres = (-0.75, -0.25, 0.25, 0.75)
    rows = [Row(f"{lon}/{n}.png", ("x",), None, (lon, -0.1)) for lon in centres for n in range(5)]
    chosen = set()
    for seed in range(40):
        cut = cut_by_blocks(rows, 0.25, seed, 0.5)
        val = [row.filename for row in cut if row.split == "val"]
        (block,) = {name.partition("/")[0] for name in val}
        assert len(val) == 5
        chosen.add(float(block))
    assert chosen == set(centres)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([Row("a.png", ("x",), None)], "cannot be cut from 1 picture"),
        ([Row(f"{n}.png", (f"{n}",), None) for n in range(5)], "the only one of a class"),
    ],
)
def test_what_cannot_be_cut_is_refused(rows: list[Row], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        cut_at_random(rows, 0.1, 0)


# Bad input

TABLES = {
    "treesatai": TREE_LABELS,
    "geolifeclef": GLC_TABLE,
    "fathomnet": FATHOM_TABLE,
    "shiprsimagenet": SHIP_COCO.format("train"),
    "coco": "annotations/instances_train2017.json",
    "onehot": "labels.csv",
}


def _refused(layout: str, raw: Path, sentence: str, *flags: object) -> None:
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


def _link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


WHOLE_FILE: dict[str, tuple[Callable[[Path], object], dict[str, str]]] = {
    "empty": (lambda path: path.write_bytes(b""), {"csv": "is empty", "json": "read as JSON"}),
    "not UTF-8": (
        lambda path: path.write_bytes(path.read_bytes() + "Bäume".encode("latin-1")),
        {"csv": "is not UTF-8 text", "json": "is not UTF-8 text"},
    ),
    "UTF-16": (
        lambda path: path.write_bytes(path.read_text().encode("utf-16")),
        {"csv": "is not UTF-8 text", "json": "is not UTF-8 text"},
    ),
    "a loop of links": (_link_to_itself, {"csv": "", "json": ""}),
    "missing": (Path.unlink, {"csv": "", "json": ""}),
    "cut off": (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        {"json": "read as JSON"},
    ),
    "semicolons": (
        lambda path: path.write_text(path.read_text().replace(",", ";")),
        {"csv": "Use commas between the columns."},
    ),
    "a quote left open": (
        lambda path: path.write_text(path.read_text() + '"x,1\n'),
        {"csv": "is not a valid CSV row"},
    ),
    "100,000 columns": (
        lambda path: path.write_text(",".join(f"column{n}" for n in range(100_000)) + "\n"),
        {"csv": "has no column"},
    ),
    "a row too long": (
        lambda path: path.write_text(path.read_text() + "1,2,3,4,5,6,7,8,9,10,11\n"),
        {"csv": "columns, but the header has"},
    ),
    "a header only": (
        lambda path: path.write_text(path.read_text().splitlines()[0] + "\n"),
        {"csv": "no row"},
    ),
    "a very long cell": (
        lambda path: path.write_text(path.read_text() + "x" * 200_000),
        {"csv": "is not a valid CSV row"},
    ),
    "another JSON": (lambda path: path.write_text("[1, 2]"), {"json": "is no "}),
    "deep JSON": (lambda path: path.write_text("[" * 100_000), {"json": "read as JSON"}),
    "not a number": (
        lambda path: path.write_text('{"images": NaN}'),
        {"json": "NaN is not a number"},
    ),
    "a key twice": (
        lambda path: path.write_text('{"images": [], "images": []}'),
        {"json": "'images' comes twice"},
    ),
}


def _whole_file_cases() -> Iterator[Any]:
    for layout, table in TABLES.items():
        for name, (damage, sentences) in WHOLE_FILE.items():
            sentence = sentences.get(table.rpartition(".")[2])
            if sentence is None:
                continue
            if damage in (Path.unlink, _link_to_itself):
                if layout == "shiprsimagenet":
                    continue  # the names then come from the file of the split val
                listed = damage is _link_to_itself and layout in ("coco", "onehot")
                sentence = "cannot be read: Too many levels" if listed else "holds no"
            yield pytest.param(layout, table, damage, sentence, id=f"{layout}: {name}")


@pytest.mark.parametrize(("layout", "table", "damage", "sentence"), list(_whole_file_cases()))
def test_damaged_files_get_one_sentence(
    layout: str, table: str, damage: Callable[[Path], object], sentence: str, raw: Path
) -> None:
    ARCHIVES[layout].write(raw)
    damage(raw / table)
    _refused(layout, raw, sentence)


@pytest.mark.parametrize("layout", TABLES)
def test_byte_order_marks_and_windows_line_ends_change_nothing(layout: str, raw: Path) -> None:
    ARCHIVES[layout].write(raw)
    expected, _ = prepare(layout, raw)
    for path in raw.rglob("*"):
        if path.suffix in (".csv", ".json", ".lst", ".txt"):
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert prepare(layout, raw, "--overwrite")[0] == expected


def test_float_and_quoted_identifiers_change_nothing(raw: Path) -> None:
    geolifeclef.write(raw)
    expected, _ = prepare("geolifeclef", raw)
    with (raw / GLC_TABLE).open(newline="") as file:
        rows = list(csv.reader(file))
    rows = [rows[0], *([*row[:7], row[7].removesuffix(".0"), f"{row[8]}.0"] for row in rows[1:])]
    with (raw / GLC_TABLE).open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    assert prepare("geolifeclef", raw, "--overwrite")[0] == expected


def _replace(path: str, old: str, new: str) -> Callable[[Path], None]:
    """Replace a text that a file holds."""

    def damage(raw: Path) -> None:
        text = (raw / path).read_text()
        assert old in text
        (raw / path).write_text(text.replace(old, new, 1))

    return damage


def _append(path: str, text: str) -> Callable[[Path], None]:
    def damage(raw: Path) -> None:
        with (raw / path).open("a") as file:
            file.write(text)

    return damage


COCO = TABLES["coco"]
GLC_ROW = "1,2,2021,5,100,ATLANTIC,France,{},{}\n"
ABIES = '"Abies_alba_1_834_WEFL_NLF.tif"'
CELLS: tuple[tuple[str, Callable[[Path], object], str], ...] = (
    ("geolifeclef", _replace(GLC_TABLE, "speciesId", "species"), "has no column 'speciesId'"),
    ("geolifeclef", _replace(GLC_TABLE, "country", "surveyId"), "has 2 columns 'surveyId'"),
    ("geolifeclef", _append(GLC_TABLE, GLC_ROW.format("", 7)), "speciesId '' is not a whole"),
    ("geolifeclef", _append(GLC_TABLE, GLC_ROW.format("12.5", 7)), "speciesId '12.5' is not"),
    ("geolifeclef", _append(GLC_TABLE, GLC_ROW.format("nan", 7)), "speciesId 'nan' is not"),
    ("geolifeclef", _append(GLC_TABLE, GLC_ROW.format("1e5", 7)), "speciesId '1e5' is not"),
    ("geolifeclef", _append(GLC_TABLE, GLC_ROW.format(7, "../../etc")), "surveyId '../../etc'"),
    ("geolifeclef", _append(GLC_TABLE, GLC_ROW.format(7, "9" * 5000)), "is not a whole number"),
    ("treesatai", _replace(TREE_LABELS, ABIES, '"/etc/x.tif"'), "leaves the image folder"),
    ("treesatai", _replace(TREE_LABELS, ABIES, '"../x.tif"'), "leaves the image folder"),
    ("treesatai", _replace(TREE_LABELS, ABIES, '"C:\\\\x.tif"'), "leaves the image folder"),
    ("treesatai", _replace(TREE_LABELS, ABIES, '"\\ud800.tif"'), "is not valid Unicode"),
    ("treesatai", _replace(TREE_LABELS, ABIES, '"a\\u0000.tif"'), "holds a control character"),
    ("treesatai", _replace(TREE_LABELS, ABIES, '" "'), "the file name is empty"),
    ("treesatai", _replace(TREE_LABELS, ABIES, f'"{"x" * 256}"'), "too long for a file system"),
    ("treesatai", _replace(TREE_LABELS, ABIES, f'"{"x/" * 600}"'), "too long for a file system"),
    ("treesatai", _replace(TREE_LABELS, ABIES, '"Alnus_spec._5_90_WEFL_NLF.tif"'), "comes twice"),
    ("treesatai", _replace(TREE_LABELS, "0.93771", '"0.9"'), "share '0.9' is not from 0 to 1"),
    ("treesatai", _replace(TREE_LABELS, "0.93771", "93.8"), "area share '93.8'"),
    ("treesatai", _replace(TREE_LABELS, '["Abies", 0.93771]', '"Abies"'), "[genus, area share]"),
    ("treesatai", _append("test_filenames.lst", ABIES.strip('"')), "is listed a second time"),
    ("treesatai", _append("test_filenames.lst", "../../x.tif"), "leaves the image folder"),
    ("fathomnet", _replace(FATHOM_TABLE, "[1.0]", "[2.0]"), "has no category 2.0"),
    ("fathomnet", _replace(FATHOM_TABLE, "[1.0]", "[1.5]"), "has no category 1.5"),
    ("fathomnet", _replace(FATHOM_TABLE, "[1.0]", "[NaN]"), "has no category nan"),
    ("fathomnet", _replace(FATHOM_TABLE, "[1.0]", "[true]"), "has no category True"),
    ("fathomnet", _replace(FATHOM_TABLE, "[1.0]", "1.0"), "are no list such as"),
    ("fathomnet", _replace(FATHOM_TABLE, "[1.0]", "[1.0"), "are no list such as"),
    ("fathomnet", _replace(FATHOM_TABLE, "3b6f01ae", "../3b6f"), "leaves the image folder"),
    ("fathomnet", _append(FATHOM_TABLE, f"{next(iter(fathomnet.PICTURES))},[1.0]\n"), "twice"),
    ("fathomnet", _replace(FATHOM_KEY, "9,Apost", "1,Apost"), "comes twice"),
    ("fathomnet", _replace(FATHOM_KEY, "id,name", "id,label"), "has no column 'name'"),
    ("shiprsimagenet", _replace(SHIP_XML, "<level_3>1<", "<level_3>0<"), "not from 1 to 50"),
    ("shiprsimagenet", _replace(SHIP_XML, "<level_3>1<", "<level_3>51<"), "not from 1 to 50"),
    ("shiprsimagenet", _replace(SHIP_XML, "<level_3>1<", "<level_3>x<"), "is not a whole number"),
    ("shiprsimagenet", _replace(SHIP_XML, "<level_3>1</level_3>", ""), "level_3 '' is not a"),
    ("shiprsimagenet", _replace(SHIP_XML, "</annotation>", ""), "cannot be read as XML"),
    (
        "shiprsimagenet",
        _replace(SHIP_XML, "<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>'),
        "it declares a document type",
    ),
    ("shiprsimagenet", _append("VOC_Format/ImageSets/val.txt", "000001\n"), "train and val"),
    ("shiprsimagenet", _append("VOC_Format/ImageSets/val.txt", "../1\n"), "leaves the image"),
    ("coco", _replace(COCO, "000000000009.jpg", "../9.jpg"), "leaves the image folder"),
    ("coco", _replace(COCO, "000000000009.jpg", "/9.jpg"), "leaves the image folder"),
    ("coco", _replace(COCO, "000000000009.jpg", "000000000139.jpg"), "train and val"),
    ("coco", _replace(COCO, "000000000009.jpg", "000000000025.jpg"), "train twice"),
    ("coco", _replace(COCO, '"id": 9,', '"id": 25,'), "the id 25 comes twice"),
    ("coco", _replace(COCO, '"image_id": 9,', '"image_id": 7,'), "there is no image 7"),
    ("coco", _replace(COCO, '"category_id": 3', '"category_id": 2'), "there is no category 2"),
    ("coco", _replace(COCO, '"category_id": 3', '"category_id": null'), "not an identifier"),
    ("coco", _replace(COCO, '"name": "car"', '"name": "person"'), "comes twice"),
    ("coco", _replace(COCO, '"name": "car"', '"name": " "'), "a class has an empty name"),
    ("coco", _replace(COCO, '"annotations"', '"notes"'), "it has no list 'annotations'"),
    ("coco", lambda raw: (raw / COCO).rename(raw / "annotations/a.json"), "by --json"),
    ("coco", lambda raw: shutil.copy(raw / COCO, raw / "train.json"), "the same split"),
    ("onehot", _replace("labels.csv", "filename", "file"), "has no column 'filename'"),
    ("onehot", _replace("labels.csv", "anemone", "crab"), "has two columns 'crab'"),
    ("onehot", _replace("labels.csv", ",1,", ",2,"), "'2' is neither 0 nor 1"),
    ("onehot", _replace("labels.csv", ",1,", ",,"), "'' is neither 0 nor 1"),
    ("onehot", _replace("labels.csv", "dive0/000", "/dive0/000"), "leaves the image folder"),
    ("onehot", _replace("labels.csv", "dive0/000", "dive1/001"), "is listed for"),
    ("onehot", lambda raw: shutil.copy(raw / "labels.csv", raw / "b.csv"), "table by --csv"),
)


@pytest.mark.parametrize(("layout", "damage", "sentence"), CELLS)
def test_wrong_content_gets_one_sentence(
    layout: str, damage: Callable[[Path], object], sentence: str, raw: Path
) -> None:
    ARCHIVES[layout].write(raw)
    damage(raw)
    _refused(layout, raw, sentence)


_FILES = {
    "treesatai": (TREE_LABELS, "train_filenames.lst"),
    "geolifeclef": (GLC_TABLE,),
    "fathomnet": (FATHOM_TABLE, FATHOM_KEY, "object_detection/train.json"),
    "shiprsimagenet": (SHIP_XML, SHIP_COCO.format("train"), "VOC_Format/ImageSets/val.txt"),
    "coco": (TABLES["coco"],),
    "onehot": ("labels.csv",),
}
_PIECES = (
    *(b"", b"\x00", b"\xff", b"\n", b"\r", b'"', b",", b";", b"[", b"]", b"{", b"}", b"<", b"../"),
    *(b"null", b"-1", b"1e999", b"9" * 30, b"true", b"\\ud800", b"\xef\xbb\xbf", b"\xc3\xa4"),
)


@pytest.mark.parametrize("rounds", [15, pytest.param(400, id="thorough", marks=pytest.mark.slow)])
@pytest.mark.parametrize("layout", ARCHIVES)
def test_damage_anywhere_is_refused_or_read(layout: str, rounds: int, raw: Path) -> None:
    ARCHIVES[layout].write(raw)
    out = raw.parent / "out"
    flags = [layout, "--raw-dir", str(raw), "--out", str(out / "splits.csv"), "--keep-missing"]
    draw = random.Random(layout)
    ended: Counter[bool] = Counter()
    for _ in range(rounds):
        for name in _FILES[layout]:
            path = raw / name
            whole = path.read_bytes()
            start = draw.randrange(len(whole))
            end = min(start + draw.choice((0, 1, 1, 5)), len(whole))
            path.write_bytes(whole[:start] + draw.choice(_PIECES) + whole[end:])
            try:
                main(flags)
            except UserError as error:
                assert "\n" not in str(error)
                assert not out.exists()
                ended[False] += 1
            else:
                assert read_split_table(out / "splits.csv").samples
                shutil.rmtree(out)
                ended[True] += 1
            path.write_bytes(whole)
    assert ended[False] > 0


@pytest.mark.parametrize(
    ("column", "value"), [(0, "181"), (0, "east"), (1, "-90.5"), (1, "nan"), (1, "")]
)
def test_places_off_the_map_are_refused(column: int, value: str, raw: Path) -> None:
    geolifeclef.write(raw)
    cells = GLC_ROW.format(476, 7).split(",")
    cells[column] = value
    _append(GLC_TABLE, ",".join(cells))(raw)
    _refused("geolifeclef", raw, "is not a number of degrees", "--spatial-block", 1)


def test_a_share_that_nothing_is_cut_by_is_refused(raw: Path) -> None:
    coco.write(raw)
    _refused("coco", raw, "every picture has its split already", "--val-fraction", 0.2)


def test_blocks_too_large_are_refused(raw: Path) -> None:
    geolifeclef.write(raw)
    _refused("geolifeclef", raw, "choose a smaller --spatial-block", "--spatial-block", 90)


@pytest.mark.parametrize("layout", ARCHIVES)
def test_no_picture_at_all_is_refused(layout: str, raw: Path) -> None:
    ARCHIVES[layout].write(raw)
    for path in raw.rglob("*"):
        if path.suffix in (".tif", ".jpeg", ".png", ".jpg", ".bmp"):
            path.unlink()
    _refused(layout, raw, "--keep-missing")
    assert prepare(layout, raw, "--keep-missing")[0]


@pytest.mark.parametrize("layout", ARCHIVES)
def test_an_empty_folder_is_refused(layout: str, raw: Path) -> None:
    raw.mkdir()
    _refused(layout, raw, f"{raw} holds no")


def test_the_table_may_be_written_beside_a_onehot_table(raw: Path) -> None:
    onehot.write(raw)
    first, _ = prepare("onehot", raw, out="raw/splits.csv")
    assert prepare("onehot", raw, out="raw/splits.csv")[0] == first


def test_outputs_that_cannot_be_are_refused(raw: Path) -> None:
    onehot.write(raw)
    flags = ["onehot", "--raw-dir", str(raw), "--out"]
    (raw.parent / "folder.csv").mkdir()
    (raw.parent / "file").write_text("")
    (raw.parent / "loop.csv").symlink_to("loop.csv")
    for out, sentence in (
        (raw.parent / "folder.csv", "is a folder"),
        (raw.parent / "splits.txt", r"should end in \.csv"),
        (raw.parent / "file" / "splits.csv", "cannot be"),
        (raw.parent / "loop.csv", "cannot be read: Too many levels of symbolic links"),
    ):
        with pytest.raises(UserError, match=sentence):
            main([*flags, str(out)])
    with pytest.raises(UserError, match="is a file of the raw data set"):
        main([*flags, str(raw / "labels.csv"), "--csv", "labels.csv", "--overwrite"])
    assert (raw / "labels.csv").read_text().startswith("filename,crab")


@pytest.mark.parametrize("write", [1, 2])
def test_a_full_disk_leaves_whole_files(
    write: int, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onehot.write(raw)
    prepare("onehot", raw)
    folder = raw.parent / "out"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    wanted = raw.parent / "wanted"
    prepare("onehot", raw, "--seed", 1, out="wanted/splits.csv")
    after = {path.name: path.read_bytes() for path in wanted.iterdir()}
    calls = iter(range(1, 9))

    def sync(_file: int) -> None:
        if next(calls) == write:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(OSError, match="No space left"):
        prepare("onehot", raw, "--seed", 1, "--overwrite")
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(there) == set(before)
    assert there["splits.csv"] == before["splits.csv"]
    manifest = before if write == 1 else after
    assert there["splits.manifest.json"] == manifest["splits.manifest.json"]
    monkeypatch.undo()
    prepare("onehot", raw, "--seed", 1, "--overwrite")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == after


def test_the_command_ends_with_status_2_and_one_line(command: Command, raw: Path) -> None:
    geolifeclef.write(raw)
    (raw / GLC_TABLE).write_text("")
    out = raw.parent / "out" / "splits.csv"
    flags = ("geolifeclef", "--raw-dir", raw, "--out", out)
    done = command("-m", "helper_functions.prepare", *flags)
    assert done.returncode == 2
    assert done.stderr == (
        f"prepare: error: {raw / GLC_TABLE} is empty; it should be a CSV with a header.\n"
    )
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("geolifeclef", "--spatial-block", "0"), "--spatial-block: 0 is out of range"),
        (("treesatai", "--min-area", "7"), "--min-area: 7 is out of range"),
        (("treesatai", "--bands", "4,2,3"), "--bands: invalid choice"),
        (("shiprsimagenet", "--level", "4"), "--level: invalid choice"),
        (("fathomnet", "--jobs", "1000"), "--jobs: 1000 is out of range"),
        (("onehot", "--val-fraction", "1"), "--val-fraction: 1 is out of range"),
        (("imagenet",), "invalid choice: 'imagenet'"),
    ],
)
def test_wrong_flags_get_one_line(
    flags: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([*flags, "--raw-dir", "x", "--out", "x.csv"])
    assert left.value.code == 2
    errors = capsys.readouterr().err
    assert sentence in errors
    assert len(errors.splitlines()) == 1


def test_the_commands_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    chapter = text.split("\n## Data sets\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", chapter, re.DOTALL)
    commands = [shlex.split(line) for b in blocks for line in b.replace("\\\n", "").splitlines()]
    prepared: dict[str, Path] = {}
    for words in commands:
        if words[:3] == ["python", "-m", "helper_functions.prepare"]:
            if words[3] != "LAYOUT":
                prepared[words[3]] = make_parser().parse_args(words[3:]).out
        elif words[:2] == ["python", "train.py"]:
            options = train_flags.make_parser().parse_args(words[2:])
            assert options.csv_path == prepared[options.dataset]
        else:
            assert words[:3] == ["python", "-m", "helper_functions.check_data"]
            check_data_parser().parse_args(words[3:])
    assert set(prepared) == set(ARCHIVES)
