"""Class names that look misspelt: rare ones that resemble a frequent one."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from helper_functions.runtime.lookalikes import find_look_alike, skeleton

RARE = 3  # images of a name that may be a misspelling
TIMES = 4  # how many times as many images the other name must have
# Least similarity, by difflib: 98 % of random single slips in TreeSatAI's genera reach it, and
# 0.03 % of the pairs of FathomNet's 290 names.
SIMILARITY = 0.8
SHORTEST = 4  # letters; of shorter names too many resemble each other


class Suspect(NamedTuple):
    """A name, the more frequent one that it resembles, and the number of images of each."""

    name: str
    images: int
    nearest: str
    nearest_images: int


@lru_cache(maxsize=1 << 16)
def plain(name: str) -> str:
    """Return a name without case, accents, blanks and punctuation.

    >>> plain("Hêtre (1)")
    'hetre1'
    """
    letters = skeleton(name).casefold()
    return "".join(letter for letter in letters if letter.isalnum()) or name


def _digits(name: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\d+", name))


class Names:
    """Names to compare others with, of the same first letter and the same digits.

    Names of other digits mean other things. Misspellings rarely change the first letter, and
    thousands of names would take minutes otherwise.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._groups: defaultdict[object, dict[str, str]] = defaultdict(dict)
        self._names = list(names)
        for name in self._names:
            self._group(name)[plain(name)] = name

    def _group(self, name: str) -> dict[str, str]:
        return self._groups[plain(name)[0], _digits(name)]

    def nearest(self, name: str) -> str | None:
        """Return the name that is most like another one, if any is like it.

        >>> Names(["Abies", "Pinus"]).nearest("Abeis")
        'Abies'
        """
        wanted = plain(name)
        if wanted in self._group(name) and (alike := find_look_alike(name, self._names)):
            return alike
        if len(wanted) < SHORTEST or wanted.isdigit():
            return None
        group = self._group(name)
        matches = difflib.get_close_matches(wanted, group, n=1, cutoff=SIMILARITY)
        return group[matches[0]] if matches else None


def suspects(counts: Mapping[str, int]) -> list[Suspect]:
    """Find names that may be misspelt.

    A name is suspect if a more frequent one differs only in case, accents, blanks and punctuation,
    or if it has at most ``RARE`` images and resembles a name that has at least ``TIMES`` as many.
    Names whose digits differ are never suspected.

    Args:
        counts: Images of every name; the suspects come in its order.
    """
    usual: dict[object, str] = {}  # the most frequent of the names that are spelt alike
    for name in counts:
        first = usual.setdefault((plain(name), _digits(name)), name)
        if counts[name] > counts[first]:
            usual[plain(name), _digits(name)] = name
    frequent = {
        rare: Names(name for name in counts if counts[name] >= TIMES * rare)
        for rare in range(1, RARE + 1)
    }
    found = []
    for name, count in counts.items():
        nearest: str | None = usual[plain(name), _digits(name)]
        if nearest == name:
            nearest = frequent[count].nearest(name) if count in frequent else None
        if nearest is not None:
            found.append(Suspect(name, count, nearest, counts[nearest]))
    return found
