"""GeoLifeCLEF 2024: presence-absence surveys, a satellite patch each, many rows a survey."""

from __future__ import annotations

import argparse
import math
from array import array
from pathlib import Path

from tqdm import tqdm

from helper_functions import cli
from helper_functions.errors import UserError
from helper_functions.prepare.rows import MISSING, Dropped, Found, Row
from helper_functions.prepare.sources import Sources, whole_number

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


class _Surveys:
    """The rows of the table, grouped by survey.

    Species are numbered as they come, and kept as arrays: 1.5 million rows need a few MiB.
    """

    def __init__(self) -> None:
        self.species: dict[str, int] = {}  # cell -> number, for "123.0" and "123" the same
        self.ids: list[int] = []
        self.by_survey: dict[int, array[int]] = {}
        self.places: dict[int, tuple[float, float]] = {}
        self.moved: set[int] = set()
        self._numbers: dict[int, int] = {}

    def species_number(self, cell: str, where: str) -> int:
        number = self.species.get(cell)
        if number is None:
            identity = whole_number(cell, where, "speciesId")
            number = self._numbers.setdefault(identity, len(self.ids))
            if number == len(self.ids):
                self.ids.append(identity)
            self.species[cell] = number
        return number

    def labels(self, survey: int) -> tuple[str, ...]:
        identities = sorted({self.ids[number] for number in self.by_survey[survey]})
        return tuple(map(str, identities))


def _degrees(text: str, limit: float, where: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not -limit <= value <= limit:
        raise UserError(f"{where}: {column} {text[:40]!r} is not a number of degrees.")
    return value


def _read_surveys(sources: Sources, path: Path, *, placed: bool) -> _Surveys:
    surveys = _Surveys()
    columns = ["surveyId", "speciesId", *(("lon", "lat") if placed else ())]
    for line, (survey_cell, species_cell, *place_cells) in sources.table(path, columns):
        where = f"{path}, line {line}"
        survey = whole_number(survey_cell, where, "surveyId")
        surveys.by_survey.setdefault(survey, array("l")).append(
            surveys.species_number(species_cell, where)
        )
        if placed:
            lon = _degrees(place_cells[0], 180, where, "lon")
            lat = _degrees(place_cells[1], 90, where, "lat")
            if surveys.places.setdefault(survey, (lon, lat)) != (lon, lat):
                surveys.moved.add(survey)
    return surveys


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
    if surveys.moved:
        found.notes.append(
            f"{len(surveys.moved):,} surveys have rows at different places; the first counts."
        )
    for survey in tqdm(surveys.by_survey, desc="looking for patches", disable=None, leave=False):
        names = patch_names(survey)
        name = next((each for each in names if (folder / each).is_file()), None)
        if name is None and not options.keep_missing:
            found.dropped.append(Dropped(names[0], MISSING))
            continue
        place = surveys.places.get(survey)
        found.rows.append(Row(name or names[0], surveys.labels(survey), None, place))
    found.notes.append(_BLOCKS.format(degrees=options.spatial_block) if placed else _RANDOM)
    return found
