"""Class names that look like several labels joined by something other than commas."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from typing import NamedTuple

LIKELY = ("|", ";")  # hardly ever part of a name
UNLIKELY = ("/", "&", "+", ":", ",", " and ", " ", "_", "-")
SHARE = 0.1  # of all names have to be joined if only one is
MIXED = 1 / 3  # of the parts have to change their place


class Joined(NamedTuple):
    """A separator, and the names that it seems to join."""

    separator: str
    names: list[str]
    parts: list[str]  # of the first name


def _split(names: Collection[str], separator: str) -> dict[str, list[str]]:
    """Return the parts of every name that holds a separator."""
    return {
        name: [part.strip() for part in name.split(separator)]
        for name in names
        if separator in name
    }


def _known(combined: dict[str, list[str]], names: Collection[str]) -> set[str]:
    """Return the parts that are names themselves or come in several combined names."""
    counts = Counter(part for parts in combined.values() for part in set(parts))
    return {part for part, count in counts.items() if count > 1 or part in names}


def _change_places(combined: dict[str, list[str]]) -> bool:
    """Whether parts stand first here and later there, unlike genus and epithet, or color and thing.

    No part may come twice in a name, as in *Corvus corone corone*.
    """
    places: defaultdict[str, set[int]] = defaultdict(set)
    for parts in combined.values():
        for place, part in enumerate(parts):
            places[part].add(place)
    mixed = sum(len(of_part) > 1 for of_part in places.values())
    return mixed >= MIXED * len(places) and len(combined) >= len(places)


def find_joined(names: Collection[str], *, lists: bool) -> Joined | None:
    """Return the separator that joins most names, if there is evidence of one.

    Of ``|`` and ``;``, it is evidence that a part is a name too, or comes in several names. Of
    anything else, all parts of a name must be names too, or come in several names at changing
    places; and of the names with that separator, at least half must be of this kind.

    Args:
        names: All class names.
        lists: Whether some image has several labels, so that the table knows how to list them.

    >>> find_joined(["crab", "eel", "crab eel"], lists=False)
    Joined(separator=' ', names=['crab eel'], parts=['crab', 'eel'])
    >>> find_joined(["Pinus nigra", "Pinus sylvestris", "Fagus sylvatica"], lists=False)
    """
    names = set(names)
    found = []
    for separator in (*LIKELY, *UNLIKELY):
        combined = _split(names, separator)
        known = _known(combined, names)
        if separator in LIKELY:
            joined = {n: p for n, p in combined.items() if "" in p or not known.isdisjoint(p)}
        else:
            explained = {
                name: parts
                for name, parts in combined.items()
                if known.issuperset(parts) and len(set(parts)) == len(parts) and "" not in parts
            }
            joined = {n: p for n, p in explained.items() if names.issuperset(p)}
            if not joined and _change_places(explained):
                joined = explained
            least = 3 if lists else 2
            few = len(joined) < least and (lists or len(joined) < SHARE * len(names))
            if few or 2 * len(joined) < len(combined):
                continue
        if joined:
            first = min(joined)
            parts = [part for part in joined[first] if part]
            found.append(Joined(separator, sorted(joined), parts))
    return max(found, key=lambda joined: len(joined.names), default=None)
