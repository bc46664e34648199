"""GeoLifeCLEF 2024: presence-absence surveys, a satellite patch each, many rows a survey."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from helper_functions import cli
from helper_functions.prepare.rows import MISSING, Dropped, Found, Row
from helper_functions.prepare.sources import Sources, whole_number
from helper_functions.runtime.errors import UserError

HELP = "GeoLifeCLEF 2024 (Kaggle)"
CUTS = True

TABLE = "GLC24_PA_metadata_train.csv"
PATCHES = ("PA_Train_SatellitePatches_RGB/pa_train_patches_rgb", "pa_train_patches_rgb")
_RANDOM = (
    "The validation split is cut at random among the training surveys; neighbouring surveys leak "
    "between the splits. --spatial-block cuts by squares of the map."
)
_BLOCKS = (
    "The validation split is cut by squares of {degrees:g} degrees among the training surveys."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """How validation is cut."""
    parser.add_argument(
        "--spatial-block",
        type=cli.number(float, 1e-4, 90),
        metavar="DEGREES",
        help="cut validation by squares of this side in longitude and latitude (default: survey "
        "by survey, where neighbours leak)",
    )


def patch_names(survey: int) -> list[str]:
    """Where the patch of a survey may lie: ``CD/AB/XXXXABCD.jpeg`` by its last four digits.

    Ids of fewer than four digits occur plain (``12/2/212.jpeg``) and padded with zeros.
    """
    plain, padded = str(survey), f"{survey:04d}"
    names = [
        f"{folders[-2:]}/{folders[-4:-2]}/{name}.jpeg".replace("//", "/")
        for folders, name in ((plain, plain), (padded, plain), (padded, padded))
    ]
    return list(dict.fromkeys(names))


@dataclass
class _Survey:
    """What the rows of a survey say.

    Attributes:
        species: Their names, one text object a species however many rows: a table of 1.5 million
            rows then needs some 100 MiB.
        place: Longitude and latitude of the first row, if they are asked for.
        moved: Whether a row gives another place.
    """

    species: list[str] = field(default_factory=list)
    place: tuple[float, float] | None = None
    moved: bool = False

    def labels(self) -> tuple[str, ...]:
        """The species by number."""
        return tuple(sorted(set(self.species), key=int))


def _degrees(text: str, limit: float, where: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not -limit <= value <= limit:
        raise UserError(f"{where}: {column} {text[:40]!r} is not a number of degrees.")
    return value


def _read_surveys(sources: Sources, path: Path, *, placed: bool) -> dict[int, _Survey]:
    """All rows, grouped by survey.

    Every identifier and place is parsed where its text comes first, not row after row.
    """
    surveys: dict[int, _Survey] = {}
    by_cell: dict[str, _Survey] = {}
    names: dict[str, str] = {}
    places: dict[tuple[str, ...], tuple[float, float]] = {}
    columns = ["surveyId", "speciesId", *(("lon", "lat") if placed else ())]
    for line, (survey_cell, species_cell, *place_cell) in sources.table(path, columns):
        survey = by_cell.get(survey_cell)
        if survey is None:
            number = whole_number(survey_cell, f"{path}, line {line}", "surveyId")
            survey = by_cell[survey_cell] = surveys.setdefault(number, _Survey())
        name = names.get(species_cell)
        if name is None:
            number = whole_number(species_cell, f"{path}, line {line}", "speciesId")
            name = names[species_cell] = sys.intern(str(number))
        survey.species.append(name)
        if placed:
            place = places.get(tuple(place_cell))
            if place is None:
                place = places[tuple(place_cell)] = _place(place_cell, f"{path}, line {line}")
            survey.moved = survey.moved or survey.place not in (None, place)
            survey.place = survey.place or place
    return surveys


def _place(cells: Sequence[str], where: str) -> tuple[float, float]:
    lon, lat = cells
    return _degrees(lon, 180, where, "lon"), _degrees(lat, 90, where, "lat")


def read(options: argparse.Namespace, sources: Sources) -> Found:
    """Read the table of the training surveys and look for their patches.

    Raises:
        UserError: If a file or column is missing or an identifier is not a whole number.
    """
    table = sources.find(TABLE, advice="unpack the Kaggle download there")
    folder = next(
        (sources.folder / name for name in PATCHES if (sources.folder / name).is_dir()),
        sources.folder / PATCHES[0],
    )
    found = Found(folder, f"speciesId of all rows of a survey in {TABLE}")
    placed = options.spatial_block is not None
    surveys = _read_surveys(sources, table, placed=placed)
    if moved := sum(survey.moved for survey in surveys.values()):
        found.notes.append(f"{moved:,} surveys have rows at different places; the first counts.")
    bar = tqdm(surveys.items(), desc="looking for patches", disable=None, leave=False)
    for number, survey in bar:
        names = patch_names(number)
        name = next((each for each in names if (folder / each).is_file()), None)
        if name is None and not options.keep_missing:
            found.dropped.append(Dropped(names[0], MISSING))
            continue
        found.rows.append(Row(name or names[0], survey.labels(), None, survey.place))
    found.notes.append(_BLOCKS.format(degrees=options.spatial_block) if placed else _RANDOM)
    return found
