"""One-hot tables: splits of their own, very many classes, and bad input."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from raw_archives import onehot
from raw_archives.conversions import prepare, refused, replaced

from helper_functions.prepare.__main__ import main


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
    (replaced("labels.csv", "filename", "file"), "has no column 'filename'"),
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


def test_backslashes_and_decomposed_letters_are_read(raw: Path) -> None:
    truth = onehot.write(raw)
    (raw / "dive0" / "000.png").rename(raw / "dive0" / "e\u0301.png")
    text = (raw / "labels.csv").read_text().replace("dive0/000.png", "dive0/\xe9.png")
    (raw / "labels.csv").write_text(text.replace("/", "\\"))
    rows, manifest = prepare("onehot", raw)
    assert {name.replace("e\u0301", "000") for name in rows} == set(truth)
    assert manifest["skipped"] == []


def test_one_image_in_two_spellings_is_refused(raw: Path) -> None:
    onehot.write(raw)
    with (raw / "labels.csv").open("a") as table:
        table.write("dive0\\000.png,1,0,0\n")
    refused("onehot", raw, r"The image 'dive0\\000.png' (once as 'dive0/000.png') is listed for")


def test_images_that_cannot_be_read_and_backslashes_in_vain_are_noted(raw: Path) -> None:
    onehot.write(raw)
    (raw / "dive0" / "000.png").rename(raw / "dive0" / "000.heic")
    text = (raw / "labels.csv").read_text().replace("dive0/000.png", "dive0/000.heic")
    (raw / "labels.csv").write_text(text + "dive9\\a.png,1,0,0\n")
    _, manifest = prepare("onehot", raw)
    note = "1 file with an ending that cannot be read (.heic) was found; save such images as PNG"
    assert any(each.startswith(note) for each in manifest["notes"])
    reason = "the image is not there, also not with slashes for the backslashes"
    assert manifest["skipped"] == [{"filename": "dive9\\a.png", "reason": reason}]


def test_a_manifest_of_a_long_name_is_written(raw: Path) -> None:
    onehot.write(raw)
    out = raw.parent / "out" / ("s" * 251 + ".csv")
    main(["onehot", "--raw-dir", str(raw), "--out", str(out)])
    (manifest,) = out.parent.glob("*.manifest.json")
    assert manifest.name.startswith("s" * 200)
    assert out.is_file()
