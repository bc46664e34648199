"""Names that look the same and are not: what differs is shown with escapes."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

# Cyrillic and Greek letters, dashes and quotes, with the ASCII characters that they resemble.
_RESEMBLING = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеіјорсухѕһΑΒΕΖΗΙΚΜΝΟΡΤΥΧονρ‐‒–—―−‘’ʼ′“”∕",  # noqa: RUF001
    "ABESIJKMHOPCTYXaeijopcyxshABEZHIKMNOPTYXovp------''''\"\"/",
)
_INVISIBLE = ("Cf", "Cc")  # categories of Unicode, among them zero-width characters


def skeleton(name: str) -> str:
    r"""Return what is left of a name for the eye: names that look the same have the same.

    Letters are decomposed and free of invisible characters, blanks are single spaces, and letters
    of other alphabets are the Latin ones that they resemble.

    >>> skeleton("Hêtre\u200b") == skeleton("He\u0302tre")
    True
    """
    if name.isascii() and name.isprintable():
        return " ".join(name.split())
    words = " ".join(unicodedata.normalize("NFKD", name).split())
    seen = (letter for letter in words if unicodedata.category(letter) not in _INVISIBLE)
    return " ".join("".join(seen).translate(_RESEMBLING).split())


def find_look_alike(name: str, names: Iterable[str]) -> str | None:
    """Return the first of some names that looks like another one and differs from it."""
    looks = skeleton(name)
    return next((other for other in names if other != name and skeleton(other) == looks), None)


def contrast(name: str, other: str) -> tuple[str, str]:
    r"""Return two names in quotes; if they look the same, with escapes where they differ.

    >>> print(*contrast("caf\xe9", "cafe\u0301"))
    'caf\xe9' 'cafe\u0301'
    >>> print(*contrast("oak", "ash"))
    'oak' 'ash'
    """
    if name == other or skeleton(name) != skeleton(other):
        return repr(name), repr(other)
    shown = ["", ""]
    matcher = difflib.SequenceMatcher(None, name, other, autojunk=False)
    for kind, start, end, other_start, other_end in matcher.get_opcodes():
        quote = repr if kind == "equal" else ascii
        shown[0] += quote(name[start:end])[1:-1]
        shown[1] += quote(other[other_start:other_end])[1:-1]
    return f"'{shown[0]}'", f"'{shown[1]}'"
