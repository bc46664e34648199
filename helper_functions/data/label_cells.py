"""Label cells of a split CSV: the class names in a cell, and why a cell is no list of names."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from typing import Any, NamedTuple

# How pandas and databases write an empty cell
MISSING = frozenset(
    ("", "nan", "NaN", "NAN", "-nan", "-NaN", "NaT", "none", "None", "NONE", "null", "NULL", "Null")
    + ("NA", "<NA>", "N/A", "n/a", "#N/A", "#NA")
)

_PAIRS = {")": "(", "]": "[", "}": "{"}
_QUOTES = "'\""
_JOINED_QUOTES = re.compile(r"""(?<=[^\s,\[(])['"]\s*['"](?=[^\s,\])])""")
_CALL = re.compile(r"""\w[\w.]*\(\s*[\[({'"]""")  # array(['crab']), np.str_('crab')
_NUMBERS = re.compile(r"[-+]?[\d.]\S*(\s+[-+]?[\d.]\S*)+")
_BIT = r"""['"]?[01](?:\.0*)?['"]?"""
_BITS = re.compile(rf"[\[(]?\s*{_BIT}(?:\s*,\s*{_BIT})+\s*[\])]?")


class LabelCell(NamedTuple):
    """The class names of a cell, and a clause on why it is no list of names, if it is none."""

    names: tuple[str, ...]
    fault: str | None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _joins_strings(text: str, value: Any) -> bool:
    """Whether strings follow each other without a comma, as NumPy prints them."""
    if not _JOINED_QUOTES.search(text):
        return False
    if not isinstance(value, (list, tuple, set)):
        return True
    # A quote may be part of a name, so Python itself has to count the strings.
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    strings = sum(token.type == tokenize.STRING for token in tokens)
    (expression,) = ast.parse(text).body
    return strings > sum(isinstance(node, ast.Constant) for node in ast.walk(expression))


def _balanced(text: str) -> bool:
    """Whether each bracket has its partner."""
    open_brackets: list[str] = []
    for letter in text:
        if letter in "([{":
            open_brackets.append(letter)
        elif letter in _PAIRS and (not open_brackets or open_brackets.pop() != _PAIRS[letter]):
            return False
    return not open_brackets


def _unwrap(text: str) -> str:
    """Remove the brackets around all of a text; those of ``fish (adult)`` stay.

    >>> _unwrap("[(oak, ash)]"), _unwrap("(old) oak (dead)")
    ('oak, ash', '(old) oak (dead)')
    """
    text = text.strip()
    while text[:1] in ("[", "(") and _PAIRS.get(text[-1]) == text[0] and _balanced(text[1:-1]):
        text = text[1:-1].strip()
    return text


def _part_fault(part: str, *, in_list: bool) -> str | None:
    """Return a clause on what a name without quotes of its own cannot be."""
    if not _balanced(part):
        return "hold a bracket without its partner"
    first, last = part[:1], part[-1:]
    unpaired = (first in _QUOTES or last in _QUOTES) and first != last
    if part and unpaired and (in_list or '"' in first + last):
        return "hold a quote without its partner"
    if part.startswith("{") or _CALL.match(part):
        return "are not a list of names"
    if part and part in MISSING:
        return f"hold {part}, which is how programs write an empty cell"
    if _NUMBERS.fullmatch(part) and all(
        isinstance(_literal(n), (int, float)) for n in part.split()
    ):
        return "are numbers without commas between them"
    return None


def read_cell(cell: str) -> LabelCell:
    """Return the class names of a label cell and what is wrong with it.

    A Python-style list of strings is read as such, so names may hold commas. Anything else is cut
    at commas and freed of brackets, quotes and outer blanks, as the original code does: ``[1.0,
    9.0]``, ``[oak, ash]`` and a bare name all work. ``[]`` means no class. Repeats count once.
    """
    text = cell.strip()
    value = _literal(text)
    if isinstance(value, str):  # the whole list in quotes
        text = value.strip()
        value = _literal(text)
    fault = "lack commas between the names" if _joins_strings(text, value) else None
    if isinstance(value, (list, tuple, set)) and all(isinstance(name, str) for name in value):
        # The order of a set changes from run to run.
        names = [name.strip() for name in (sorted(value) if isinstance(value, set) else value)]
    else:
        inner = _unwrap(text)
        parts = [_unwrap(part) for part in inner.split(",")]
        in_list = inner != text
        faults = (_part_fault(part, in_list=in_list) for part in parts)
        if isinstance(value, dict) or _CALL.match(text):
            fault = fault or "are not a list of names"
        fault = fault or next(filter(None, faults), None)
        names = [part.strip(_QUOTES).strip() for part in parts]
    if any(ord(letter) < 32 or ord(letter) == 127 for name in names for letter in name):
        fault = fault or "hold a tab or another control character inside a name"
    return LabelCell(tuple(dict.fromkeys(name for name in names if name)), fault)


def parse_labels(cell: str) -> tuple[str, ...]:
    """Return the class names of a label cell by ``read_cell``."""
    return read_cell(cell).names


def means_no_class(cell: str) -> bool:
    """Whether a cell is an empty list, tuple or set."""
    return "".join(cell.split()) in ("[]", "()", "set()")


def count_bits(cell: str) -> int:
    """Return the length of a cell that is a list of two or more zeros and ones; else 0.

    >>> count_bits("[0, 1, 0]"), count_bits("[0, 2]"), count_bits("1")
    (3, 0, 0)
    """
    text = cell.strip()
    return text.count(",") + 1 if _BITS.fullmatch(text) else 0
