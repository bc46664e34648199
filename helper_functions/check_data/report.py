"""The result of a check as text for a terminal and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helper_functions.check_data.findings import Finding, Findings
from helper_functions.check_data.labels import ClassCounts
from helper_functions.data.splits import SPLITS, Sample
from helper_functions.runtime.files import write_text

_CLASSES = 10  # at each end of the table of classes before its middle is left out
_SIZES = 5  # most frequent sizes that are named


@dataclass(frozen=True)
class Report:
    """All that a check has found.

    Attributes:
        csv_path: The split CSV.
        img_dir: The image folder.
        samples: The rows that can be used.
        counts: Pictures by class and split.
        sizes: Readable pictures by width and height.
        forms: Readable pictures by file format and mode.
        findings: Faults and notes.
    """

    csv_path: Path
    img_dir: Path
    samples: Sequence[Sample]
    counts: ClassCounts
    sizes: Counter[tuple[int, int]]
    forms: Counter[str]
    findings: Findings


def _split_figures(report: Report) -> dict[str, dict[str, Any]]:
    """Rows, labels a picture and rows without label of each split that has rows."""
    labels = {split: Counter[int]() for split in SPLITS}
    for sample in report.samples:
        labels[sample.split][len(sample.labels)] += 1
    return {
        split: {
            "rows": numbers.total(),
            "labels_per_picture": sum(n * rows for n, rows in numbers.items()) / numbers.total(),
            "without_label": numbers[0],
        }
        for split, numbers in labels.items()
        if numbers
    }


def _class_figures(report: Report) -> list[dict[str, Any]]:
    """Pictures of every class, the most frequent first."""
    counts = report.counts
    names = sorted(counts.names, key=lambda name: -counts.total[name])
    return [
        {"name": name, **{split: counts.by_split[split][name] for split in SPLITS}}
        for name in names
    ]


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""

    def listed(findings: Sequence[Finding]) -> list[dict[str, Any]]:
        return [vars(finding) for finding in findings]

    return {
        "csv_path": str(report.csv_path),
        "img_dir": str(report.img_dir),
        "usable": not report.findings.faults,
        "faults": listed(report.findings.faults),
        "notes": listed(report.findings.notes),
        "splits": _split_figures(report),
        "sizes": [
            {"width": width, "height": height, "pictures": number}
            for (width, height), number in report.sizes.most_common()
        ],
        "forms": dict(report.forms.most_common()),
        "classes": _class_figures(report),
    }


def write_json(path: Path, report: Report) -> None:
    """Write the report as JSON.

    Raises:
        OSError: If the file cannot be written.
    """
    write_text(path, json.dumps(to_json(report), indent=2) + "\n")


def _split_lines(report: Report) -> list[str]:
    lines = ["split      rows  labels a picture  without label"]
    for split, figures in _split_figures(report).items():
        lines.append(
            f"{split:<6} {figures['rows']:8,}  {figures['labels_per_picture']:16.2f}  "
            f"{figures['without_label']:13,}"
        )
    return [*lines, ""]


def _picture_lines(report: Report) -> list[str]:
    if not report.sizes:
        return []
    named = [f"{w} x {h}: {n:,}" for (w, h), n in report.sizes.most_common(_SIZES)]
    if len(report.sizes) > _SIZES:
        named.append(f"{len(report.sizes) - _SIZES:,} other sizes")
    sides = [side for size in report.sizes for side in size]
    forms = [f"{form}: {number:,}" for form, number in report.forms.most_common()]
    return [
        f"sizes  {'; '.join(named)} (sides from {min(sides):,} to {max(sides):,} pixels)",
        f"forms  {'; '.join(forms)}",
        "",
    ]


def _class_lines(report: Report) -> list[str]:
    figures = _class_figures(report)
    if not figures:
        return []
    width = max(len("class"), *(len(row["name"]) for row in figures))
    lines = [f"{row['name']:<{width}}" + _numbers(row) for row in figures]
    if len(lines) > 2 * _CLASSES:
        hidden = f"... {len(lines) - 2 * _CLASSES:,} more classes ..."
        lines = [*lines[:_CLASSES], hidden, *lines[-_CLASSES:]]
    head = f"{'class':<{width}}" + "".join(f"{split:>9}" for split in SPLITS)
    return [head, *lines, ""]


def _numbers(row: dict[str, Any]) -> str:
    return "".join(f"{row[split]:9,}" for split in SPLITS)


def _finding_lines(title: str, findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return []
    lines = [title]
    for finding in findings:
        lines.append(f"  {finding.kind.replace('-', ' ')}: {finding.count:,}")
        lines += [f"    {example}" for example in finding.examples]
        if finding.count > len(finding.examples):
            lines.append(f"    ... {finding.count - len(finding.examples):,} more ...")
    return [*lines, ""]


def to_text(report: Report) -> str:
    """The report for a person to read."""
    rows, classes = len(report.samples), len(report.counts.names)
    faults = report.findings.faults
    verdict = "Training would fail, or its figures mean little." if faults else "Ready to train."
    return "\n".join(
        [
            f"{report.csv_path}: {rows:,} usable rows, {classes:,} classes; "
            f"pictures in {report.img_dir}",
            "",
            *(_split_lines(report) if rows else []),
            *_picture_lines(report),
            *_class_lines(report),
            *_finding_lines("FAULTS", faults),
            *_finding_lines("Notes", report.findings.notes),
            verdict,
        ]
    )
