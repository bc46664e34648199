"""Read a variable of a MATLAB file (level 5, ``-v6`` or ``-v7``) that nobody vouches for.

``scipy.io.loadmat`` runs no code of a file, but believes the sizes that it claims. So the file is
first unpacked up to a limit, and every size in it compared with the bytes that are there.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import scipy.io

from helper_functions.runtime.errors import UserError

MAX_BYTES = 256_000_000  # of a file, packed or unpacked; a mask of 16,000 x 16,000 pixels fits
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_NUMERIC = range(6, 16)  # classes of arrays: double to uint64
_MAX_DEPTH = 16


class _MatError(Exception):
    """Why a file cannot be read, a clause."""


def read_mat(content: bytes, path: Path, name: str) -> Any:
    """Return a variable of a MATLAB file as SciPy gives it.

    Raises:
        UserError: If the file is damaged, of another version or too large, or lacks the variable.
    """
    try:
        plain = _unpack(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of variables that come twice
            variables = scipy.io.loadmat(io.BytesIO(plain), variable_names=[name])
    except _MatError as error:
        raise UserError(f"{path} cannot be read as a MATLAB file: {error}.") from error
    except Exception as error:  # On a damaged file SciPy raises whatever it runs into.
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise UserError(f"{path} cannot be read as a MATLAB file: {reason}.") from error
    if name not in variables:
        raise UserError(f"{path} holds no variable {name!r}.")
    return variables[name]


def _unpack(content: bytes) -> bytes:
    """Return a file of level 5 with its compressed elements unpacked and every size checked."""
    if content[:8] == b"\x89HDF\r\n\x1a\n" or content[124:126] in (b"\x00\x02", b"\x02\x00"):
        raise _MatError("it is of version 7.3; save it in MATLAB with the option -v7")
    if content[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise _MatError("it is no file of level 5 (MATLAB's options -v6 and -v7)")
    order = "<" if content[126:128] == b"IM" else ">"
    plain = bytearray(content[:_HEADER])
    plain[116:124] = bytes(8)  # where MATLAB keeps data of its own
    for kind, start, end in _elements(content, _HEADER, len(content), order, padded=False):
        if kind == _COMPRESSED:
            element = _decompress(content[start:end], MAX_BYTES - len(plain))
        else:
            element = content[start - 8 : end]
        if len(plain) + len(element) > MAX_BYTES:
            raise _MatError(f"it has more than {MAX_BYTES:,} bytes")
        plain += element
    for kind, start, end in _elements(plain, _HEADER, len(plain), order, padded=False):
        if kind != _MATRIX:
            raise _MatError("a variable is no array")
        _check_matrix(plain, start, end, order, 0)
    return bytes(plain)


def _decompress(content: bytes, limit: int) -> bytes:
    packed = zlib.decompressobj()
    try:
        element = packed.decompress(content, max(limit, 1))
    except zlib.error as error:
        raise _MatError("its compressed data are damaged") from error
    if packed.unconsumed_tail:
        raise _MatError(f"it unpacks to more than {MAX_BYTES:,} bytes")
    if not packed.eof:
        raise _MatError("its compressed data are cut off")
    return element


def _elements(
    content: bytes | bytearray, start: int, end: int, order: str, *, padded: bool = True
) -> Iterator[tuple[int, int, int]]:
    """Yield type, start and end of the data elements of a part of a file."""
    while start < end:
        if end - start < 8:
            raise _MatError("it is cut off")
        kind, size = struct.unpack_from(f"{order}II", content, start)
        if kind >> 16:  # a small element: size and type in one word, up to 4 bytes of data
            kind, size, first, following = kind & 0xFFFF, kind >> 16, start + 4, start + 8
            if size > 4:
                raise _MatError("an element has a wrong size")
        else:
            first = start + 8
            following = first + size + (-size % 8 if padded else 0)
        if first + size > end:
            raise _MatError("it is cut off")
        yield kind, first, first + size
        start = following


def _check_matrix(content: bytes | bytearray, start: int, end: int, order: str, depth: int) -> None:
    """Raise ``_MatError`` if an array claims more than its bytes can hold, or is none of data."""
    if depth > _MAX_DEPTH:
        raise _MatError("its arrays are nested too deeply")
    elements = list(_elements(content, start, end, order))
    if not elements:  # an empty array in a cell
        return
    if len(elements) < 3 or elements[0][2] - elements[0][1] < 8:
        raise _MatError("an array lacks its size")
    (flags,) = struct.unpack_from(f"{order}I", content, elements[0][1])
    first, last = elements[1][1:]
    dimensions = struct.unpack(f"{order}{(last - first) // 4}i", content[first : last - last % 4])
    array_class = flags & 0xFF
    if min(dimensions, default=-1) < 0 or len(dimensions) > 32:
        raise _MatError("an array has a wrong size")
    if math.prod(dimensions) > end - start:
        raise _MatError("an array claims more values than the file holds")
    if array_class not in (1, 2, 4, *_NUMERIC):
        raise _MatError("it holds objects or functions; only numbers, texts, cells and structs do")
    for kind, first, last in elements[3:]:
        if kind == _MATRIX:
            _check_matrix(content, first, last, order, depth + 1)
