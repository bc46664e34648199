"""The result of a check as plain data and as text for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from helper_functions.check_data.findings import Findings
from helper_functions.check_data.images import DecodedImage
from helper_functions.check_data.labels import ClassCounts
from helper_functions.data.splits import SPLITS, Sample
from helper_functions.runtime.text import printable, shorten

_CLASSES = 10  # at each end of the table of classes before its middle is left out
_WIDEST = 60  # letters of a name
_SIZES = 5  # most frequent sizes that are named


def make_report(
    samples: Sequence[Sample],
    counts: ClassCounts,
    images: Collection[DecodedImage],
    findings: Findings,
) -> dict[str, Any]:
    """Return everything that a check of usable rows and their files knows, as JSON types."""
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
        "faults": list(findings.faults.values()),
        "notes": list(findings.notes.values()),
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
    parts = []
    if report["splits"]:
        rows = [("split", "rows", "labels an image", "without label")]
        for split, row in report["splits"].items():
            labels = f"{row['labels_per_image']:.2f}"
            rows.append((split, f"{row['rows']:,}", labels, f"{row['without_label']:,}"))
        parts.append(_table(rows))
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
