"""Time and memory that ``prepare geolifeclef`` needs for a table as large as the published one.

    python tests/benchmarks/prepare_geolifeclef.py [--patches]

The rows are drawn at random. ``--patches`` writes an empty file for every survey, so that
finding the patches is part of it.
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ROWS, SURVEYS, SPECIES = 1_483_637, 88_987, 5_016
HEADER = (
    *("lon", "lat", "year", "geoUncertaintyInM", "areaInM2"),
    *("region", "country", "speciesId", "surveyId"),
)
PATCHES = "PA_Train_SatellitePatches_RGB/pa_train_patches_rgb"


def write_table(folder: Path) -> None:
    """Every survey and species comes at least once; species are as unequal as in nature."""
    rng = np.random.default_rng(0)
    surveys = np.concatenate([np.arange(SURVEYS), rng.integers(0, SURVEYS, ROWS - SURVEYS)])
    weight = 1 / np.arange(1, SPECIES + 1)
    drawn = rng.choice(SPECIES, ROWS - SPECIES, p=weight / weight.sum())
    species = np.concatenate([np.arange(SPECIES), drawn])
    lon, lat = rng.uniform(-10, 30, SURVEYS), rng.uniform(36, 65, SURVEYS)
    with (folder / "GLC24_PA_metadata_train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for row in rng.permutation(ROWS):
            survey = surveys[row]
            location = (f"{lon[survey]:.5f}", f"{lat[survey]:.5f}")
            rest = (2021, 5.0, 100.0, "ATLANTIC", "France", float(species[row]), 3_000_000 + survey)
            writer.writerow((*location, *rest))


def write_patches(folder: Path) -> None:
    """Empty files where patches belong."""
    for number in range(3_000_000, 3_000_000 + SURVEYS):
        digits = str(number)
        below = folder / PATCHES / digits[-2:] / digits[-4:-2]
        below.mkdir(parents=True, exist_ok=True)
        (below / f"{digits}.jpeg").touch()


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print seconds and largest resident memory of both cuts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", action="store_true")
    patches = parser.parse_args().patches
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder)
        if patches:
            write_patches(folder)
        for cut in ((), ("--spatial-block", "0.5")):
            module = [sys.executable, "-m", "helper_functions.prepare", "geolifeclef"]
            flags = ["--raw-dir", name, "--out", f"{name}/{len(cut)}.csv", *cut]
            start, used = time.perf_counter(), _processor_seconds()
            keep = [] if patches else ["--keep-missing"]
            subprocess.run([*module, *flags, *keep], cwd=ROOT, check=True)
            seconds = time.perf_counter() - start
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            used = _processor_seconds() - used
            times = f"{seconds:.1f} s, of which the processor works {used:.1f} s"
            print(f"{' '.join(cut) or 'random cut'}: {times}, {memory:,.0f} MiB at most\n")


if __name__ == "__main__":
    main()
