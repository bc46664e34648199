"""The command that checks a split CSV and its images."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from helper_functions import cli
from helper_functions.check_data.chart import draw_classes
from helper_functions.check_data.findings import Findings
from helper_functions.check_data.images import (
    check_contents,
    check_files,
    check_folder,
    decode_all,
)
from helper_functions.check_data.labels import ClassCounts
from helper_functions.check_data.report import make_report, to_text
from helper_functions.check_data.rows import check_spelling, check_table, read_rows
from helper_functions.data.bands import ImageFormat
from helper_functions.data.flags import InputSettings, make_image_format
from helper_functions.data.folders import locate
from helper_functions.data.images import DEFAULT
from helper_functions.data.splits import Sample
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import make_folder, write_text
from helper_functions.runtime.signals import Stopped

DESCRIPTION = """Check a split CSV and its images: list everything that would stop or spoil a run.

Exit status: 0 if training can start, 2 if it would fail or its metrics would be meaningless.
"""


def make_parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(prog="python -m helper_functions.check_data", description=DESCRIPTION)
    parser.add_argument("--csv_path", type=Path, required=True, help="split CSV")
    parser.add_argument("--img_dir", type=Path, required=True, help="image folder")
    cli.add_flags(parser, "options", InputSettings, ("bands", "value_range", "max_megapixels"))
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names that labels may have, one a line (default: whatever the CSV names)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write report.json and classes.png here"
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
    limit: int = 20,
    workers: int = 1,
    image_format: ImageFormat = DEFAULT,
) -> tuple[dict[str, Any], list[Sample]]:
    """Check a split CSV and its images; return the report, as JSON types, and the usable rows.

    ``classes`` is a file of the names that labels may have (default: any), ``limit`` the examples
    to keep of each kind of finding, ``image_format`` how the run would read the images.

    Raises:
        UserError: If ``classes`` cannot be read.
    """
    # The table
    findings = Findings(limit)
    samples = read_rows(csv_path, findings)
    counts = ClassCounts(samples)
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
    else:
        sentence = f"The image folder {img_dir} does not exist; check --img_dir."
        findings.fault("no-image-folder", sentence)
    origin = {"csv_path": str(csv_path), "img_dir": str(img_dir)}
    return {**origin, **make_report(samples, counts, images.values(), findings)}, samples


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a fault is a ``UserError`` once the report is printed and written."""
    args = make_parser().parse_args(arguments)
    if args.output:
        make_folder(args.output)
    report, samples = check(
        args.csv_path,
        args.img_dir,
        args.classes,
        limit=args.limit,
        workers=args.workers,
        image_format=make_image_format(args.bands, args.value_range, args.max_megapixels),
    )
    print(
        f"{args.csv_path}: {len(samples):,} usable rows, {len(report['classes']):,} classes; "
        f"images in {args.img_dir}\n\n{to_text(report)}"
    )
    if args.output:
        write_text(args.output / "report.json", json.dumps(report, indent=2) + "\n")
        if report["classes"]:
            draw_classes(args.output / "classes.png", samples)
    if faults := report["faults"]:
        count = sum(fault["count"] for fault in faults)
        raise UserError(
            f"The check of {args.csv_path} found {count:,} fault{'s' * (count > 1)}; fix what "
            f"the report lists, and check again. The first: {faults[0]['examples'][0]}"
        )


def _stop(signum: int, _frame: FrameType | None) -> None:
    """Leave as after Ctrl-C, which ends the decoding processes first."""
    raise Stopped(signum)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    cli.run(main)
