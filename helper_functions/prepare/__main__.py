"""The command that turns a raw data set into a split CSV and a manifest."""

from __future__ import annotations

import argparse
import shlex
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

from helper_functions import cli
from helper_functions.data.folders import describe_unread, is_unread
from helper_functions.prepare import outputs
from helper_functions.prepare.cutting import cut_at_random, cut_by_blocks
from helper_functions.prepare.point_rows import PointResult
from helper_functions.prepare.rows import ConversionResult, check_rows
from helper_functions.prepare.sources import Sources
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.signals import stop_at_once

PUBLISHED = ("treesatai", "geolifeclef", "fathomnet", "shiprsimagenet")  # as --dataset names them
POINT_LAYOUTS = ("trancos", "shanghaitech", "points")  # they also write a points CSV
LAYOUTS = {
    name: import_module(f"helper_functions.prepare.{name}")
    for name in (*PUBLISHED, "coco", "onehot", "labels", *POINT_LAYOUTS)
}
VAL_FRACTION = 0.1

_OURS = (
    "The split CSV of the paper's authors is not published in a place that can be relied on: this "
    "is a re-creation."
)

# Settings of how a command ran, not of its result.
_NOT_IN_THE_MANIFEST = (
    *("layout", "raw_dir", "out", "points_out", "images_out", "dry_run", "overwrite"),
    *("download", "jobs", "timeout", "retries", "max_megapixels"),
)


def make_parser() -> cli.Parser:
    """Return the parser of the command line."""
    parser = cli.Parser(
        prog="python -m helper_functions.prepare",
        description="Turn a data set as it is published into a split CSV and a manifest.",
    )
    layouts = parser.add_subparsers(dest="layout", required=True, metavar="LAYOUT")
    for name, layout in LAYOUTS.items():
        sub = layouts.add_parser(name, help=layout.HELP, description=layout.__doc__)
        add = sub.add_argument
        add("--raw-dir", type=Path, required=True, metavar="DIR", help="the unpacked download")
        add("--out", type=Path, required=True, metavar="CSV", help="the split CSV to write")
        if layout.CUTS:
            default = "the published test list is val" if name == "treesatai" else "0.1"
            share = f"share of the training images cut off as validation (default: {default})"
            add("--val-fraction", type=cli.number(float, 0.001, 0.9), help=share)
            add("--seed", type=int, default=0, help="of the cut (default: 0)")
        if name in POINT_LAYOUTS:
            points = "the points CSV to write (default: points.csv beside --out)"
            add("--points-out", type=Path, metavar="CSV", help=points)
        if name in ("coco", "onehot", "labels", "points"):
            images = "image folder below --raw-dir (default: --raw-dir)"
            add("--images", default=".", metavar="DIR", help=images)
        layout.add_flags(sub)
        missing = "keep rows whose image is not there, to convert labels before the images"
        add("--keep-missing", action="store_true", help=missing)
        add("--dry-run", action="store_true", help="count everything, write nothing")
        add("--overwrite", action="store_true", help="replace other files of --out")
    return parser


def _cut(result: ConversionResult, options: argparse.Namespace) -> None:
    """Give every row its split."""
    if all(row.split for row in result.rows):
        if getattr(options, "val_fraction", None) is not None:
            raise UserError("--val-fraction has no use here: every image has its split already.")
        return
    if options.val_fraction is None:
        options.val_fraction = VAL_FRACTION  # for the manifest, too
    cut = result.rows, options.val_fraction, options.seed
    degrees = getattr(options, "spatial_block", None)
    result.rows = cut_at_random(*cut) if degrees is None else cut_by_blocks(*cut, degrees)


def convert(options: argparse.Namespace, sources: Sources) -> ConversionResult:
    """Read a raw data set and decide on every image.

    Raises:
        UserError: If it cannot be read, contradicts itself, or leaves nothing to train with.
    """
    result: ConversionResult = LAYOUTS[options.layout].read(options, sources)
    check_rows(result.rows)
    if not options.keep_missing:
        result.skip_missing()
    if not result.rows:
        first = "".join(f" ({name}: {reason})" for name, reason in result.skipped[:1])
        raise UserError(
            f"None of the {len(result.skipped):,} images can be used{first}; put them into "
            f"{result.images}, or give --keep-missing to convert the labels alone."
        )
    if isinstance(result, PointResult):
        result.settle(getattr(options, "outside", "refuse"))
    _cut(result, options)
    for split in ("train", "val"):
        if all(row.split != split for row in result.rows):
            raise UserError(f"No image is left for the split {split}.")
    if not isinstance(result, PointResult) and not any(row.labels for row in result.rows):
        raise UserError("No image has a label.")
    if options.layout in PUBLISHED:
        result.notes.append(_OURS)
    unread = [path for row in result.rows if is_unread(path := PurePath(row.filename))]
    if unread:
        result.notes.append(f"{describe_unread(unread)} found; save such images as PNG or JPEG.")
    result.notes += outputs.class_notes(outputs.class_counts(result.rows))
    return result


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that the result depends on."""
    unused = set(_NOT_IN_THE_MANIFEST)
    if getattr(options, "val_fraction", None) is None:  # Then nothing has been cut.
        unused |= {"val_fraction", "seed"}
    settings = cli.plain_settings(options)
    return {name: settings[name] for name in sorted(set(settings) - unused)}


def _summary(result: ConversionResult) -> str:
    splits = Counter(row.split for row in result.rows)
    counts = ", ".join(f"{number:,} {split}" for split, number in sorted(splits.items()))
    images, classes = len(result.rows), len(outputs.class_counts(result.rows))
    labels = sum(len(row.labels) for row in result.rows) / images
    lines = [f"{images:,} images ({counts}), {classes:,} classes, {labels:.2f} labels an image"]
    if isinstance(result, PointResult):
        lines = [f"{images:,} images ({counts})" + f", {classes:,} classes" * bool(classes)]
        lines.append(result.summary())
    reasons = Counter(reason for _, reason in result.skipped)
    lines += [f"{number:,} left out: {reason}" for reason, number in reasons.items()]
    lines += [f"Note: {note}" for note in result.notes]
    return "\n".join(lines)


def _next_commands(options: argparse.Namespace, result: ConversionResult) -> str:
    data = f"--csv_path {shlex.quote(str(options.out))} --img_dir {shlex.quote(str(result.images))}"
    if isinstance(result, PointResult):
        points = shlex.quote(str(_points_path(options)))
        return f"Train:     python train.py --task count {data} --points-path {points}"
    preset = f" --dataset {options.layout}" if options.layout in PUBLISHED else ""
    bands = f" --bands {options.bands}" if "bands" in options else ""
    return (
        f"Check it:  python -m helper_functions.check_data {data}\n"
        f"Train:     python train.py {data}{preset}{bands} --subsampling"
    )


def _points_path(options: argparse.Namespace) -> Path:
    """Return the points CSV to write.

    Raises:
        UserError: If it cannot have this name.
    """
    path: Path = options.points_out or options.out.with_name("points.csv")
    if path.suffix.lower() != ".csv":
        raise UserError(f"--points-out {path} should end in .csv, such as points.csv.")
    if path.is_dir():
        raise UserError(f"{path} is a folder; choose another name by --points-out.")
    if path.resolve() == options.out.resolve():
        raise UserError(f"--out and the points CSV are both {path}; name one otherwise.")
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; on a ``UserError`` nothing has been written."""
    options = make_parser().parse_args(arguments)
    outputs.check_target(options.out)
    points_path = _points_path(options) if options.layout in POINT_LAYOUTS else None
    sources = Sources(options.raw_dir)
    result = convert(options, sources)
    target = outputs.manifest_path(options.out)
    for path in (options.out, target, *filter(None, [points_path])):
        if sources.has_read(path):
            raise UserError(f"{path} is a file of the raw data set; choose another --out.")
    # What to write
    labels, files, content = True, {}, None
    if isinstance(result, PointResult) and points_path is not None:
        labels, files = result.labeled, {points_path: result.to_csv()}
        content = result.to_manifest(files[points_path])
    table = outputs.to_csv(result.rows, labels=labels)
    about = options.layout, _settings(options), sources.read, result, table
    manifest = outputs.to_manifest(*about, content)
    print(_summary(result))
    names = ", ".join(map(str, (options.out, *files)))
    if options.dry_run:
        print(f"Nothing is written (--dry-run); {names} and {target} would be.")
        return

    # Write it; the split CSV comes last
    wanted = {**files, target: manifest, options.out: table}
    changed = outputs.differing(wanted, overwrite=options.overwrite)
    if isinstance(result, PointResult):
        result.write_images(overwrite=options.overwrite)
    outputs.write_outputs(wanted, changed)
    print(f"{names} and {target} {'are written' if changed else 'are up to date'}.")
    print(_next_commands(options, result))


if __name__ == "__main__":
    stop_at_once()
    cli.run(main)
