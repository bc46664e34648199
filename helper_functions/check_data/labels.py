"""Class names and their images, split by split; no file is opened here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from helper_functions.check_data.spelling import Suspect, suspects
from helper_functions.data.splits import SPLITS, Sample, SplitTable
from helper_functions.runtime.lookalikes import contrast

_NAMED = 5  # names in the line that train.py prints


class ClassCounts:
    """How many images of each split show each class.

    Attributes:
        names: All class names, sorted.
        by_split: Images of each class, by split; ``total``: over all splits.
        images: Images of each split.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.by_split: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self.images: Counter[str] = Counter()
        for sample in samples:
            self.by_split[sample.split].update(sample.labels)
            self.images[sample.split] += 1
        total = sum(self.by_split.values(), Counter[str]())
        self.names = sorted(total)
        self.total = {name: total[name] for name in self.names}

    def by_frequency(self) -> list[str]:
        """Return all class names, the most frequent first."""
        return sorted(self.names, key=lambda name: -self.total[name])

    def without(self, split: str) -> list[str]:
        """Return the classes that a split, unless it is empty, does not show."""
        shown = self.by_split[split]
        return [name for name in self.names if self.images[split] and not shown[name]]


def describe_count(count: int) -> str:
    """Return a number of images in words."""
    return f"{count:,} image" + ("" if count == 1 else "s")


def describe_suspect(suspect: Suspect) -> str:
    """Return a suspect in words."""
    images, nearest_images = map(describe_count, (suspect.images, suspect.nearest_images))
    name, nearest = contrast(suspect.name, suspect.nearest)
    return f"{name} ({images}) may be a misspelling of {nearest} ({nearest_images})"


def _first_of(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def label_notes(table: SplitTable) -> str:
    """Return one line on what weakens a run on a table without stopping it; empty if nothing."""
    counts = ClassCounts(table.samples)
    notes = []
    if absent := counts.without("train"):
        notes.append(f"no training image shows {_first_of(absent)}")
    if absent := counts.without("val"):
        notes.append(f"no validation image shows {_first_of(absent)} (counted as AP 0)")
    if doubtful := suspects(counts.total):
        notes.append(_first_of([describe_suspect(suspect) for suspect in doubtful]))
    if not notes:
        return ""
    return f"Note: {'; '.join(notes)}. More by: python -m helper_functions.check_data"
