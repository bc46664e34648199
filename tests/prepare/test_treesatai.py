"""TreeSatAI: labels by area share, published lists, bands, archives, and bad input."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from raw_archives import treesatai
from raw_archives.conversions import appended, prepare, refused, replaced
from raw_archives.images import noise

from helper_functions.data.bands import ImageFormat
from helper_functions.data.images import read_image
from helper_functions.runtime.errors import UserError

LABELS = "labels/TreeSatBA_v9_60m_multi_labels.json"
ABIES = '"Abies_alba_1_834_WEFL_NLF.tif"'


def test_shares_above_the_threshold_are_labels(raw: Path) -> None:
    truth = treesatai.write(raw)
    rows, manifest = prepare("treesatai", raw)
    assert rows == truth
    assert rows["Abies_alba_1_834_WEFL_NLF.tif"] == (["Abies"], "train")
    assert rows["Alnus_spec._5_117_WEFL_NLF.tif"] == (["Alnus"], "train")
    assert rows["Acer_pseudoplatanus_2_12_BI_NLF.tif"] == (["Acer"], "train")  # 7 % is not above
    assert manifest["skipped"] == [
        {"filename": treesatai.EMPTY, "reason": "no genus covers more than 0.07 of it"}
    ]
    assert manifest["options"]["min_area"] == 0.07
    assert "above 0.07" in manifest["label_source"]
    assert "not the species of the file names" in manifest["label_source"]
    rows, manifest = prepare("treesatai", raw, "--min-area", 0, "--overwrite")
    assert rows["Abies_alba_1_834_WEFL_NLF.tif"][0] == ["Abies", "Picea"]
    assert rows[treesatai.EMPTY][0] == ["Cleared", "Pinus"]
    assert manifest["skipped"] == []


def test_validation_is_the_test_list_or_a_cut(raw: Path) -> None:
    truth = treesatai.write(raw)
    _, manifest = prepare("treesatai", raw)
    assert any("published test list is the split val" in note for note in manifest["notes"])
    rows, manifest = prepare("treesatai", raw, "--val-fraction", 0.3, "--overwrite")
    published = {name for name, (_, split) in truth.items() if split == "val"}
    assert {name for name, (_, split) in rows.items() if split == "test"} == published
    cut = [name for name, (_, split) in rows.items() if split == "val"]
    assert 0 < len(cut) < len(truth) - len(published)
    assert any("neighboring tiles leak" in note for note in manifest["notes"])


def test_reads_the_time_series_edition(raw: Path) -> None:
    truth = treesatai.write(raw, "aerial")
    assert prepare("treesatai", raw)[0] == truth


@pytest.mark.parametrize(("bands", "numbers"), [("paper", "1, 2, 3"), ("rgb", "4, 2, 3")])
def test_names_the_bands_to_read(bands: str, numbers: str, raw: Path) -> None:
    treesatai.write(raw)
    _, manifest = prepare("treesatai", raw, "--bands", bands)
    assert manifest["options"]["bands"] == bands
    assert f"Bands {numbers} of infrared, green, blue, red are to be read" in manifest["notes"][0]


def test_tiles_hold_their_bands_in_the_published_order(raw: Path) -> None:
    treesatai.write(raw)
    for number, (name, _, _) in enumerate(treesatai.TILES):
        infrared, green, blue, red = np.moveaxis(noise(number, 4), -1, 0)
        for bands, expected in (
            ("paper", (infrared, green, blue)),
            ("rgb", (red, green, blue)),
        ):
            image = read_image(raw / "aerial/60m" / name, ImageFormat(bands))
            np.testing.assert_array_equal(np.asarray(image), np.stack(expected, axis=-1))


def test_download_tells_the_source_and_checks_what_is_there(
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
    assert f"{archive.name}: intact, 1 files, {size:,} bytes, SHA-256 {digest}" in printed
    assert "tiles in aerial/60m: 14 (50,381 are published)" in printed
    content = bytearray(archive.read_bytes())
    content[100] ^= 255
    archive.write_bytes(content)
    with pytest.raises(UserError, match=r"aerial_60m_abies_alba\.zip is damaged .*again"):
        prepare("treesatai", raw, "--download", "--overwrite")


def test_odd_entries_are_listed_with_reasons(raw: Path) -> None:
    treesatai.write(raw)
    (raw / "train_filenames.lst").open("a").write("Larix_decidua_9_9_WEFL_NLF.tif\n")
    labels = json.loads((raw / LABELS).read_text())
    labels["Tilia_spec._19_1_BI_NLF.tif"] = [["Tilia", 1.0]]
    labels["Acer_pseudoplatanus_2_12_BI_NLF.tif"] = [["Acer pseudoplatanus", 1.0]]
    (raw / LABELS).write_text(json.dumps(labels))
    (raw / "aerial/60m/Picea_abies_10_1_WEFL_NLF.tif").unlink()
    _, manifest = prepare("treesatai", raw)
    assert {d["filename"]: d["reason"] for d in manifest["skipped"]} == {
        treesatai.EMPTY: "no genus covers more than 0.07 of it",
        "Larix_decidua_9_9_WEFL_NLF.tif": "it has no labels",
        "Tilia_spec._19_1_BI_NLF.tif": "neither list names it",
        "Picea_abies_10_1_WEFL_NLF.tif": "the image is not there",
    }
    assert manifest["skipped_by_reason"]["the image is not there"] == 1
    notes = " ".join(manifest["notes"])
    assert "none of the 15 published genera: Acer pseudoplatanus" in notes
    assert "2 classes occur in validation or test only and cannot be learned: Picea" not in notes
    assert "1 class occurs in validation or test only and cannot be learned: Picea" not in notes


CELLS: tuple[tuple[Callable[[Path], object], str], ...] = (
    (replaced(LABELS, ABIES, '"/etc/x.tif"'), "leaves the image folder"),
    (replaced(LABELS, ABIES, '"../x.tif"'), "leaves the image folder"),
    (replaced(LABELS, ABIES, '"C:\\\\x.tif"'), "leaves the image folder"),
    (replaced(LABELS, ABIES, '"\\ud800.tif"'), "is not valid Unicode"),
    (replaced(LABELS, ABIES, '"a\\u0000.tif"'), "holds a control character"),
    (replaced(LABELS, ABIES, '" "'), "the file name is empty"),
    (replaced(LABELS, ABIES, f'"{"x" * 256}"'), "too long for a file system"),
    (replaced(LABELS, ABIES, f'"{"x/" * 600}"'), "too long for a file system"),
    (replaced(LABELS, ABIES, '"Alnus_spec._5_90_WEFL_NLF.tif"'), "comes twice"),
    (replaced(LABELS, "0.93771", '"0.9"'), "share '0.9' is not from 0 to 1"),
    (replaced(LABELS, "0.93771", "93.8"), "area share '93.8'"),
    (replaced(LABELS, '["Abies", 0.93771]', '"Abies"'), "[genus, area share]"),
    (appended("test_filenames.lst", ABIES.strip('"')), "is listed a second time"),
    (appended("test_filenames.lst", "../../x.tif"), "leaves the image folder"),
)


@pytest.mark.parametrize(("damage", "sentence"), CELLS)
def test_wrong_content_gets_one_sentence(
    damage: Callable[[Path], object], sentence: str, raw: Path
) -> None:
    treesatai.write(raw)
    damage(raw)
    refused("treesatai", raw, sentence)
