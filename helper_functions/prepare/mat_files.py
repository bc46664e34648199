"""Read a variable of a MATLAB file (level 5, ``-v6`` or ``-v7``) that nobody vouches for.

``scipy.io.loadmat`` believes the sizes and types that a file claims, and ends the process on some
damaged ones. This reader knows numbers, texts, cells and structs only, and never takes more than
the bytes that are there. The format: MathWorks, "MAT-File Format", chapter 1.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from helper_functions.runtime.errors import UserError

MAX_BYTES = 256_000_000  # of a variable, unpacked; a mask of 16,000 x 16,000 pixels fits
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_CELL, _STRUCT, _TEXT, _NUMBERS = 1, 2, 4, range(6, 16)  # classes of arrays
_COMPLEX = 0x0800
_MAX_DEPTH = 16

Element = tuple[int, memoryview]  # type and data


class _MatError(Exception):
    """Why a file cannot be read, a clause."""


def read_mat(content: bytes, path: Path, name: str) -> Any:
    """Return a variable of a MATLAB file.

    Numbers are an array, a text is ``None``, a cell array is the list of its values column by
    column, a struct array the list of its dictionaries.

    Raises:
        UserError: If the file is damaged, of another version or too large, or lacks the variable.
    """
    try:
        for order, data in _variables(content):
            elements = list(_elements(data, order))
            if _name(elements) == name.encode():
                return _value(elements, order, 0)
    except _MatError as error:
        raise UserError(f"{path} cannot be read as a MATLAB file: {error}.") from error
    raise UserError(f"{path} holds no variable {name!r}.")


def _variables(content: bytes) -> Iterator[tuple[str, memoryview]]:
    """Yield byte order and data of the variables of a file."""
    if content[:8] == b"\x89HDF\r\n\x1a\n" or content[124:126] in (b"\x00\x02", b"\x02\x00"):
        raise _MatError("it is of version 7.3; save it in MATLAB with the option -v7")
    if content[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise _MatError("it is no file of level 5 (MATLAB's options -v6 and -v7)")
    order = "<" if content[126:128] == b"IM" else ">"
    for kind, data in _elements(memoryview(content)[_HEADER:], order, padded=False):
        if kind == _COMPRESSED:
            kind, data = next(_elements(_unpack(data), order), (0, data))
        if kind != _MATRIX:
            raise _MatError("a variable is no array")
        yield order, data


def _unpack(data: memoryview) -> memoryview:
    packed = zlib.decompressobj()
    try:
        content = packed.decompress(data, MAX_BYTES)
    except zlib.error as error:
        raise _MatError("its compressed data are damaged") from error
    if packed.unconsumed_tail:
        raise _MatError(f"a variable unpacks to more than {MAX_BYTES:,} bytes")
    if not packed.eof:
        raise _MatError("its compressed data are cut off")
    return memoryview(content)


def _elements(data: memoryview, order: str, *, padded: bool = True) -> Iterator[Element]:
    """Yield the data elements of a part of a file."""
    start = 0
    while start < len(data):
        if len(data) - start < 8:
            raise _MatError("it is cut off")
        kind, size = struct.unpack_from(f"{order}II", data, start)
        if kind >> 16:  # a small element: size and type in one word, then up to 4 bytes of data
            kind, size, first, following = kind & 0xFFFF, kind >> 16, start + 4, start + 8
            if size > 4:
                raise _MatError("an element has a wrong size")
        else:
            first = start + 8
            following = first + size + (-size % 8 if padded else 0)
        if first + size > len(data):
            raise _MatError("it is cut off")
        yield kind, data[first : first + size]
        start = following


def _name(elements: list[Element]) -> bytes:
    if len(elements) < 3:
        raise _MatError("an array lacks its head")
    return bytes(elements[2][1])


def _value(elements: list[Element], order: str, depth: int) -> Any:
    """Return an array of the elements flags, dimensions, name and what its class asks for."""
    if depth > _MAX_DEPTH:
        raise _MatError("its arrays are nested too deeply")
    _name(elements)
    flags, dimensions = (
        np.frombuffer(data[: len(data) - len(data) % 4], f"{order}u4").tolist()
        for _, data in elements[:2]
    )
    if len(flags) != 2 or not 2 <= len(dimensions) <= 32:
        raise _MatError("an array lacks its head")
    count, rest = math.prod(dimensions), elements[3:]
    match flags[0] & 0xFF:
        case kind if kind in _NUMBERS:
            if flags[0] & _COMPLEX or len(rest) != 1:
                raise _MatError("it holds complex numbers")
            return _numbers(*rest[0], dimensions, order)
        case kind if kind == _TEXT:
            return None
        case kind if kind == _CELL:
            return _nested(rest, count, order, depth)
        case kind if kind == _STRUCT:
            return _structs(rest, count, order, depth)
    raise _MatError(
        "it holds objects or functions; only numbers, texts, cells and structs are read"
    )


def _numbers(kind: int, data: memoryview, dimensions: list[int], order: str) -> Any:
    if kind not in _STORED:
        raise _MatError("numbers are stored in an unknown way")
    stored = np.dtype(f"{order}{_STORED[kind]}")
    if len(data) != math.prod(dimensions) * stored.itemsize:
        raise _MatError("an array claims another number of values than it holds")
    return np.frombuffer(data, stored).reshape(dimensions, order="F")


def _nested(elements: list[Element], count: int, order: str, depth: int) -> list[Any]:
    if len(elements) != count:
        raise _MatError("an array claims another number of values than it holds")
    values: list[Any] = []
    for kind, data in elements:
        if kind != _MATRIX:
            raise _MatError("a value of a cell or struct is no array")
        parts = list(_elements(data, order))
        # An empty array may be stored as nothing.
        values.append(_value(parts, order, depth + 1) if parts else np.zeros((0, 0)))
    return values


def _structs(elements: list[Element], count: int, order: str, depth: int) -> list[dict[str, Any]]:
    """Return the dictionaries of a struct array: length and names of the fields, then values."""
    if len(elements) < 2 or len(elements[0][1]) != 4:
        raise _MatError("a struct lacks its fields")
    (length,) = struct.unpack(f"{order}I", elements[0][1])
    text = bytes(elements[1][1])
    if not length or len(text) % length:
        raise _MatError("a struct lacks its fields")
    names = [
        text[start : start + length].partition(b"\0")[0].decode("latin-1")
        for start in range(0, len(text), length)
    ]
    if not names:
        return []
    values = _nested(elements[2:], count * len(names), order, depth)
    return [
        dict(zip(names, values[start : start + len(names)], strict=True))
        for start in range(0, len(values), len(names))
    ]
