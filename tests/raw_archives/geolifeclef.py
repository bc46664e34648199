"""GeoLifeCLEF 2024: many rows a survey, float species, patches in folders of digits."""

from __future__ import annotations

from pathlib import Path

from raw_archives.images import Truth, save

HEADER = "lon,lat,year,geoUncertaintyInM,areaInM2,region,country,speciesId,surveyId"
# Survey -> its patch, longitude and latitude, species. Short ids lie plain or padded with zeros.
SURVEYS: dict[int, tuple[str | None, float, float, list[int]]] = {
    212: ("12/2/212.jpeg", 3.10, 43.50, [6874, 476]),
    37: ("37/00/37.jpeg", 3.12, 43.51, [476]),
    5: ("05/00/0005.jpeg", 3.15, 43.52, [6874]),
    1234: ("34/12/1234.jpeg", 8.40, 55.10, [11157, 8784]),
    3018575: ("75/85/3018575.jpeg", 8.41, 55.10, [8784]),
    3018576: ("76/85/3018576.jpeg", 8.42, 55.13, [11157, 6874]),
    3018577: ("77/85/3018577.jpeg", -0.55, 44.80, [476, 8784]),
    2401000: ("00/10/2401000.jpeg", -0.56, 44.81, [6874, 11157]),
    2401001: ("01/10/2401001.jpeg", 12.20, 41.90, [476]),
    2401002: ("02/10/2401002.jpeg", 12.21, 41.91, [8784, 476]),
    2401003: ("03/10/2401003.jpeg", 12.22, 41.92, [6874]),
    2401004: (None, 12.23, 41.93, [6874]),
}
MISSING = "04/10/2401004.jpeg"


def rows() -> list[str]:
    """Rows of the table; those of a survey are not together."""
    longest = max(len(species) for *_, species in SURVEYS.values())
    return [
        f"{lon},{lat},2021,5.0,100.0,ATLANTIC,France,{float(species[turn])},{survey}"
        for turn in range(longest)
        for survey, (_, lon, lat, species) in SURVEYS.items()
        if turn < len(species)
    ]


def write(folder: Path) -> Truth:
    """The truth leaves out the survey without a patch."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "GLC24_PA_metadata_train.csv"
    table.write_text("\n".join((HEADER, *rows())) + "\n")
    truth: Truth = {}
    for number, (patch, _, _, species) in enumerate(SURVEYS.values()):
        if patch is None:
            continue
        save(folder / "PA_Train_SatellitePatches_RGB" / "pa_train_patches_rgb" / patch, number)
        near = folder / "PA_Train_SatellitePatches_NIR" / "pa_train_patches_nir" / patch
        save(near, number, "L")
        truth[patch] = [str(name) for name in sorted(species)], None
    return truth
