"""The paper's tables, one command each: backbones x ablations x seeds, from a recipe file.

    python -m helper_functions.experiments treesatai --img_dir ... --csv_path ... --seeds 3

Every run is an ordinary call of ``train.py`` and ``val.py`` in a folder of its own. Finished runs
are not repeated and an interrupted one continues, so the same command can be given again at any
time. Flags of ``train.py`` after ``--`` go to every run, before those of the recipe's ablations.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from helper_functions import cli
from helper_functions.checkpoints.checkpoint import BEST
from helper_functions.cli import to_arguments
from helper_functions.results.tables import encode_rows
from helper_functions.results.training_log import TrainingLog
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import make_folder, write_atomically, write_text
from helper_functions.runtime.signals import Stopped
from helper_functions.tasks import DEFAULT_TASK, get_task

RECIPES = Path(__file__).parent / "recipes"
ROOT = Path(__file__).parent.parent
_KEYS = ("backbone", "ablation", "seeds")


class Run(NamedTuple):
    """One training and one validation of it: what is compared, and the words that say so."""

    backbone: str
    ablation: str
    seed: int
    words: list[str]  # of train.py
    folder: Path
    validation: str = ""  # name of one of several
    val_words: Sequence[str] = ()  # of val.py

    @property
    def row(self) -> tuple[str, str]:
        """Backbone and ablation, as tables name them."""
        ablation = f"{self.ablation}, {self.validation}" if self.validation else self.ablation
        return self.backbone, ablation

    @property
    def results(self) -> Path:
        """The folder of the validation."""
        return self.folder / (f"val-{self.validation}" if self.validation else "val")


def read_recipe(name: str) -> dict[str, Any]:
    """Read a recipe by name (a file of ``recipes/``) or path.

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
    for seed, backbone, ablation in product(range(args.seeds), backbones, ablations):
        common = {**(recipe.get("flags") or {}), "backbone-name": backbone}
        common |= recipe["backbones"][backbone] or {}
        compared = {**(recipe["ablations"][ablation] or {}), "seed": seed}
        words = [*to_arguments(common), *args.train_flags, *to_arguments(compared)]
        folder = args.output / backbone / ablation / f"seed{seed}"
        for name, flags in (recipe.get("validations") or {"": {}}).items():
            validation = (name, to_arguments(flags or {}))
            runs.append(Run(backbone, ablation, seed, words, folder, *validation))
    return runs


def _call(script: str, words: Sequence[object], log: Path) -> None:
    """Run a script of the project with its output in a file.

    Raises:
        UserError: If it fails; the message repeats its last line.
        Stopped: If it was stopped by a signal.
    """
    call = [sys.executable, str(ROOT / script), *map(str, words)]
    with (
        log.open("a", encoding="utf-8") as output,
        subprocess.Popen(call, stdout=output, stderr=subprocess.STDOUT) as child,
    ):
        before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        try:
            status = child.wait()
        except KeyboardInterrupt:  # the terminal has sent it to the child as well, which saves
            status = child.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
    if status in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise Stopped(status - 128)
    if status:
        lines = log.read_text(encoding="utf-8").strip().splitlines() or ["it printed nothing"]
        raise UserError(f"{script} failed: {lines[-1]} (see {log})")


def _claim(run: Run, csv_path: Path) -> None:
    """Note in the run's folder what it is; the note of another run raises ``UserError``."""
    digest = hashlib.sha256(csv_path.read_bytes()).hexdigest()
    note = json.dumps({"flags": run.words, "csv_sha256": digest}, indent=2) + "\n"
    path = run.folder / "run.json"
    if path.is_file() and path.read_text(encoding="utf-8") != note:
        raise UserError(
            f"{run.folder} holds a run with other flags or another split CSV (see {path}); choose "
            f"another --output, or delete that folder."
        )
    make_folder(run.folder)
    write_text(path, note)


def run_once(run: Run, args: argparse.Namespace) -> None:
    """Train and validate one run, unless that is done already."""
    _claim(run, args.csv_path)
    if (run.results / "metrics.json").is_file():
        return
    log = run.folder / "output.txt"
    data = ["--img_dir", args.img_dir, "--csv_path", args.csv_path]
    masks = ["--mask-dir", args.mask_dir] if args.mask_dir else []
    if not any(run.folder.glob("val*/metrics.json")):  # else it has been trained
        _call("train.py", [*data, *run.words, "--output-path", run.folder, "--resume", "auto"], log)
    results = ["--ckpt-path", run.folder / BEST, "--output", run.results]
    _call("val.py", [*data, *masks, *run.val_words, *results], log)


def read_metrics(run: Run) -> dict[str, Any] | None:
    """Return the metrics of a finished run; ``<name>_last`` is the value of the last epoch."""
    path = run.results / "metrics.json"
    if not path.is_file():
        return None
    metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, value in TrainingLog(run.folder / "log.csv").read()[-1].items():
        if name.startswith("val_") and value:
            metrics[f"{name.removeprefix('val_')}_last"] = float(value)
    return metrics


def summarize(runs: Sequence[Run], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield mean and standard deviation over the finished seeds, a row a backbone and ablation."""
    for backbone, ablation in dict.fromkeys(run.row for run in runs):
        same = [run for run in runs if run.row == (backbone, ablation)]
        results = [metrics for run in same if (metrics := read_metrics(run)) is not None]
        row: dict[str, Any] = {"backbone": backbone, "ablation": ablation, "seeds": len(results)}
        for column in columns:
            values = [metrics[column] for metrics in results if column in metrics]
            if values:
                row[column] = statistics.mean(values)
                row[f"{column}_std"] = statistics.stdev(values) if len(values) > 1 else None
        yield row


def _markdown(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    columns = [column for column in columns if any(column in row for row in rows)]
    header = [*_KEYS, *columns, "paper"]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        cells = [str(row[key]).replace("|", "\\|") for key in _KEYS]
        for column in columns:
            mean, spread = row.get(column), row.get(f"{column}_std")
            cell = "" if mean is None else f"{mean:.2f}"
            cells.append(cell if spread is None else f"{cell} ± {spread:.2f}")
        lines.append([*cells, ""])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{table}\n\nMean ± standard deviation over the seeds, of the checkpoint with the best "
        "validation score; a name with `_last` is the value after the last epoch, which no choice "
        "of a checkpoint flatters. The paper's own numbers could not be reached: whoever holds the "
        "article can fill in the last column.\n"
    )


def write_tables(runs: Sequence[Run], columns: Sequence[str], folder: Path) -> None:
    """Write ``results.csv`` and ``results.md`` from what has been measured so far."""
    rows = list(summarize(runs, columns))
    names = [name for column in columns for name in (column, f"{column}_std")]
    header = [*_KEYS, *names]
    table = encode_rows([header, *([row.get(name) for name in header] for row in rows)])
    write_atomically(folder / "results.csv", lambda file: file.write(table))
    write_text(folder / "results.md", _markdown(rows, columns))


def main() -> None:
    """Run what a recipe lists and write its tables."""
    parser = cli.Parser(
        usage="%(prog)s RECIPE --img_dir DIR --csv_path CSV [options] [-- FLAGS OF train.py]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", help="name of a recipe of this project, or a YAML file")
    parser.add_argument("--img_dir", type=Path, required=True, help="image folder")
    parser.add_argument("--csv_path", type=Path, required=True, help="split CSV")
    parser.add_argument("--backbones", nargs="+", help="(default: all of the recipe)")
    parser.add_argument("--ablations", nargs="+", help="(default: all of the recipe)")
    parser.add_argument("--seeds", type=cli.number(int, 1), default=3, help="(default: 3)")
    parser.add_argument("--output", type=Path, default=None, help="(default: runs/RECIPE)")
    parser.add_argument("--mask_dir", type=Path, help="pixel masks, for region_purity")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    args = parser.parse_args(words[:end], argparse.Namespace(train_flags=words[end + 1 :]))
    if not args.csv_path.is_file():
        raise UserError(f"The split CSV {args.csv_path} does not exist.")
    recipe = read_recipe(args.recipe)
    args.output = args.output or Path("runs") / Path(args.recipe).stem
    runs = plan(recipe, args)
    columns = get_task((recipe.get("flags") or {}).get("task", DEFAULT_TASK)).columns
    make_folder(args.output)
    for number, run in enumerate(runs, 1):
        print(f"{number}/{len(runs)}: {', '.join(run.row)}, seed {run.seed}", flush=True)
        run_once(run, args)
        write_tables(runs, columns, args.output)
    print((args.output / "results.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    cli.run(main)
