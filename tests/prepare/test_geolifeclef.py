"""GeoLifeCLEF 2024: surveys of many rows, patch folders, the cut by blocks, and bad input."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from raw_archives import geolifeclef
from raw_archives.conversions import appended, prepare, refused, replaced

from helper_functions.prepare.geolifeclef import patch_names

TABLE = "GLC24_PA_metadata_train.csv"
GLC_ROW = "1,2,2021,5,100,ATLANTIC,France,{},{}\n"


def test_surveys_keep_all_their_species(raw: Path) -> None:
    truth = geolifeclef.write(raw)
    rows, manifest = prepare("geolifeclef", raw)
    assert {name: labels for name, (labels, _) in rows.items()} == {
        name: labels for name, (labels, _) in truth.items()
    }
    assert rows["12/2/212.jpeg"][0] == ["476", "6874"]
    assert manifest["skipped"] == [
        {"filename": geolifeclef.MISSING, "reason": "the image is not there"}
    ]
    assert any("neighboring surveys leak" in note for note in manifest["notes"])


def test_patches_lie_under_the_last_digits() -> None:
    assert patch_names(3018575) == ["75/85/3018575.jpeg"]
    assert patch_names(212) == ["12/2/212.jpeg", "12/02/212.jpeg", "12/02/0212.jpeg"]
    assert patch_names(5) == ["5/5.jpeg", "05/00/5.jpeg", "05/00/0005.jpeg"]


@pytest.mark.parametrize("degrees", [0.5, 2.0])
def test_blocks_are_not_divided(degrees: float, raw: Path) -> None:
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


def test_says_when_blocks_leave_classes_to_validation_only(raw: Path) -> None:
    geolifeclef.write(raw)
    table = raw / TABLE
    table.write_text(table.read_text() + "12.2,41.9,2021,5,100,ATLANTIC,Italy,99.0,2401001\n")
    flags = ("--spatial-block", 1, "--val-fraction", 0.5)
    for seed in range(20):
        rows, manifest = prepare("geolifeclef", raw, *flags, "--seed", seed, "--overwrite")
        only = "1 class occurs in validation or test only and cannot be learned: 99."
        in_validation = rows["01/10/2401001.jpeg"][1] == "val"
        assert (only in manifest["notes"]) == in_validation
        if in_validation:
            return
    pytest.fail("No seed puts the block in validation.")


def test_survey_at_two_places_is_noted(raw: Path) -> None:
    geolifeclef.write(raw)
    table = raw / TABLE
    table.write_text(table.read_text() + "9.9,41.9,2021,5,100,ATLANTIC,Italy,476.0,2401001\n")
    _, manifest = prepare("geolifeclef", raw, "--spatial-block", 0.5, "--val-fraction", 0.4)
    assert "1 surveys have rows at different places; the first counts." in manifest["notes"]


def test_float_and_quoted_identifiers_change_nothing(raw: Path) -> None:
    geolifeclef.write(raw)
    expected, _ = prepare("geolifeclef", raw)
    with (raw / TABLE).open(newline="") as file:
        rows = list(csv.reader(file))
    rows = [rows[0], *([*row[:7], row[7].removesuffix(".0"), f"{row[8]}.0"] for row in rows[1:])]
    with (raw / TABLE).open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    assert prepare("geolifeclef", raw, "--overwrite")[0] == expected


@pytest.mark.parametrize(
    ("column", "value"), [(0, "181"), (0, "east"), (1, "-90.5"), (1, "nan"), (1, "")]
)
def test_places_off_the_map_are_refused(column: int, value: str, raw: Path) -> None:
    geolifeclef.write(raw)
    cells = GLC_ROW.format(476, 7).split(",")
    cells[column] = value
    appended(TABLE, ",".join(cells))(raw)
    refused("geolifeclef", raw, "is not a number of degrees", "--spatial-block", 1)


def test_blocks_too_large_are_refused(raw: Path) -> None:
    geolifeclef.write(raw)
    refused("geolifeclef", raw, "choose a smaller --spatial-block", "--spatial-block", 90)


CELLS: tuple[tuple[Callable[[Path], object], str], ...] = (
    (replaced(TABLE, "speciesId", "species"), "has no column 'speciesId'"),
    (replaced(TABLE, "country", "surveyId"), "has 2 columns 'surveyId'"),
    (appended(TABLE, GLC_ROW.format("", 7)), "speciesId '' is not a whole"),
    (appended(TABLE, GLC_ROW.format("12.5", 7)), "speciesId '12.5' is not"),
    (appended(TABLE, GLC_ROW.format("nan", 7)), "speciesId 'nan' is not"),
    (appended(TABLE, GLC_ROW.format("1e5", 7)), "speciesId '1e5' is not"),
    (appended(TABLE, GLC_ROW.format(7, "../../etc")), "surveyId '../../etc'"),
    (appended(TABLE, GLC_ROW.format(7, "9" * 5000)), "is not a whole number"),
)


@pytest.mark.parametrize(("damage", "sentence"), CELLS)
def test_wrong_content_gets_one_sentence(
    damage: Callable[[Path], object], sentence: str, raw: Path
) -> None:
    geolifeclef.write(raw)
    damage(raw)
    refused("geolifeclef", raw, sentence)
