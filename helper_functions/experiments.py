"""The paper's tables, one command each: backbones x ablations x seeds, from a recipe file.

    python -m helper_functions.experiments treesatai --img_dir ... --csv_path ... --seeds 3

Every run is an ordinary call of ``train.py`` and ``val.py`` in a folder of its own. Finished runs
are not repeated and an interrupted one continues, so the same command can be given again at any
time.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from helper_functions import cli
from helper_functions.engine import BEST
from helper_functions.errors import UserError
from helper_functions.files import make_folder, write_text
from helper_functions.stopping import Stopped
from helper_functions.training_log import TrainingLog

RECIPES = Path(__file__).parent / "recipes"
ROOT = Path(__file__).parent.parent
COLUMNS = ("mAP", "mAP_last", "F_C", "CF1", "F_O")


@dataclass(frozen=True)
class Run:
    """One training: what is compared, and the flags that say so."""

    backbone: str
    ablation: str
    seed: int
    flags: dict[str, Any]
    folder: Path


def read_recipe(name: str) -> dict[str, Any]:
    """A recipe by name (a file of ``recipes/``) or path.

    Raises:
        UserError: If it is missing or not a mapping with ``backbones`` and ``ablations``.
    """
    path = Path(name)
    if not path.suffix:
        path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml")))
        raise UserError(f"There is no recipe {name!r}; give a YAML file or one of {known}.")
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is not a valid YAML file: {reason}.") from error
    if not isinstance(recipe, dict) or not {"backbones", "ablations"} <= set(recipe):
        raise UserError(f"{path} must hold 'backbones' and 'ablations'.")
    return recipe


def to_arguments(flags: dict[str, Any]) -> list[str]:
    """Flags as command-line words: ``True`` is a bare flag, ``False`` its ``--no-`` form."""
    words: list[str] = []
    for name, value in flags.items():
        if value is True or value is False:
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, dict):
            words += [f"--{name}", *(f"{key}={item}" for key, item in value.items())]
        elif isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        else:
            words += [f"--{name}", str(value)]
    return words


def _chosen(kind: str, available: dict[str, Any], wanted: Sequence[str] | None) -> list[str]:
    unknown = [name for name in wanted or () if name not in available]
    if unknown:
        raise UserError(f"The recipe has no {kind} {unknown[0]!r}; it has {', '.join(available)}.")
    return list(wanted or available)


def plan(recipe: dict[str, Any], args: argparse.Namespace) -> list[Run]:
    """All runs that were asked for, seed by seed, so that early tables compare like with like.

    Raises:
        UserError: If a chosen backbone or ablation is not in the recipe.
    """
    backbones = _chosen("backbone", recipe["backbones"], args.backbones)
    ablations = _chosen("ablation", recipe["ablations"], args.ablations)
    runs = []
    for seed in range(args.seeds):
        for backbone in backbones:
            for ablation in ablations:
                flags = {
                    **(recipe.get("flags") or {}),
                    "backbone-name": backbone,
                    **(recipe["backbones"][backbone] or {}),
                    **(recipe["ablations"][ablation] or {}),
                    "seed": seed,
                }
                folder = args.output / backbone / ablation / f"seed{seed}"
                runs.append(Run(backbone, ablation, seed, flags, folder))
    return runs


def _call(script: str, words: Sequence[object], log: Path) -> None:
    """Run a script of the project with its output in a file.

    Raises:
        UserError: If it fails; the message repeats its last line.
        Stopped: If it was stopped by a signal.
    """
    with log.open("a", encoding="utf-8") as output:
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *map(str, words)],
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise Stopped(done.returncode - 128)
    if done.returncode:
        lines = log.read_text(encoding="utf-8").strip().splitlines() or ["it printed nothing"]
        raise UserError(f"{script} failed: {lines[-1]} (see {log})")


def carry_out(run: Run, data: Sequence[object]) -> None:
    """Train and validate one run, unless that is done already."""
    if (run.folder / "val" / "metrics.json").is_file():
        return
    make_folder(run.folder)
    log = run.folder / "output.txt"
    words = [*data, *to_arguments(run.flags), "--output-path", run.folder, "--resume", "auto"]
    _call("train.py", words, log)
    _call("val.py", [*data, "--ckpt-path", run.folder / BEST, "--output", run.folder / "val"], log)


def measured(run: Run) -> dict[str, float] | None:
    """The metrics of a finished run in percent; ``mAP_last`` is that of the last epoch."""
    path = run.folder / "val" / "metrics.json"
    if not path.is_file():
        return None
    metrics = json.loads(path.read_text(encoding="utf-8"))
    last = TrainingLog(run.folder / "log.csv").read()[-1]
    return {**metrics, "mAP_last": float(last["val_mAP"])}


def summarise(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """One row a backbone and ablation: mean and standard deviation over the finished seeds."""
    for backbone, ablation in dict.fromkeys((run.backbone, run.ablation) for run in runs):
        results = [
            metrics
            for run in runs
            if (run.backbone, run.ablation) == (backbone, ablation)
            and (metrics := measured(run)) is not None
        ]
        row: dict[str, Any] = {"backbone": backbone, "ablation": ablation, "seeds": len(results)}
        for column in COLUMNS if results else ():
            values = [metrics[column] for metrics in results]
            row[column] = statistics.mean(values)
            row[f"{column}_std"] = statistics.stdev(values) if len(values) > 1 else None
        yield row


def _markdown(rows: Sequence[dict[str, Any]]) -> str:
    def cell(row: dict[str, Any], column: str) -> str:
        if column not in row:
            return ""
        spread = row[f"{column}_std"]
        return f"{row[column]:.2f}" + ("" if spread is None else f" ± {spread:.2f}")

    header = ["backbone", "ablation", "seeds", *COLUMNS, "paper"]
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    for row in rows:
        cells = [row["backbone"], row["ablation"], str(row["seeds"])]
        lines.append(" | ".join([*cells, *(cell(row, column) for column in COLUMNS), ""]))
    table = "\n".join(f"| {line} |" for line in lines)
    return (
        f"{table}\n\nMean ± standard deviation over the seeds, in percent, of the checkpoint with "
        "the best validation mAP; `mAP_last` is the mAP after the last epoch, which no choice of a "
        "checkpoint flatters. The paper's own numbers could not be reached: whoever holds the "
        "article can fill in the last column.\n"
    )


def write_tables(runs: Sequence[Run], folder: Path) -> None:
    """Write ``results.csv`` and ``results.md`` from what has been measured so far."""
    rows = list(summarise(runs))
    columns = ["backbone", "ablation", "seeds"]
    columns += [name for column in COLUMNS for name in (column, f"{column}_std")]
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(folder / "results.csv", text.getvalue())
    write_text(folder / "results.md", _markdown(rows))


def main() -> None:
    """Recipe -> runs -> tables."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="name of a recipe of this project, or a YAML file")
    parser.add_argument("--img_dir", type=Path, required=True, help="image folder")
    parser.add_argument("--csv_path", type=Path, required=True, help="split CSV")
    parser.add_argument("--backbones", nargs="+", help="(default: all of the recipe)")
    parser.add_argument("--ablations", nargs="+", help="(default: all of the recipe)")
    parser.add_argument("--seeds", type=cli.number(int, 1), default=3, help="(default: 3)")
    parser.add_argument("--output", type=Path, default=None, help="(default: runs/RECIPE)")
    args = parser.parse_args()
    recipe = read_recipe(args.recipe)
    args.output = args.output or Path("runs") / Path(args.recipe).stem
    runs = plan(recipe, args)
    make_folder(args.output)
    data = ["--img_dir", args.img_dir, "--csv_path", args.csv_path]
    for number, run in enumerate(runs, 1):
        print(f"{number}/{len(runs)}: {run.backbone}, {run.ablation}, seed {run.seed}", flush=True)
        carry_out(run, data)
        write_tables(runs, args.output)
    print((args.output / "results.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    cli.run(main)
