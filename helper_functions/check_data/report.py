"""The result of a check as plain data and as text for a terminal."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from helper_functions.check_data.findings import Findings
from helper_functions.check_data.images import DecodedImage
from helper_functions.check_data.labels import ClassCounts
from helper_functions.check_data.points import counts_by_split, points_of_classes
from helper_functions.data.points import PointTable
from helper_functions.data.splits import SPLITS, Sample
from helper_functions.runtime.text import printable, shorten

_CLASSES = 10  # at each end of the table of classes before its middle is left out
_WIDEST = 60  # letters of a name
_SIZES = 5  # most frequent sizes that are named
_HEADINGS = {  # of figures, where they differ from the key
    "labels_per_image": "labels an image",
    "without_label": "without label",
    "without_point": "without point",
}


def make_report(
    samples: Sequence[Sample],
    counts: ClassCounts,
    images: Collection[DecodedImage],
    findings: Findings,
    points: PointTable | None = None,
) -> dict[str, Any]:
    """Return everything that a check of usable rows and their files knows, as JSON types.

    With ``points`` classes are counted by them, else by images.
    """
    if points is None:
        splits = _label_figures(samples)
        of_split: Mapping[str, Mapping[str, int]] = counts.by_split
    else:
        splits = _point_figures(counts_by_split(samples, points))
        of_split = points_of_classes(samples, points)
    names = sorted(counts.names, key=lambda name: -sum(of_split[split][name] for split in SPLITS))
    readable = [image for image in images if image.problem is None]
    sizes = Counter(image.size for image in readable).most_common()
    return {
        "usable": not findings.faults,
        "faults": list(findings.faults.values()),
        "notes": list(findings.notes.values()),
        "splits": splits,
        "sizes": [{"width": w, "height": h, "images": number} for (w, h), number in sizes],
        "formats": dict(Counter(image.format for image in readable).most_common()),
        "classes": [
            {"name": name, **{split: of_split[split][name] for split in SPLITS}} for name in names
        ],
    }


def _label_figures(samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """Return the figures of the labels, if there are any, of each split that is not empty."""
    splits: dict[str, dict[str, Any]] = {}
    labeled = any(sample.labels for sample in samples)
    for split in SPLITS:
        if labels := [len(sample.labels) for sample in samples if sample.split == split]:
            splits[split] = {"rows": len(labels)}
            if labeled:
                splits[split]["labels_per_image"] = sum(labels) / len(labels)
                splits[split]["without_label"] = labels.count(0)
    return splits


def _point_figures(counts: Mapping[str, Sequence[int]]) -> dict[str, dict[str, Any]]:
    """Return the figures of the points of each split that is not empty."""
    return {
        split: {
            "rows": len(numbers),
            "without_point": numbers.count(0),
            "points": sum(numbers),
            "min": min(numbers),
            "median": float(statistics.median(numbers)),
            "mean": sum(numbers) / len(numbers),
            "max": max(numbers),
        }
        for split, numbers in counts.items()
        if numbers
    }


def _split_lines(splits: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table of figures by split."""
    columns = [key for figures in list(splits.values())[:1] for key in figures]
    rows = [["split", *(_HEADINGS.get(key, key) for key in columns)]]
    for split, figures in splits.items():
        numbers = (f"{n:,.2f}" if isinstance(n, float) else f"{n:,}" for n in figures.values())
        rows.append([split, *numbers])
    return _table(rows)


def to_text(report: Mapping[str, Any]) -> str:
    """Return a report for a person to read."""
    parts = []
    if report["splits"]:
        parts.append(_split_lines(report["splits"]))
    if report["sizes"]:
        parts.append(_image_lines(report["sizes"], report["formats"]))
    if report["classes"]:
        names = (shorten(printable(c["name"]), _WIDEST) for c in report["classes"])
        classes = [
            [name, *(f"{c[split]:,}" for split in SPLITS)]
            for name, c in zip(names, report["classes"], strict=True)
        ]
        if len(classes) > 2 * _CLASSES:
            hidden = f"... {len(classes) - 2 * _CLASSES:,} more classes ..."
            classes[_CLASSES:-_CLASSES] = [[hidden, *[""] * len(SPLITS)]]
        parts.append(_table([["class", *SPLITS], *classes]))
    for title, findings in (("FAULTS", report["faults"]), ("Notes", report["notes"])):
        lines = [title]
        for finding in findings:
            lines.append(f"  {finding['kind'].replace('-', ' ')}: {finding['count']:,}")
            lines += [f"    {printable(example)}" for example in finding["examples"]]
            if hidden := finding["count"] - len(finding["examples"]):
                lines.append(f"    ... {hidden:,} more ...")
        if findings:
            parts.append(lines)
    if not report["usable"]:
        verdict = "Training would fail, or its metrics mean little."
    elif report["notes"]:
        verdict = "Training can start; read the notes first."
    else:
        verdict = "Ready to train."
    parts.append([verdict])
    return "\n\n".join("\n".join(lines) for lines in parts)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns as wide as their cells, the first one to the left."""
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    pattern = "  ".join([f"{{:<{first}}}", *(f"{{:>{width}}}" for width in others)])
    return [pattern.format(*row) for row in rows]


def _image_lines(sizes: Sequence[Mapping[str, int]], formats: Mapping[str, int]) -> list[str]:
    named = [f"{size['width']} x {size['height']}: {size['images']:,}" for size in sizes[:_SIZES]]
    if len(sizes) > _SIZES:
        named.append(f"{len(sizes) - _SIZES:,} other sizes")
    sides = [side for size in sizes for side in (size["width"], size["height"])]
    return [
        f"sizes    {'; '.join(named)} (sides from {min(sides):,} to {max(sides):,} pixels)",
        f"formats  {'; '.join(f'{name}: {number:,}' for name, number in formats.items())}",
    ]
