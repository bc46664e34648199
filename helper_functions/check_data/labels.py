"""Class names and their images, split by split; no file is opened here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from helper_functions.check_data.spelling import Suspect
from helper_functions.data.splits import SPLITS, Sample
from helper_functions.runtime.lookalikes import contrast


class ClassCounts:
    """How many images of each split show each class.

    Attributes:
        names: All class names, sorted.
        by_split: Images of each class, by split; ``total``: over all splits.
        images: Images of each split.
        labeled: Those of them with a label.
        several: Images with two labels or more.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.by_split: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self.images: Counter[str] = Counter()
        self.labeled: Counter[str] = Counter()
        self.several = 0
        for sample in samples:
            self.by_split[sample.split].update(sample.labels)
            self.images[sample.split] += 1
            self.labeled[sample.split] += bool(sample.labels)
            self.several += len(sample.labels) > 1
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
