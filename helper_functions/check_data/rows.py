"""Checks of the table alone: its faults, rows given twice, empty splits, doubtful class names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from helper_functions.check_data.findings import Findings
from helper_functions.check_data.labels import ClassCounts, describe_count, describe_suspect
from helper_functions.check_data.spelling import Names, suspects
from helper_functions.data.splits import Problem, Sample, parse_rows
from helper_functions.runtime.errors import UserError


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
        earlier = first_seen.setdefault((sample.filename, sample.split), sample)
        if earlier is sample:
            continue
        if set(earlier.labels) == set(sample.labels):
            findings.note(
                "row-given-twice",
                f"Line {sample.line} repeats line {earlier.line}: {sample.filename!r} counts twice "
                f"in the split {sample.split}.",
            )
        else:
            findings.fault(
                "contradictory-rows",
                f"Lines {earlier.line} and {sample.line} give {sample.filename!r} different "
                f"labels; an image has one row that names all its classes.",
            )


def check_splits(counts: ClassCounts, findings: Findings) -> None:
    """Find what is missing in the splits that every run needs."""
    for split, purpose in (("train", "learn from"), ("val", "evaluate the model on")):
        if counts.names and not counts.images[split]:
            findings.fault(
                "empty-split",
                f"No usable row belongs to the split {split}, so there is nothing to {purpose}.",
            )
    for name in counts.without("train"):
        findings.note(
            "class-without-training-image",
            f"No training image shows {name!r}: the model cannot learn it.",
        )
    for name in counts.without("val"):
        findings.note(
            "class-without-validation-image",
            f"No validation image shows {name!r}: its AP counts as 0.",
        )


def check_spelling(counts: ClassCounts, classes: Path | None, findings: Findings) -> None:
    """Find misspelt class names.

    Args:
        counts: The classes and their images.
        classes: A file of the names that labels may have; ``None``: any name.
        findings: Names that are not in the file are faults, names that look misspelt are notes.

    Raises:
        UserError: If the file cannot be read or holds no name.
    """
    if classes is None:
        for suspect in suspects(counts.total):
            findings.note("doubtful-label", f"{describe_suspect(suspect)}.")
        return
    allowed = read_names(classes)
    names = Names(allowed)
    for name in sorted(set(counts.names).difference(allowed)):
        nearest = names.nearest(name)
        hint = f" Did you mean {nearest!r}?" if nearest else ""
        findings.fault(
            "unknown-label",
            f"The class {name!r} ({describe_count(counts.total[name])}) is not in {classes}.{hint}",
        )


def read_names(path: Path) -> list[str]:
    """Read class names from a text file, one a line.

    Raises:
        UserError: If it cannot be read or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check --classes.") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise UserError(f"{path} names no class; write one name a line.")
    return names
