"""The command that turns a raw data set into a split CSV and a manifest."""

from __future__ import annotations

import argparse
import shlex
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from helper_functions import cli
from helper_functions.prepare import (
    coco,
    fathomnet,
    geolifeclef,
    onehot,
    shiprsimagenet,
    treesatai,
)
from helper_functions.prepare.cutting import cut_at_random, cut_by_blocks
from helper_functions.prepare.outputs import (
    check_target,
    class_counts,
    class_notes,
    manifest_path,
    to_csv,
    to_manifest,
    write_outputs,
)
from helper_functions.prepare.rows import Found, check_rows
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.signals import Stopped
from helper_functions.tasks.classify.presets import PRESETS

LAYOUTS: dict[str, ModuleType] = {
    "treesatai": treesatai,
    "geolifeclef": geolifeclef,
    "fathomnet": fathomnet,
    "shiprsimagenet": shiprsimagenet,
    "coco": coco,
    "onehot": onehot,
}
VAL_FRACTION = 0.1

_OURS = (
    "The split CSV of the paper's authors is not published in a place that can be relied on: this "
    "is a re-creation."
)

# Settings that say how a command ran, not what its result is.
_NOT_IN_THE_MANIFEST = frozenset(
    {
        *("layout", "raw_dir", "out", "dry_run", "overwrite"),
        *("download", "jobs", "timeout", "retries"),
    }
)


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(
        prog="python -m helper_functions.prepare",
        description="Turn a data set as it is published into a split CSV and a manifest.",
    )
    layouts = parser.add_subparsers(dest="layout", required=True, metavar="LAYOUT")
    for name, layout in LAYOUTS.items():
        one = layouts.add_parser(name, help=layout.HELP, description=layout.__doc__)
        one.add_argument(
            "--raw-dir", type=Path, required=True, metavar="DIR", help="the unpacked download"
        )
        one.add_argument(
            "--out", type=Path, required=True, metavar="CSV", help="the split CSV to write"
        )
        if layout.CUTS:
            one.add_argument(
                "--val-fraction",
                type=cli.number(float, 0.001, 0.9),
                help="share of the training pictures that is cut off as validation (default: "
                + ("the published test list is val)" if name == "treesatai" else "0.1)"),
            )
            one.add_argument("--seed", type=int, default=0, help="of the cut (default: 0)")
        layout.add_flags(one)
        one.add_argument(
            "--keep-missing",
            action="store_true",
            help="keep rows whose picture is not there, to convert labels before the pictures",
        )
        one.add_argument("--dry-run", action="store_true", help="count everything, write nothing")
        one.add_argument("--overwrite", action="store_true", help="replace other files of --out")
    return parser


def _cut(found: Found, options: argparse.Namespace) -> None:
    """Give every row its split."""
    if all(row.split for row in found.rows):
        if getattr(options, "val_fraction", None) is not None:
            raise UserError("--val-fraction has no use here: every picture has its split already.")
        return
    fraction = VAL_FRACTION if options.val_fraction is None else options.val_fraction
    options.val_fraction = fraction  # for the manifest
    degrees = getattr(options, "spatial_block", None)
    if degrees is None:
        found.rows = cut_at_random(found.rows, fraction, options.seed)
    else:
        found.rows = cut_by_blocks(found.rows, fraction, options.seed, degrees)


def convert(options: argparse.Namespace, sources: Sources) -> Found:
    """Read a raw data set and decide on every picture.

    Raises:
        UserError: If it cannot be read, contradicts itself, or leaves nothing to train with.
    """
    found: Found = LAYOUTS[options.layout].read(options, sources)
    check_rows(found.rows)
    listed = len(found.rows)
    if not options.keep_missing:
        found.drop_missing()
    if not found.rows:
        first = (
            f" ({found.dropped[0].filename}: {found.dropped[0].reason})" if found.dropped else ""
        )
        raise UserError(
            f"None of the {max(listed, len(found.dropped)):,} pictures can be used{first}; look "
            f"for them in {found.images}, or give --keep-missing to convert the labels alone."
        )
    _cut(found, options)
    for split in ("train", "val"):
        if all(row.split != split for row in found.rows):
            raise UserError(f"No picture is left for the split {split}.")
    if not any(row.labels for row in found.rows):
        raise UserError("No picture has a label.")
    if options.layout in PRESETS:
        found.notes.append(_OURS)
    found.notes += class_notes(class_counts(found.rows))
    return found


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    settings = cli.plain_settings(options)
    unused = set(_NOT_IN_THE_MANIFEST)
    if settings.get("val_fraction") is None:  # then nothing has been cut
        unused |= {"val_fraction", "seed"}
    return {name: settings[name] for name in sorted(set(settings) - unused)}


def _summary(found: Found) -> str:
    splits = Counter(row.split for row in found.rows)
    counts = ", ".join(f"{number:,} {split}" for split, number in sorted(splits.items()))
    classes = len(class_counts(found.rows))
    labels = sum(len(row.labels) for row in found.rows) / len(found.rows)
    pictures = f"{len(found.rows):,} pictures ({counts})"
    lines = [f"{pictures}, {classes:,} classes, {labels:.2f} labels a picture"]
    for reason, number in Counter(dropped.reason for dropped in found.dropped).items():
        lines.append(f"{number:,} left out: {reason}")
    lines += [f"Note: {note}" for note in found.notes]
    return "\n".join(lines)


def _next_commands(options: argparse.Namespace, found: Found) -> str:
    data = f"--csv_path {shlex.quote(str(options.out))} --img_dir {shlex.quote(str(found.images))}"
    preset = f" --dataset {options.layout}" if options.layout in PRESETS else ""
    bands = f" --bands {options.bands}" if "bands" in options else ""
    return (
        f"Check it:  python -m helper_functions.check_data {data}\n"
        f"Train:     python train.py {data}{preset}{bands} --subsampling"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Raises:
        UserError: If the data cannot be converted; nothing has been written then.
    """
    options = make_parser().parse_args(arguments)
    check_target(options.out)
    sources = Sources(options.raw_dir)
    found = convert(options, sources)
    target = manifest_path(options.out)
    for path in (options.out, target):
        if sources.has_read(path):
            raise UserError(f"{path} is a file of the raw data set; choose another --out.")
    table = to_csv(found.rows)
    manifest = to_manifest(options.layout, _settings(options), sources.read, found, table)
    print(_summary(found))
    if options.dry_run:
        print(f"Nothing is written (--dry-run); {options.out} and {target} would be.")
        return
    written = write_outputs(options.out, table, manifest, overwrite=options.overwrite)
    print(f"{options.out} and {target} {'are written' if written else 'are up to date'}.")
    print(_next_commands(options, found))


def _stop(signum: int, _frame: FrameType | None) -> None:
    raise Stopped(signum)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    cli.run(main)
