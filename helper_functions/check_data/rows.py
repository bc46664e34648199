"""Checks of the table alone: its faults, rows given twice, empty splits, doubtful class names.

``check_table`` decides for ``train.py`` too, so that nothing stops a run that this check lets pass.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from helper_functions.check_data.findings import Findings
from helper_functions.check_data.labels import ClassCounts, describe_count, describe_suspect
from helper_functions.check_data.spelling import Names, suspects
from helper_functions.data.folders import canonical_name
from helper_functions.data.label_cells import MISSING
from helper_functions.data.separators import find_joined
from helper_functions.data.splits import Problem, Sample, SplitTable, parse_rows
from helper_functions.data.tables import read_lines
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.lookalikes import contrast

# Splits that every run needs, and what for
PURPOSES = {"train": "learn from", "val": "evaluate the model on"}
EXAMPLES = 3  # of each kind of note that train.py prints
_MANY = 20  # classes, most of which should not be seen once only
_MOST = 0.9
_NOTHING = frozenset(text.casefold() for text in MISSING) - {"na"}
_NUMBER = re.compile(r"[-+]?\d{1,15}(\.\d{1,15})?")


def read_rows(csv_path: Path, findings: Findings, *, labels: bool = True) -> list[Sample]:
    """Return the rows that can be used; every problem of the others is a fault.

    Without ``labels`` the column of labels may be missing, and no row has one.
    """
    samples = []
    for row in parse_rows(csv_path, labels=labels):
        if isinstance(row, Problem):
            findings.fault(row.kind, row.message)
        else:
            samples.append(row)
    return samples


def check_repeats(samples: Sequence[Sample], findings: Findings) -> None:
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


def _check_splits(counts: ClassCounts, findings: Findings) -> None:
    """Find what is missing in the splits that every run needs."""
    for split, purpose in PURPOSES.items():
        if counts.names and not counts.images[split]:
            sentence = f"No usable row belongs to the split {split}, so there is nothing to"
            findings.fault("empty-split", f"{sentence} {purpose}.")
        elif counts.names and not counts.labeled[split]:
            sentence = f"No image of the split {split} has a label, so there is nothing to"
            findings.fault("split-without-label", f"{sentence} {purpose}.")
    for name in counts.without("train"):
        sentence = f"No training image shows {name!r}: the model cannot learn it."
        findings.note("class-without-training-image", sentence)
    for name in counts.without("val"):
        sentence = f"No validation image shows {name!r}: its AP counts as 0."
        findings.note("class-without-validation-image", sentence)
    for name in counts.names:
        if 0 < counts.images["train"] == counts.by_split["train"][name]:
            sentence = f"Every training image shows {name!r}: there is nothing to tell it from."
            findings.note("class-of-every-training-image", sentence)


def _check_names(counts: ClassCounts, findings: Findings) -> None:
    """Note class names that hardly are names of classes."""
    names, total = counts.names, counts.total
    if joined := find_joined(names, lists=counts.several > 0):
        count = len(joined.names)
        looks = "1 class name looks" if count == 1 else f"{count:,} class names look"
        parts = " and ".join(map(repr, joined.parts[:3]))
        findings.note(
            "joined-labels",
            f"{looks} joined by {joined.separator!r}, such as {joined.names[0]!r} of {parts}; "
            f"write several labels like ['crab', 'sea star'], or convert the table by: python -m "
            f"helper_functions.prepare labels --separator {joined.separator!r}",
        )
    rare = sum(count == 1 for count in total.values())
    if len(names) >= _MANY and rare >= _MOST * len(names):
        findings.note(
            "classes-of-one-image",
            f"{rare:,} of {len(names):,} classes occur in one image only: does the column of "
            f"labels hold names of classes?",
        )
    for name in names:
        if name.casefold() in _NOTHING:
            sentence = f"The class {name!r} ({describe_count(total[name])}) may mean that there"
            findings.note("class-of-nothing", f"{sentence} is none; write [] for no class.")
    by_value: dict[float, str] = {}
    for name in names:
        if _NUMBER.fullmatch(name) and (first := by_value.setdefault(float(name), name)) != name:
            both = f"{first!r} ({describe_count(total[first])}) and {name!r} "
            same = f"({describe_count(total[name])}) are the same number, but two classes."
            findings.note("doubtful-label", both + same)


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


def check_table(samples: Sequence[Sample], counts: ClassCounts, findings: Findings) -> None:
    """Check the usable rows of a table, and the names of its classes."""
    check_repeats(samples, findings)
    _check_names(counts, findings)
    _check_splits(counts, findings)


def check_for_training(table: SplitTable) -> list[str]:
    """Return what the check of a table notes, as lines to print; the first fault is raised.

    Raises:
        UserError: If the check finds a fault.
    """
    findings = Findings(limit=EXAMPLES)
    counts = ClassCounts(table.samples)
    check_table(table.samples, counts, findings)
    check_spelling(counts, None, findings)
    return lines_for_training(table.path, findings)


def lines_for_training(path: Path, findings: Findings) -> list[str]:
    """Return notes on the split CSV ``path`` as lines to print; the first fault is raised.

    Raises:
        UserError: If there is a fault.
    """
    for fault in findings.faults.values():
        raise UserError(f"{path}: {fault['examples'][0]}")
    lines = []
    for note in findings.notes.values():
        hidden = note["count"] - len(note["examples"])
        more = f" And {hidden:,} more of this kind." if hidden else ""
        lines.append(f"Note: {' '.join(note['examples'])}{more}")
    if lines:
        lines.append("More by: python -m helper_functions.check_data")
    return lines
