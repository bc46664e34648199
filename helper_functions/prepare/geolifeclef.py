"""GeoLifeCLEF 2024: presence-absence surveys, a satellite patch each, many rows a survey."""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from pathlib import Path

from tqdm import tqdm

from helper_functions import cli
from helper_functions.prepare.rows import MISSING, ConversionResult, Row
from helper_functions.prepare.sources import Sources, parse_integer
from helper_functions.runtime.errors import UserError

HELP = "GeoLifeCLEF 2024 (Kaggle)"
CUTS = True

TABLE = "GLC24_PA_metadata_train.csv"
PATCHES = ("PA_Train_SatellitePatches_RGB/pa_train_patches_rgb", "pa_train_patches_rgb")
_RANDOM = (
    "The validation split is cut at random among the training surveys; neighboring surveys leak "
    "between the splits. --spatial-block cuts by squares of the map."
)
_BLOCKS = "The validation split is cut by squares of {:g} degrees among the training surveys."


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flag of the cut."""
    block = (
        "cut validation by squares of this side in longitude and latitude (default: survey by "
        "survey, so that neighbors leak)"
    )
    degrees = cli.number(float, 1e-4, 90)
    parser.add_argument("--spatial-block", type=degrees, metavar="DEGREES", help=block)


def patch_names(survey: int) -> list[str]:
    """Return where the patch of a survey may lie: ``CD/AB/XXXXABCD.jpeg`` by its last digits.

    Ids of fewer than four digits occur plain (``12/2/212.jpeg``) and padded with zeros.
    """
    plain, padded = str(survey), f"{survey:04d}"
    names = [
        f"{folders[-2:]}/{folders[-4:-2]}/{name}.jpeg".replace("//", "/")
        for folders, name in ((plain, plain), (padded, plain), (padded, padded))
    ]
    return list(dict.fromkeys(names))


def _degrees(text: str, limit: float, where: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not -limit <= value <= limit:
        raise UserError(f"{where}: {column} {text[:40]!r} is not a number of degrees.")
    return value


def _read_surveys(
    sources: Sources, path: Path, *, located: bool
) -> tuple[dict[int, list[str]], dict[int, tuple[float, float]], int]:
    """Return species of all rows and, if ``located``, longitude and latitude, by survey.

    The third value is the number of surveys with rows at different places; the first row counts.
    """
    species: defaultdict[int, list[str]] = defaultdict(list)
    locations: dict[int, tuple[float, float]] = {}
    moved: set[int] = set()
    columns = ["surveyId", "speciesId", *(("lon", "lat") if located else ())]
    for line, (survey_cell, species_cell, *cells) in sources.columns(path, columns):
        where = f"{path}, line {line}"
        survey = parse_integer(survey_cell, where, "surveyId")
        name = str(parse_integer(species_cell, where, "speciesId"))
        species[survey].append(sys.intern(name))  # One text a species: 1.5 million rows fit.
        if located:
            location = _degrees(cells[0], 180, where, "lon"), _degrees(cells[1], 90, where, "lat")
            if locations.setdefault(survey, location) != location:
                moved.add(survey)
    return species, locations, len(moved)


def read(options: argparse.Namespace, sources: Sources) -> ConversionResult:
    """Read the table of the training surveys and find their patches.

    Raises:
        UserError: If a file or column is missing or an identifier is not a whole number.
    """
    table = sources.find(TABLE, advice="unpack the Kaggle download there")
    folders = [sources.folder / name for name in PATCHES]
    folder = next(filter(Path.is_dir, folders), folders[0])
    result = ConversionResult(folder, f"speciesId of all rows of a survey in {TABLE}")
    located = options.spatial_block is not None
    species, locations, moved = _read_surveys(sources, table, located=located)
    if moved:
        result.notes.append(f"{moved:,} surveys have rows at different places; the first counts.")
    for survey in tqdm(species, desc="finding patches", disable=None, leave=False):
        names = patch_names(survey)
        name = next((each for each in names if (folder / each).is_file()), None)
        if name is None and not options.keep_missing:
            result.skipped.append((names[0], MISSING))
            continue
        labels = tuple(sorted(set(species[survey]), key=int))
        result.rows.append(Row(name or names[0], labels, None, locations.get(survey)))
    result.notes.append(_BLOCKS.format(options.spatial_block) if located else _RANDOM)
    return result
