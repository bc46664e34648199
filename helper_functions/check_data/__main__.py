"""The command that checks a split CSV and its images."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from helper_functions import cli
from helper_functions.check_data.chart import draw_classes, draw_counts
from helper_functions.check_data.findings import Findings
from helper_functions.check_data.images import (
    check_contents,
    check_files,
    check_folder,
    decode_all,
)
from helper_functions.check_data.labels import ClassCounts
from helper_functions.check_data.points import (
    check_places,
    check_points,
    counts_by_split,
    read_point_rows,
    with_point_labels,
)
from helper_functions.check_data.report import make_report, to_text
from helper_functions.check_data.rows import check_spelling, check_table, read_rows
from helper_functions.data.bands import ImageFormat
from helper_functions.data.flags import InputSettings, make_image_format
from helper_functions.data.folders import locate
from helper_functions.data.images import DEFAULT
from helper_functions.data.points import PointTable
from helper_functions.data.splits import Sample
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import make_folder, write_text
from helper_functions.runtime.signals import stop_at_once

DESCRIPTION = """Check a split CSV and its images: list everything that would stop or spoil a run.

Exit status: 0 if training can start, 2 if it would fail or its metrics would be meaningless.
"""


def make_parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(prog="python -m helper_functions.check_data", description=DESCRIPTION)
    parser.add_argument("--csv_path", type=Path, required=True, help="split CSV")
    parser.add_argument("--img_dir", type=Path, required=True, help="image folder")
    parser.add_argument(
        "--points-path",
        type=Path,
        metavar="FILE",
        help="points CSV, for counting; the split CSV needs no labels then",
    )
    cli.add_flags(parser, "options", InputSettings, ("bands", "value_range", "max_megapixels"))
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names that labels may have, one a line (default: whatever the CSV names)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write report.json and figures of classes and counts here",
    )
    parser.add_argument(
        "--limit",
        type=cli.number(int, 1),
        default=20,
        help="examples of each kind of finding (default: 20)",
    )
    parser.add_argument(
        "-j",
        "--workers",
        type=cli.number(int, 1),
        default=os.cpu_count() or 1,
        help="processes that decode images (default: one a processor)",
    )
    return parser


def check(
    csv_path: Path,
    img_dir: Path,
    classes: Path | None = None,
    *,
    points_path: Path | None = None,
    limit: int = 20,
    workers: int = 1,
    image_format: ImageFormat = DEFAULT,
) -> tuple[dict[str, Any], list[Sample], PointTable | None]:
    """Check a split CSV and its images; return the report, usable rows and usable points.

    The report consists of JSON types; rows have the labels of their points where these are checked.

    ``classes`` is a file of the names that labels may have (default: any), ``points_path`` a points
    CSV (default: rows have labels), ``limit`` the examples to keep of each kind of finding,
    ``image_format`` how the run would read the images.

    Raises:
        UserError: If ``classes`` cannot be read.
    """
    # The tables
    findings = Findings(limit)
    samples = read_rows(csv_path, findings, labels=points_path is None)
    points = None
    if points_path is not None:
        points = read_point_rows(points_path, samples, findings)
        if points is not None:
            check_points(samples, points, classes, findings)
            samples = with_point_labels(samples, points)
    counts = ClassCounts(samples)
    if points_path is None:
        check_table(samples, counts, findings)
        check_spelling(counts, classes, findings)

    # The images, each decoded once
    images = {}
    if img_dir.is_dir():
        names = list(dict.fromkeys(sample.filename for sample in samples))
        paths = [locate(img_dir, name) for name in names]
        decoded = decode_all(paths, min(workers, len(names)), image_format)
        progress = tqdm(decoded, desc="decoding", total=len(names), disable=None, leave=False)
        images = dict(zip(names, progress, strict=True))
        check_files(samples, images, findings)
        check_contents(samples, images, findings)
        check_folder(img_dir, set(paths), findings)
        if points is not None:
            check_places(samples, points, images, findings)
    else:
        sentence = f"The image folder {img_dir} does not exist; check --img_dir."
        findings.fault("no-image-folder", sentence)
    origin = {"csv_path": str(csv_path), "img_dir": str(img_dir)}
    if points_path is not None:
        origin["points_path"] = str(points_path)
    report = make_report(samples, counts, images.values(), findings, points)
    return {**origin, **report}, samples, points


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a fault is a ``UserError`` once the report is printed and written."""
    args = make_parser().parse_args(arguments)
    if args.output:
        make_folder(args.output)
    report, samples, points = check(
        args.csv_path,
        args.img_dir,
        args.classes,
        points_path=args.points_path,
        limit=args.limit,
        workers=args.workers,
        image_format=make_image_format(args.bands, args.value_range, args.max_megapixels),
    )
    known = f"{len(report['classes']):,} classes"
    if points is not None:
        known = f"{len(points):,} usable points" + (f" of {known}" if report["classes"] else "")
    print(
        f"{args.csv_path}: {len(samples):,} usable rows, {known}; images in {args.img_dir}\n\n"
        f"{to_text(report)}"
    )
    if args.output:
        write_text(args.output / "report.json", json.dumps(report, indent=2) + "\n")
        if report["classes"]:
            draw_classes(args.output / "classes.png", samples)
        if points is not None and samples:
            draw_counts(args.output / "counts.png", counts_by_split(samples, points))
    if faults := report["faults"]:
        count = sum(fault["count"] for fault in faults)
        raise UserError(
            f"The check of {args.csv_path} found {count:,} fault{'s' * (count > 1)}; fix what "
            f"the report lists, and check again. The first: {faults[0]['examples'][0]}"
        )


if __name__ == "__main__":
    stop_at_once()  # also ends the decoding processes
    cli.run(main)
