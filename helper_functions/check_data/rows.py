"""Checks of the table alone: its faults, rows given twice, empty splits, doubtful class names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from helper_functions.check_data.findings import Findings
from helper_functions.check_data.labels import ClassCounts, describe_count, describe_suspect
from helper_functions.check_data.spelling import Names, suspects
from helper_functions.data.folders import canonical_name
from helper_functions.data.splits import Problem, Sample, parse_rows
from helper_functions.data.tables import read_lines
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.lookalikes import contrast


def read_rows(csv_path: Path, findings: Findings) -> list[Sample]:
    """Return the rows that can be used; every problem of the others is a fault."""
    samples = []
    for row in parse_rows(csv_path):
        if isinstance(row, Problem):
            findings.fault(row.kind, row.message)
        else:
            samples.append(row)
    return samples


def check_rows(samples: Sequence[Sample], findings: Findings) -> None:
    """Find images with several rows in one split."""
    first_seen: dict[tuple[str, str], Sample] = {}
    for sample in samples:
        key = canonical_name(sample.filename), sample.split
        earlier = first_seen.setdefault(key, sample)
        if earlier is sample:
            continue
        name, other = contrast(sample.filename, earlier.filename)
        both = name if name == other else f"{name}, there spelt {other},"
        if set(earlier.labels) == set(sample.labels):
            twice = f"{both} counts twice in the split {sample.split}"
            repeats = f"Line {sample.line} repeats line {earlier.line}"
            findings.note("row-given-twice", f"{repeats}: {twice}.")
        else:
            findings.fault(
                "contradictory-rows",
                f"Lines {earlier.line} and {sample.line} give {both} different "
                f"labels; an image has one row that names all its classes.",
            )


def check_splits(counts: ClassCounts, findings: Findings) -> None:
    """Find what is missing in the splits that every run needs."""
    for split, purpose in (("train", "learn from"), ("val", "evaluate the model on")):
        if counts.names and not counts.images[split]:
            sentence = f"No usable row belongs to the split {split}, so there is nothing to"
            findings.fault("empty-split", f"{sentence} {purpose}.")
    for name in counts.without("train"):
        sentence = f"No training image shows {name!r}: the model cannot learn it."
        findings.note("class-without-training-image", sentence)
    for name in counts.without("val"):
        sentence = f"No validation image shows {name!r}: its AP counts as 0."
        findings.note("class-without-validation-image", sentence)


def check_spelling(counts: ClassCounts, classes: Path | None, findings: Findings) -> None:
    """Note names that look misspelt or, with a file of allowed names, find those not in it.

    Raises:
        UserError: If the file cannot be read or holds no name.
    """
    if classes is None:
        for suspect in suspects(counts.total):
            findings.note("doubtful-label", f"{describe_suspect(suspect)}.")
        return
    allowed = [name for _, name in read_lines(classes)]
    if not allowed:
        raise UserError(f"{classes} names no class; write one name a line.")
    names = Names(allowed)
    for name in sorted(set(counts.names).difference(allowed)):
        nearest = names.nearest(name)
        shown, meant = contrast(name, nearest or "")
        hint = f" Did you mean {meant}?" if nearest else ""
        images = describe_count(counts.total[name])
        findings.fault("unknown-label", f"The class {shown} ({images}) is not in {classes}.{hint}")
