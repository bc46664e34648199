"""Checks of the points of a set: of the table alone, and of their places in the images.

``check_points`` decides for ``train.py --task count`` too, so that nothing stops a run that this
check lets pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from helper_functions.check_data.findings import Findings
from helper_functions.check_data.images import DecodedImage
from helper_functions.check_data.labels import ClassCounts
from helper_functions.check_data.rows import (
    EXAMPLES,
    PURPOSES,
    check_repeats,
    check_spelling,
    lines_for_training,
)
from helper_functions.data.points import LABEL_PROBLEMS, PointTable, points_outside, read_points
from helper_functions.data.splits import SPLITS, Problem, Sample, SplitTable
from helper_functions.runtime.errors import UserError


def read_point_rows(path: Path, samples: Sequence[Sample], findings: Findings) -> PointTable | None:
    """Return the points that can be used; every problem of the others is a fault.

    Labels that only a ``--loss-mode`` of several classes would refuse are notes. ``None``: the file
    cannot be read.
    """

    def report(problem: Problem) -> None:
        if problem.kind in LABEL_PROBLEMS:
            sentence = f"{problem.message} A --loss-mode of several classes refuses that."
            findings.note(problem.kind, sentence)
        else:
            findings.fault(problem.kind, problem.message)

    try:
        return read_points(path, [sample.filename for sample in samples], None, report)
    except UserError as error:
        findings.fault("unusable-points", str(error))
        return None


def with_point_labels(samples: Sequence[Sample], points: PointTable) -> list[Sample]:
    """Return the rows with the labels of their points, each once."""
    return [
        replace(
            sample,
            labels=tuple(
                points.classes[k]
                for k in np.unique(points.images[sample.filename].classes).tolist()
                if points.classes and points.classes[k]
            ),
        )
        for sample in samples
    ]


def counts_by_split(samples: Sequence[Sample], points: PointTable) -> dict[str, list[int]]:
    """Return the number of points of every image, by split."""
    counts: dict[str, list[int]] = {split: [] for split in SPLITS}
    for sample in samples:
        counts[sample.split].append(len(points.images[sample.filename]))
    return counts


def points_of_classes(samples: Sequence[Sample], points: PointTable) -> dict[str, Counter[str]]:
    """Return the number of points of every label, by split."""
    counts = {split: Counter[str]() for split in SPLITS}
    for sample in samples if points.classes else ():
        numbers = np.bincount(points.images[sample.filename].classes, minlength=1)
        for k in np.nonzero(numbers)[0].tolist():
            if points.classes[k]:
                counts[sample.split][points.classes[k]] += int(numbers[k])
    return counts


def check_points(
    samples: Sequence[Sample], points: PointTable, classes: Path | None, findings: Findings
) -> None:
    """Check the usable rows of a table with those of its points, and the labels of these.

    ``classes`` is a file of the names that labels may have (default: any).
    """
    check_repeats(samples, findings)
    counts = counts_by_split(samples, points)
    for split, purpose in PURPOSES.items():
        nothing = f"so there is nothing to {purpose}."
        without = f"No image of the split {split} has a point in {points.path}"
        if not counts[split]:
            sentence = f"No usable row belongs to the split {split}, {nothing}"
            findings.fault("empty-split", sentence)
        elif not any(counts[split]) and split == "train":
            findings.fault("split-without-points", f"{without}, {nothing}")
        elif not any(counts[split]):
            sentence = f"{without}: only false alarms can be counted there."
            findings.note("split-without-points", sentence)
    for note in points.notes:
        findings.note("doubtful-points", note)
    if points.classes:
        _check_labels(samples, points, classes, findings)


def _check_labels(
    samples: Sequence[Sample], points: PointTable, classes: Path | None, findings: Findings
) -> None:
    """Find labels that hardly any point has, and doubtful names."""
    of_split = points_of_classes(samples, points)
    total = sum(of_split.values(), Counter[str]())
    for name in sorted(total):
        if total[name] == 1:
            findings.note("label-of-one-point", f"A single point is labeled {name!r}.")
        if not of_split["train"][name]:
            sentence = f"No training image has a point labeled {name!r}"
            findings.note("label-without-training-point", f"{sentence}: nothing can learn it.")
    check_spelling(ClassCounts(with_point_labels(samples, points)), classes, findings)


def check_places(
    samples: Sequence[Sample],
    points: PointTable,
    images: Mapping[str, DecodedImage],
    findings: Findings,
) -> None:
    """Find points outside their image; in the split test, which training does not open: notes."""
    for sample in {sample.filename: sample for sample in samples}.values():
        image = images[sample.filename]
        if image.problem is not None:
            continue
        for sentence in points_outside(points.images[sample.filename], image.size):
            if sample.split == "test":
                findings.note("point-outside-its-test-image", sentence)
            else:
                findings.fault("point-outside-its-image", sentence)


def check_points_for_training(table: SplitTable, points: PointTable) -> list[str]:
    """Return what the check of a table and its points notes, as lines to print.

    Raises:
        UserError: If the check finds a fault.
    """
    findings = Findings(limit=EXAMPLES)
    check_points(table.samples, points, None, findings)
    return lines_for_training(table.path, findings)
