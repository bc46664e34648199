"""What the table alone tells: its faults, rows given twice, empty splits, doubtful class names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from helper_functions.check_data.findings import Findings
from helper_functions.check_data.labels import ClassCounts, pictures, suspicion
from helper_functions.check_data.spelling import Names, suspects
from helper_functions.data.splits import Problem, Sample, parse_rows
from helper_functions.runtime.errors import UserError


def read_rows(csv_path: Path, findings: Findings) -> list[Sample]:
    """The rows that can be used; every problem of the others is a fault."""
    samples = []
    for row in parse_rows(csv_path):
        if isinstance(row, Problem):
            findings.fault(row.kind, row.message)
        else:
            samples.append(row)
    return samples


def check_rows(samples: Sequence[Sample], findings: Findings) -> None:
    """Look for pictures with several rows in one split."""
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
                f"labels; a picture has one row that names all its classes.",
            )


def check_splits(counts: ClassCounts, findings: Findings) -> None:
    """Look for what is missing in the splits that every run needs."""
    for split, purpose in (("train", "learn from"), ("val", "judge the model by")):
        if counts.names and not counts.pictures[split]:
            findings.fault(
                "empty-split",
                f"No usable row belongs to the split {split}, so there is nothing to {purpose}.",
            )
    for name in counts.without("train"):
        findings.note(
            "class-without-training-picture",
            f"No training picture shows {name!r}: the model cannot learn it.",
        )
    for name in counts.without("val"):
        findings.note(
            "class-without-validation-picture",
            f"No validation picture shows {name!r}: its AP counts as 0.",
        )


def check_spelling(
    counts: ClassCounts, known: Sequence[str] | None, source: Path | None, findings: Findings
) -> None:
    """Look for misspelt class names.

    Args:
        counts: The classes and their pictures.
        known: The names that labels may have; ``None``: whatever the CSV says.
        source: Where those stand.
        findings: Names that are not known are faults, names that look misspelt are notes.
    """
    if known is None:
        for suspect in suspects(counts.total):
            findings.note("doubtful-label", f"{suspicion(suspect)}.")
        return
    names, allowed = Names(known), set(known)
    for name in counts.names:
        if name not in allowed:
            nearest = names.nearest(name)
            hint = f" Did you mean {nearest!r}?" if nearest else ""
            findings.fault(
                "unknown-label",
                f"The class {name!r} ({pictures(counts.total[name])}) is not in {source}.{hint}",
            )


def read_names(path: Path) -> list[str]:
    """Class names from a text file, one a line.

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
