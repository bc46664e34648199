"""Class names that look like a slip of the pen: rare ones that resemble a frequent one."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# Pictures of a name that may be a slip, and how many times as many the other name must have.
RARE = 3
TIMES = 4
# Least resemblance, by difflib: 98 % of random single slips in TreeSatAI's genera reach it, and
# 0.03 % of the pairs of FathomNet's 290 names.
ALIKE = 0.8
LOOKED_AT = 10
SHORTEST = 4  # letters; of shorter names too many resemble each other


class Suspect(NamedTuple):
    """A name, the better known one that it resembles, and the number of pictures of each."""

    name: str
    pictures: int
    nearest: str
    nearest_pictures: int


def plain(name: str) -> str:
    """A name without case, accents, blanks and punctuation."""
    letters = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in letters if letter.isalnum()) or name


def _numbers(name: str) -> tuple[str, ...]:
    """The digits of a name: where they differ, names mean different things."""
    return tuple(re.findall(r"\d+", name))


class Names:
    """Names to compare others with.

    ``SequenceMatcher.ratio`` is slow, so it is asked about the ``LOOKED_AT`` names alone that share
    most letters with the one in question, whatever their order: an upper bound of the ratio.

    Args:
        names: K of them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._plain = [plain(name) for name in names]
        self._groups: dict[tuple[str, ...], int] = {}
        groups = [self._groups.setdefault(_numbers(name), len(self._groups)) for name in names]
        self._group = np.array(groups)
        self._lengths = np.array([len(name) for name in self._plain])
        self._column = {letter: n for n, letter in enumerate(sorted(set("".join(self._plain))))}
        self._letters = np.zeros((len(names), len(self._column)), np.int32)
        for row, name in zip(self._letters, self._plain, strict=True):
            for letter in name:
                row[self._column[letter]] += 1

    def nearest(self, name: str, allowed: npt.NDArray[np.bool_] | None = None) -> str | None:
        """The name most like another one, if any is like it.

        Args:
            name: What to find the nearest of.
            allowed: (K,), which names may be given as an answer; ``None``: all.
        """
        wanted = plain(name)
        if len(wanted) < SHORTEST or wanted.isdigit():
            return None
        own = Counter(letter for letter in wanted if letter in self._column)
        columns = [self._column[letter] for letter in own]
        shared = np.minimum(self._letters[:, columns], list(own.values())).sum(axis=1)
        bounds = 2 * shared / (self._lengths + len(wanted))
        possible = (bounds >= ALIKE) & (self._group == self._groups.get(_numbers(name), -1))
        if allowed is not None:
            possible &= allowed
        alike = np.flatnonzero(possible)
        best, found = 0.0, None
        matcher = SequenceMatcher(autojunk=False, b=wanted)
        for index in alike[np.argsort(-bounds[alike], kind="stable")][:LOOKED_AT]:
            matcher.set_seq1(self._plain[index])
            likeness = matcher.ratio()
            if likeness >= ALIKE and likeness > best and self.names[index] != name:
                best, found = likeness, self.names[index]
        return found


def suspects(counts: Mapping[str, int]) -> list[Suspect]:
    """Names that may be misspelt.

    A name is suspect if a more frequent one differs only in case, accents, blanks and punctuation,
    or if it stands on at most ``RARE`` pictures and resembles a name that stands on at least
    ``TIMES`` as many. Names whose digits differ are never suspected.

    Args:
        counts: Pictures of every name.

    Returns:
        The suspects in the order of ``counts``.
    """
    same: defaultdict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for name in counts:
        same[plain(name), _numbers(name)].append(name)
    usual = {
        name: max(spellings, key=lambda spelling: counts[spelling])
        for spellings in same.values()
        for name in spellings
    }
    names = Names(list(counts))
    number = np.array(list(counts.values()))
    found = []
    for name, count in counts.items():
        nearest: str | None = usual[name]
        if nearest == name:
            rare = count <= RARE
            nearest = names.nearest(name, number >= TIMES * count) if rare else None
        if nearest is not None:
            found.append(Suspect(name, count, nearest, counts[nearest]))
    return found
