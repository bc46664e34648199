"""The result of a check as plain data and as text for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from helper_functions.check_data.findings import Findings
from helper_functions.check_data.images import DecodedImage
from helper_functions.check_data.labels import ClassCounts
from helper_functions.data.splits import SPLITS, Sample

_CLASSES = 10  # at each end of the table of classes before its middle is left out
_SIZES = 5  # most frequent sizes that are named


def make_report(
    samples: Sequence[Sample],
    counts: ClassCounts,
    images: Collection[DecodedImage],
    findings: Findings,
) -> dict[str, Any]:
    """Return everything that a check knows, in types that JSON can hold.

    Args:
        samples: The rows that can be used.
        counts: Images by class and split.
        images: What is known of each file.
        findings: Faults and notes.
    """
    splits = {}
    for split in SPLITS:
        if labels := [len(sample.labels) for sample in samples if sample.split == split]:
            splits[split] = {
                "rows": len(labels),
                "labels_per_image": sum(labels) / len(labels),
                "without_label": labels.count(0),
            }
    readable = [image for image in images if image.problem is None]
    sizes = Counter(image.size for image in readable).most_common()
    return {
        "usable": not findings.faults,
        "faults": [vars(fault) for fault in findings.faults.values()],
        "notes": [vars(note) for note in findings.notes.values()],
        "splits": splits,
        "sizes": [{"width": w, "height": h, "images": number} for (w, h), number in sizes],
        "formats": dict(Counter(image.format for image in readable).most_common()),
        "classes": [
            {"name": name, **{split: counts.by_split[split][name] for split in SPLITS}}
            for name in counts.by_frequency()
        ],
    }


def to_text(report: Mapping[str, Any]) -> str:
    """Return a report for a person to read."""
    lines = []
    if report["splits"]:
        lines += ["split      rows  labels an image  without label"]
        for split, row in report["splits"].items():
            lines.append(
                f"{split:<6} {row['rows']:8,}  {row['labels_per_image']:15.2f}  "
                f"{row['without_label']:13,}"
            )
        lines += [""]
    if report["sizes"]:
        lines += [*_image_lines(report["sizes"], report["formats"]), ""]
    if report["classes"]:
        lines += [*_class_lines(report["classes"]), ""]
    for title, findings in (("FAULTS", report["faults"]), ("Notes", report["notes"])):
        if findings:
            lines += [title, *_finding_lines(findings), ""]
    poor = "Training would fail, or its metrics mean little."
    return "\n".join([*lines, "Ready to train." if report["usable"] else poor])


def _image_lines(sizes: Sequence[Mapping[str, int]], formats: Mapping[str, int]) -> list[str]:
    named = [f"{size['width']} x {size['height']}: {size['images']:,}" for size in sizes[:_SIZES]]
    if len(sizes) > _SIZES:
        named.append(f"{len(sizes) - _SIZES:,} other sizes")
    sides = [side for size in sizes for side in (size["width"], size["height"])]
    return [
        f"sizes    {'; '.join(named)} (sides from {min(sides):,} to {max(sides):,} pixels)",
        f"formats  {'; '.join(f'{name}: {number:,}' for name, number in formats.items())}",
    ]


def _class_lines(classes: Sequence[Mapping[str, Any]]) -> list[str]:
    width = max(len("class"), *(len(row["name"]) for row in classes))
    lines = [
        f"{row['name']:<{width}}" + "".join(f"{row[split]:9,}" for split in SPLITS)
        for row in classes
    ]
    if len(lines) > 2 * _CLASSES:
        hidden = f"... {len(lines) - 2 * _CLASSES:,} more classes ..."
        lines = [*lines[:_CLASSES], hidden, *lines[-_CLASSES:]]
    return [f"{'class':<{width}}" + "".join(f"{split:>9}" for split in SPLITS), *lines]


def _finding_lines(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for finding in findings:
        lines.append(f"  {finding['kind'].replace('-', ' ')}: {finding['count']:,}")
        lines += [f"    {example}" for example in finding["examples"]]
        if hidden := finding["count"] - len(finding["examples"]):
            lines.append(f"    ... {hidden:,} more ...")
    return lines
