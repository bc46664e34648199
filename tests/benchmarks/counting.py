"""Counting beside other ways to count: errors on the val split of one set, as a Markdown table.

    python tests/benchmarks/counting.py --img_dir DIR --csv_path splits.csv \\
        --points-path points.csv --output runs/peers --seeds 3 -- --network dilated

What follows ``--`` goes to ``train.py --task count``. The peers:

* a density map, regressed by the same network under the settings of our run: epochs, optimizer,
  batches, crops, augmentation, less what ``--density-flags`` changes; like ours, it is judged in
  its best epoch on the val split;
* scikit-image's ``blob_log``, ``blob_dog`` and ``peak_local_max``, with channel, sizes and
  threshold that have the lowest MAE on training images;
* the mean and the median count of the training images, whatever the image.

Each finished part stays in ``--output`` and is not repeated, so an interrupted run can be started
again. Seconds are those of training, or of counting the training images with all settings.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from timing import hardware

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from blob_counting import CHANNELS, DETECTORS, count_with, count_with_all, tune  # noqa: E402

from helper_functions.data.points import PointTable, read_points  # noqa: E402
from helper_functions.data.splits import SplitTable, read_split_table  # noqa: E402
from helper_functions.metrics.counting import (  # noqa: E402
    mean_absolute_error,
    root_mean_squared_error,
)
from helper_functions.runtime.files import make_folder, write_text  # noqa: E402

OURS = "LCFCN (ours)"
DENSITY = ROOT / "tests" / "density_map.py"
# Command lines of both programs of a learned method, without flags.
Programs = tuple[Sequence[object], Sequence[object]]
OUR_PROGRAMS: Programs = ((ROOT / "train.py",), (ROOT / "val.py",))
DENSITY_PROGRAMS: Programs = ((DENSITY, "train"), (DENSITY, "val"))


@dataclass(frozen=True)
class Images:
    """Images of a split and how many objects they show."""

    paths: list[Path]
    counts: npt.NDArray[np.int64]

    def some(self, limit: int) -> Images:
        """Return at most ``limit`` of them, evenly spread over the table."""
        step = math.ceil(len(self.paths) / limit)
        return Images(self.paths[::step], self.counts[::step])


@dataclass(frozen=True)
class Result:
    """Errors on the val split, seconds, and what else is to be told."""

    mae: float
    rmse: float
    seconds: float
    note: str = ""
    tuning_mae: float = 0.0


def read_images(options: argparse.Namespace, split: str) -> Images:
    """Return the images of a split with their counts."""
    table: SplitTable = read_split_table(options.csv_path, labels=False)
    names = [row.filename for row in table.samples]
    points: PointTable = read_points(options.points_path, names, labels=False)
    chosen = [row.filename for row in table.split(split)]
    counts = np.array([len(points.images[name]) for name in chosen], np.int64)
    return Images([options.img_dir / name for name in chosen], counts)


def kept(path: Path, compute: Callable[[], Result]) -> Result:
    """Return a result from its file; compute and write it if there is none."""
    if not path.is_file():
        print(f"{path.stem} ...", file=sys.stderr, flush=True)
        make_folder(path.parent)
        write_text(path, json.dumps(asdict(compute()), indent=2) + "\n")
    return Result(**json.loads(path.read_text()))


def call(program: Sequence[object], flags: Sequence[object]) -> None:
    """Run one of the programs; end with a sentence if it does not succeed."""
    words = [str(word) for word in (*program, *flags)]
    done = subprocess.run([sys.executable, *words], stdout=sys.stderr, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with status {done.returncode}.")


# What is learned


def data_flags(options: argparse.Namespace) -> list[object]:
    """Return the flags of the set, for all programs."""
    names = ("--img_dir", "--csv_path", "--points-path")
    values = (options.img_dir, options.csv_path, options.points_path)
    return [word for pair in zip(names, values, strict=True) for word in pair]


def train(programs: Programs, data: list[object], run: Path, flags: Sequence[object]) -> None:
    """Train, or go on with a training that was interrupted."""
    call(programs[0], [*flags, *data, "--output-path", run, "--resume", "auto"])


def validate(programs: Programs, data: list[object], run: Path, output: Path) -> Result:
    """Validate the best checkpoint of a run, image by image."""
    args = yaml.safe_load((run / "args.yaml").read_text())
    fixed = ("--batch-size", 1, "--tile-size", args["tile_size"], "--device", args["device"])
    call(
        programs[1], ["--ckpt-path", run / "model-highest.ckpt", *data, "--output", output, *fixed]
    )
    metrics = json.loads((output / "metrics.json").read_text())
    with (run / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    note = f"seed {args['seed']}, epochs: {len(rows)}"
    return Result(metrics["MAE"], metrics["RMSE"], sum(float(r["seconds"]) for r in rows), note)


def learned(options: argparse.Namespace) -> dict[str, list[Result]]:
    """Train and validate ours and the density maps, seed by seed."""
    data, parts = data_flags(options), options.output / "parts"
    results: dict[str, list[Result]] = {}
    runs = options.runs or [options.output / f"ours_{seed}" for seed in range(options.seeds)]
    for seed, run in enumerate(runs):

        def ours(seed: int = seed, run: Path = run) -> Result:
            if not options.runs:
                train(OUR_PROGRAMS, data, run, ["--task", "count", "--seed", seed, *options.flags])
            return validate(OUR_PROGRAMS, data, run, options.output / f"ours_{seed}_val")

        result = kept(parts / f"ours_{seed}.json", ours)
        results.setdefault(OURS, []).append(result)
        for sigma in options.sigma:
            name = f"density_{sigma:g}_{seed}"

            def theirs(run: Path = run, sigma: float = sigma, name: str = name) -> Result:
                flags = ("--config", run / "args.yaml", "--task", "density")
                own = ("--density-sigma", sigma, *shlex.split(options.density_flags))
                folder = options.output / name
                train(DENSITY_PROGRAMS, data, folder, [*flags, *own])
                return validate(DENSITY_PROGRAMS, data, folder, options.output / f"{name}_val")

            result = kept(parts / f"{name}.json", theirs)
            more = f", {options.density_flags}" if options.density_flags else ""
            results.setdefault(f"density map, sigma {sigma:g}{more}", []).append(result)
    return results


# What is not learned


def detect(options: argparse.Namespace, detector: str, channel: str) -> Result:
    """Choose setting and threshold on training images; count the val split with them."""
    tuning, val = (
        read_images(options, "train").some(options.tuning_images),
        read_images(options, "val"),
    )
    with ProcessPoolExecutor(options.workers) as pool:
        started = time.perf_counter()
        every = partial(count_with_all, detector=detector, channel=channel)
        counts = np.array(list(pool.map(every, tuning.paths)))
        seconds = time.perf_counter() - started
        setting, threshold = tune(counts, tuning.counts)
        chosen = partial(
            count_with, detector=detector, channel=channel, setting=setting, threshold=threshold
        )
        found = list(pool.map(chosen, val.paths))
    settings = DETECTORS[detector].settings[setting]
    note = ", ".join(f"{name} {value:g}" for name, value in settings.items())
    return Result(
        mean_absolute_error(found, val.counts),
        root_mean_squared_error(found, val.counts),
        seconds,
        f"{channel}, {note}, threshold {DETECTORS[detector].thresholds[threshold]:g}",
        mean_absolute_error(counts[:, setting, threshold], tuning.counts),
    )


def detected(options: argparse.Namespace) -> dict[str, list[Result]]:
    """Return each detector's result on the channel that counts the training images best."""
    results = {}
    for detector in DETECTORS:
        by_channel = [
            kept(
                options.output / "parts" / f"{detector}_{channel.replace(' ', '_')}.json",
                partial(detect, options, detector, channel),
            )
            for channel in CHANNELS
        ]
        best = min(by_channel, key=lambda result: result.tuning_mae)
        seconds = sum(result.seconds for result in by_channel)
        results[detector] = [Result(best.mae, best.rmse, seconds, best.note)]
    return results


def constants(options: argparse.Namespace) -> dict[str, list[Result]]:
    """Return the results of always saying the same count."""
    counts, true = read_images(options, "train").counts, read_images(options, "val").counts
    results = {}
    for name, count in (("mean", np.mean(counts)), ("median", np.median(counts))):
        says = np.full(len(true), count)
        errors = mean_absolute_error(says, true), root_mean_squared_error(says, true)
        results[f"always the training {name}"] = [Result(*errors, 0.0, f"{count:.2f}")]
    return results


# The table


def spread(values: Sequence[float], digits: int) -> str:
    """Return the mean and, of several values, the standard deviation."""
    mean = f"{statistics.mean(values):,.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):,.{digits}f}"


def markdown(results: dict[str, list[Result]]) -> str:
    """Return the table, the ratios of ours to the best peer, and the notes."""
    lines = ["| method | MAE | RMSE | seconds |", "|---|---|---|---|"]
    means: dict[str, dict[str, float]] = {"MAE": {}, "RMSE": {}}
    for method, all_seeds in results.items():
        mae, rmse, seconds = zip(*((r.mae, r.rmse, r.seconds) for r in all_seeds), strict=True)
        lines.append(f"| {method} | {spread(mae, 2)} | {spread(rmse, 2)} | {spread(seconds, 0)} |")
        means["MAE"][method], means["RMSE"][method] = statistics.mean(mae), statistics.mean(rmse)
    lines.append("")
    for metric, values in means.items():
        ours = values.pop(OURS)
        best = min(values, key=values.__getitem__)
        if values[best]:
            lines.append(f"{metric} of ours: {ours / values[best]:.3f} x that of {best}.  ")
    lines.append("")
    for method, all_seeds in results.items():
        lines.append(f"* {method}: {'; '.join(result.note for result in all_seeds)}")
    return "\n".join(lines)


def check_conditions(options: argparse.Namespace) -> None:
    """Refuse a folder whose parts were made with other data, flags or tuning images."""
    path: Path = options.output / "conditions.json"
    now: dict[str, Any] = {
        "data": [str(word) for word in data_flags(options)],
        "flags": options.flags,
        "runs": [str(run) for run in options.runs],
        "density_flags": options.density_flags,
        "tuning_images": options.tuning_images,
    }
    if path.is_file() and json.loads(path.read_text()) != now:
        raise SystemExit(f"{path} tells of other flags than these; choose another --output.")
    make_folder(options.output)
    write_text(path, json.dumps(now, indent=2) + "\n")


def parse() -> argparse.Namespace:
    """Read the command line; the words after ``--`` become ``flags``."""
    words = sys.argv[1:]
    own = words[: words.index("--")] if "--" in words else words
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--img_dir", "--csv_path", "--points-path", "--output"):
        parser.add_argument(name, type=Path, required=True)
    many = parser.add_mutually_exclusive_group()
    many.add_argument("--seeds", type=int, default=1, help="number of trainings: 0 to N - 1")
    many.add_argument(
        "--runs", type=Path, nargs="+", default=[], help="folders of our trainings, one a seed"
    )
    parser.add_argument(
        "--sigma", type=float, nargs="+", default=[4.0], help="of density maps, in pixels"
    )
    parser.add_argument(
        "--density-flags", default="", help="flags of train.py for density maps alone, in quotes"
    )
    parser.add_argument(
        "--tuning-images", type=int, default=24, help="training images that detectors are tuned on"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of the detectors")
    options = parser.parse_args(own)
    options.flags = words[len(own) + 1 :]
    if options.runs and options.flags:
        parser.error("--runs are trained already: leave out the flags of train.py")
    return options


def main() -> None:
    """Run what is not there yet and print the table."""
    options = parse()
    check_conditions(options)
    results = {**learned(options), **detected(options), **constants(options)}
    val = read_images(options, "val")
    print(hardware())
    print(f"{options.csv_path}, val: {len(val.paths)} images, {val.counts.sum():,} objects\n")
    print(markdown(results))


if __name__ == "__main__":
    main()
