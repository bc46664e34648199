"""One-hot tables: splits of their own, very many classes, and bad input."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from raw_archives import onehot
from raw_archives.conversions import prepare, refused, replaced
from raw_archives.images import save

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


def _write(raw: Path, images: list[str], table: str, text: str) -> None:
    for number, name in enumerate(images):
        save(raw / name, number)
    (raw / table).write_text(text)


@pytest.mark.parametrize(("delimiter", "mark"), [("\t", ""), (";", "\ufeff"), (",", "")])
def test_uc_merced(delimiter: str, mark: str, raw: Path) -> None:
    """Names without extension, a folder for each scene, a blank column at the end."""
    names = ("agricultural00", "agricultural01", "airplane00")
    images = [f"Images/{name[:-2]}/{name}.tif" for name in names]
    lines = (
        ["IMAGE\\LABEL", "airplane", "bare-soil", "cars", ""],
        *([name, str(int("air" in name)), "1", "0", ""] for name in names),
    )
    text = "".join(delimiter.join(line) + "\n" for line in lines)
    _write(raw, images, "LandUse_Multilabeled.txt", mark + text)
    rows, _ = prepare("onehot", raw)
    assert [rows[image][0] for image in images] == [
        *(["bare-soil"], ["bare-soil"], ["airplane", "bare-soil"])
    ]
    wrong = "," if delimiter != "," else ";"
    refused("onehot", raw, "--filename-column", "--delimiter", wrong, "--overwrite")


CHEXPERT = """Path,Sex,Age,Frontal/Lateral,No Finding,Edema,Fracture
CheXpert-v1.0-small/train/patient1/study1/view1.jpg,Female,68,Frontal,1.0,,
CheXpert-v1.0-small/train/patient2/study1/view1.jpg,Male,1,Lateral,,1.0,-1.0
CheXpert-v1.0-small/train/patient3/study1/view1.jpg,Male,0,Frontal,,0.0,1.0
CheXpert-v1.0-small/train/patient4/study1/view1.jpg,Male,0,Frontal,0.0,1.0,0.0
"""


def test_chexpert(raw: Path) -> None:
    """Names with folders that are not there, columns of no class, blanks and -1."""
    images = [f"train/patient{number}/study1/view1.jpg" for number in (1, 2, 3, 4)]
    _write(raw, images, "train.csv", CHEXPERT)
    refused("onehot", raw, "column 'Sex': 'Female' is neither 0 nor 1; name a column that is no")
    flags: tuple[str, ...] = ("--ignore-columns", "Sex", "Age", "Frontal/Lateral", "No Finding")
    refused("onehot", raw, "line 2, column 'Edema': '' is neither 0 nor 1; say what", *flags)
    flags = (*flags, "--blank-is", "absent")
    refused("onehot", raw, "'-1.0' is neither 0 nor 1; say what it means by --uncertain", *flags)
    rows, _ = prepare("onehot", raw, *flags, "--uncertain-is", "present")
    assert [rows[image][0] for image in images] == [
        *([], ["Edema", "Fracture"], ["Fracture"], ["Edema"])
    ]
    flags = ("--classes", "Edema", "Fracture", "--blank-is", "present", "--overwrite")
    rows, manifest = prepare("onehot", raw, *flags, "--uncertain-is", "drop")
    assert rows[images[0]][0] == ["Edema", "Fracture"]
    assert manifest["skipped"] == [
        {"filename": images[1], "reason": "its row has an uncertain cell"}
    ]
    refused("onehot", raw, "Did you mean 'Edema'?", "--classes", "Edemma")


def test_names_without_folder_may_mean_several_images(raw: Path) -> None:
    text = "photo no,a\nx0,yes\nx1,No\nx2,1.00\n"  # the file column is found by its content
    _write(raw, ["A/x0.png", "B/x0.png", "B/x1.png", "B/x2.png"], "t.csv", text)
    refused("onehot", raw, "line 2: 'x0' may be A/x0.png or B/x0.png; write the whole name")
    rows, _ = prepare("onehot", raw, "--images", "B")
    assert {name: labels for name, (labels, _) in rows.items()} == {
        "x0.png": ["a"],
        "x1.png": [],
        "x2.png": ["a"],
    }


def test_a_folder_that_differs_is_another_image(raw: Path) -> None:
    text = "image,a\ndive1/x0.png,1\ndive2/x1.png,1\ndive2/x2.png,1\n"
    _write(raw, ["dive2/x0.png", "dive2/x1.png", "dive2/x2.png"], "t.csv", text)
    rows, manifest = prepare("onehot", raw)
    assert sorted(rows) == ["dive2/x1.png", "dive2/x2.png"]
    assert [each["filename"] for each in manifest["skipped"]] == ["dive1/x0.png"]


def test_crosses_and_the_numbers_of_pandas(raw: Path) -> None:
    text = ",file,a,b\n0,0.png,x,\n1,1.png,,x\n2,2.png,X,x\n"
    _write(raw, ["0.png", "1.png", "2.png"], "t.csv", text)
    rows, _ = prepare("onehot", raw, "--blank-is", "absent")
    assert [rows[f"{number}.png"][0] for number in range(3)] == [["a"], ["b"], ["a", "b"]]


CELLS: tuple[tuple[Callable[[Path], object], str], ...] = (
    (lambda raw: (raw / "labels.csv").write_text("a,b\n0,1\n1,0\n"), "by --filename-column"),
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
