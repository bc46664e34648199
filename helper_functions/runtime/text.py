"""Names as people see them: a name from a file may hold anything."""

from __future__ import annotations

import re

# Control characters, line and paragraph separators, letters without width, marks that turn the
# direction of text around, and halves of surrogate pairs, as bytes that are not UTF-8 become.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Write what would steer a terminal or could not be seen as Python does, such as ``\\x1b``.

    >>> print(printable("oak\x1b[31m\n"))
    oak\x1b[31m\n
    """
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shorten(text: str, length: int) -> str:
    """Return a text of at most ``length`` letters; an ellipsis stands for what is cut off.

    >>> shorten("Abies", 5), shorten("Quercus", 5)
    ('Abies', 'Quer…')
    """
    return text if len(text) <= length else f"{text[: length - 1]}…"
