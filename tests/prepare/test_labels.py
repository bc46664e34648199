"""Tables with a column of labels, in published layouts: separators, names of no class, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from raw_archives.conversions import prepare, refused
from raw_archives.images import save


def _write(raw: Path, images: list[str], lines: list[str]) -> None:
    for number, name in enumerate(images):
        save(raw / name, number)
    (raw / "table.csv").write_text("\n".join(lines) + "\n")


FINDINGS = ("Cardiomegaly", "Cardiomegaly|Effusion", "No Finding", "Effusion", "Mass|Effusion")


def _chest_xray(raw: Path) -> None:
    """The layout of ChestX-ray14: images in twelve folders, a trailing column without a name."""
    header = "Image Index,Finding Labels,Follow-up #,Patient Age,OriginalImage[Width,Height],"
    names = [f"0000000{number}_000.png" for number in range(len(FINDINGS))]
    images = [f"images_00{number + 1}/images/{name}" for number, name in enumerate(names)]
    rows = [
        f"{name},{cell},{number},58,2682,2749,"
        for number, (name, cell) in enumerate(zip(names, FINDINGS, strict=True))
    ]
    _write(raw, images, [header, *rows])


def test_labels_between_bars(raw: Path) -> None:
    _chest_xray(raw)
    refused("labels", raw, "line 3: the labels 'Cardiomegaly|Effusion' hold '|'; if it stands")
    rows, _ = prepare("labels", raw, "--separator", "|", "--none-label", "No Finding")
    assert {name: labels for name, (labels, _) in rows.items()} == {
        "images_001/images/00000000_000.png": ["Cardiomegaly"],
        "images_002/images/00000001_000.png": ["Cardiomegaly", "Effusion"],
        "images_003/images/00000002_000.png": [],
        "images_004/images/00000003_000.png": ["Effusion"],
        "images_005/images/00000004_000.png": ["Mass", "Effusion"],
    }


def test_labels_between_blanks(raw: Path) -> None:
    """The layout of plant-pathology-2021."""
    cells = ["healthy", "scab frog_eye_leaf_spot", "scab", "frog_eye_leaf_spot", "scab", "healthy"]
    lines = [f"{number}.jpg,{cell}" for number, cell in enumerate(cells)]
    images = [f"train_images/{number}.jpg" for number in range(len(cells))]
    _write(raw, images, ["image,labels", *lines])
    refused("labels", raw, "looks like 'scab' and 'frog_eye_leaf_spot'; if ' ' stands")
    rows, _ = prepare("labels", raw, "--separator", "space", "--none-label", "healthy")
    assert [rows[image][0] for image in images[:3]] == [
        [],
        ["scab", "frog_eye_leaf_spot"],
        ["scab"],
    ]
    rows, _ = prepare("labels", raw, "--separator", ",", "--overwrite")  # names hold blanks
    assert rows[images[1]][0] == ["scab frog_eye_leaf_spot"]


def test_an_image_has_the_labels_of_all_its_rows(raw: Path) -> None:
    lines = ["file,kind", "a.png,eel", "b.png,crab", "a.png,crab", "c.png,eel", "b.png,crab"]
    _write(raw, ["a.png", "b.png", "c.png"], lines)
    rows, manifest = prepare("labels", raw)
    found = {name: labels for name, (labels, _) in rows.items()}
    assert found == {"a.png": ["eel", "crab"], "b.png": ["crab"], "c.png": ["eel"]}
    assert any("5 rows name 3 images" in note for note in manifest["notes"])


def test_blank_cells_mean_what_the_flag_says(raw: Path) -> None:
    _write(raw, ["a.png", "b.png", "c.png"], ["file,tags", "a.png,", "b.png,x", "c.png,x"])
    refused("labels", raw, "line 2: 'a.png' has no label; say what that means by --blank-is.")
    assert prepare("labels", raw, "--blank-is", "absent")[0]["a.png"][0] == []
    rows, manifest = prepare("labels", raw, "--blank-is", "drop", "--overwrite")
    assert sorted(rows) == ["b.png", "c.png"]
    assert manifest["skipped"] == [{"filename": "a.png", "reason": "it has no label"}]


@pytest.mark.parametrize(
    ("header", "flags", "sentence"),
    [
        ("file,one,two", (), "(file, one, two); name it by --label-column"),
        ("file,one,two", ("--label-column", "too"), "Did you mean 'two'?"),
        ("what,label,label2", (), "has no column 'filename'"),
        ("file,label,split", (), "line 2: '7' is not a split"),
        ("file,array,labels", (), "hold a bracket without its partner; check --label-column"),
    ],
)
def test_columns_that_cannot_be_read(
    header: str, flags: tuple[str, ...], sentence: str, raw: Path
) -> None:
    cell = "['x'" if "array" in header else "7"
    _write(raw, ["a.png", "b.png"], [header, f"a.png,x,{cell}", f"c.png,x,{cell}"])
    refused("labels", raw, sentence, *flags)
