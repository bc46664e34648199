"""The command that checks a split CSV and its pictures."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from helper_functions import cli
from helper_functions.check_data.chart import draw_classes
from helper_functions.check_data.findings import Findings
from helper_functions.check_data.labels import ClassCounts
from helper_functions.check_data.pictures import (
    check_contents,
    check_files,
    count_forms,
    count_sizes,
    decode_all,
)
from helper_functions.check_data.report import Report, to_text, write_json
from helper_functions.check_data.rows import (
    check_rows,
    check_spelling,
    check_splits,
    read_names,
    read_rows,
)
from helper_functions.data.bands import Reading
from helper_functions.data.images import DEFAULT
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import make_folder
from helper_functions.runtime.signals import Stopped

DESCRIPTION = """Check a split CSV and its pictures: everything a run would trip over, in one go.

Exit status: 0 if training can start, 2 if it would fail or its figures would be meaningless.
"""


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(prog="python -m helper_functions.check_data", description=DESCRIPTION)
    parser.add_argument("--csv_path", type=Path, required=True, help="split CSV")
    parser.add_argument("--img_dir", type=Path, required=True, help="image folder")
    cli.add_reading_flags(parser)
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names that labels may have, one a line (default: whatever the CSV names)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write report.json and classes.png here"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report here as well")
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
        help="processes that decode pictures (default: one a processor)",
    )
    return parser


def check(
    csv_path: Path,
    img_dir: Path,
    classes: Path | None = None,
    *,
    limit: int = 20,
    workers: int = 1,
    reading: Reading = DEFAULT,
) -> Report:
    """Check a split CSV and its pictures.

    Args:
        csv_path: The split CSV.
        img_dir: The folder that its file names are relative to.
        classes: A file of the names that labels may have; ``None``: any name.
        limit: Examples to keep of each kind of finding.
        workers: Processes that decode pictures.
        reading: How the run would read them.

    Raises:
        UserError: If ``classes`` cannot be read.
    """
    known = None if classes is None else read_names(classes)
    findings = Findings(limit)
    samples = read_rows(csv_path, findings)
    counts = ClassCounts(samples)
    check_rows(samples, findings)
    check_splits(counts, findings)
    check_spelling(counts, known, classes, findings)
    if not img_dir.is_dir():
        findings.fault(
            "no-image-folder", f"The image folder {img_dir} does not exist; check --img_dir."
        )
        return Report(csv_path, img_dir, samples, counts, Counter(), Counter(), findings)
    pictures = decode_all(samples, img_dir, workers, reading)
    check_files(samples, pictures, img_dir, findings)
    check_contents(samples, pictures, findings)
    sizes, forms = count_sizes(pictures), count_forms(pictures)
    return Report(csv_path, img_dir, samples, counts, sizes, forms, findings)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Raises:
        UserError: If there is a fault, after the report has been printed and written.
    """
    args = make_parser().parse_args(arguments)
    if args.output:
        make_folder(args.output)
    report = check(
        args.csv_path,
        args.img_dir,
        args.classes,
        limit=args.limit,
        workers=args.workers,
        reading=cli.reading(args.bands, args.value_range),
    )
    print(to_text(report))
    if args.output:
        write_json(args.output / "report.json", report)
        if report.counts.names:
            draw_classes(args.output / "classes.png", report.samples, report.counts)
    if args.json:
        make_folder(args.json.parent)
        write_json(args.json, report)
    faults = report.findings.faults
    if faults:
        number = sum(fault.count for fault in faults)
        raise UserError(
            f"The check of {args.csv_path} found {number:,} fault{'s' * (number > 1)}; mend what "
            f"the report lists, and check again. The first: {faults[0].examples[0]}"
        )


def _stop(signum: int, _frame: FrameType | None) -> None:
    """Leave as after Ctrl-C, which ends the decoding processes first."""
    raise Stopped(signum)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    cli.run(main)
