"""Class names and their pictures, split by split; nothing here opens a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from helper_functions.check_data.spelling import Suspect, suspects
from helper_functions.data.splits import SPLITS, Sample, SplitTable

_NAMED = 5  # names in the line that train.py prints


class ClassCounts:
    """How many pictures of each split show each class.

    Attributes:
        names: All class names, sorted.
        by_split: Pictures of a class (a missing name: none), for each of ``SPLITS``.
        total: The same over all splits.
        pictures: Pictures of each split.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.by_split: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self.pictures: Counter[str] = Counter()
        for sample in samples:
            self.by_split[sample.split].update(sample.labels)
            self.pictures[sample.split] += 1
        total = sum(self.by_split.values(), Counter[str]())
        self.names = sorted(total)
        self.total = {name: total[name] for name in self.names}

    def without(self, split: str) -> list[str]:
        """Classes that a split, unless it is empty, does not show."""
        if not self.pictures[split]:
            return []
        return [name for name in self.names if not self.by_split[split][name]]


def pictures(count: int) -> str:
    """A number of pictures in words."""
    return f"{count:,} picture" + ("" if count == 1 else "s")


def suspicion(suspect: Suspect) -> str:
    """A suspect in words."""
    return (
        f"{suspect.name!r} ({pictures(suspect.pictures)}) may be a misspelling of "
        f"{suspect.nearest!r} ({pictures(suspect.nearest_pictures)})"
    )


def _some(things: Sequence[str]) -> str:
    more = f" and {len(things) - _NAMED} more" if len(things) > _NAMED else ""
    return ", ".join(things[:_NAMED]) + more


def label_notes(table: SplitTable) -> str:
    """One line on what a run on a table will suffer from without failing; empty if nothing."""
    counts = ClassCounts(table.samples)
    notes = []
    if absent := counts.without("train"):
        notes.append(f"no training picture shows {_some(absent)}")
    if absent := counts.without("val"):
        notes.append(f"no validation picture shows {_some(absent)} (counted as AP 0)")
    if doubtful := suspects(counts.total):
        notes.append(_some([suspicion(suspect) for suspect in doubtful]))
    if not notes:
        return ""
    return f"Note: {'; '.join(notes)}. More by: python -m helper_functions.check_data"
