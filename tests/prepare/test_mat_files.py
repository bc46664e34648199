"""MATLAB files: what SciPy writes reads back; damage, other versions and objects are refused."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from helper_functions.prepare.mat_files import read_mat
from helper_functions.runtime.errors import UserError

PATH = Path("x.mat")


def _saved(variables: dict[str, Any], **settings: Any) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables, **settings)
    return buffer.getvalue()


def _info(locations: Any) -> Any:
    info = np.empty((1, 1), object)
    info[0, 0] = {"location": locations, "number": 2.0, "text": "heads"}
    return info


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "bool"]
)
def test_numbers_of_every_type(dtype: str, compressed: bool) -> None:
    values = np.arange(24).reshape(4, 3, 2).astype(dtype)
    content = _saved({"other": "text", "BW": values}, do_compression=compressed)
    found = read_mat(content, PATH, "BW")
    np.testing.assert_array_equal(found, values)
    assert read_mat(_saved({"v": np.zeros((0, 2))}), PATH, "v").shape == (0, 2)


@pytest.mark.parametrize("compressed", [False, True])
def test_cells_and_structs(compressed: bool) -> None:
    locations = np.array([[1.5, 2.5], [3.0, 4.0], [5.0, 6.0]])
    content = _saved({"image_info": _info(locations)}, do_compression=compressed)
    ((entry,),) = read_mat(content, PATH, "image_info")
    assert list(entry) == ["location", "number", "text"]
    np.testing.assert_array_equal(entry["location"], locations)
    assert entry["number"].tolist() == [[2.0]]
    assert entry["text"] is None


def test_big_endian_files() -> None:
    """Built by hand: a 1 x 2 array of doubles named v."""
    array = b"".join(
        (
            *(b"\0\0\0\6\0\0\0\x08", b"\0\0\0\6\0\0\0\0"),  # flags: class double
            *(b"\0\0\0\5\0\0\0\x08", b"\0\0\0\1\0\0\0\2"),  # dimensions
            b"\0\1\0\1v\0\0\0",  # name
            *(b"\0\0\0\x09\0\0\0\x10", np.array([1.5, -2.0], ">f8").tobytes()),
        )
    )
    head = b"MATLAB 5.0".ljust(124) + b"\x01\x00MI"
    content = head + b"\0\0\0\x0e" + len(array).to_bytes(4, "big") + array
    assert scipy.io.loadmat(io.BytesIO(content))["v"].tolist() == [[1.5, -2.0]]
    assert read_mat(content, PATH, "v").tolist() == [[1.5, -2.0]]


def _nested(depth: int) -> Any:
    value: Any = np.ones((1, 1))
    for _ in range(depth):
        cell = np.empty((1, 1), object)
        cell[0, 0] = value
        value = cell
    return value


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (_saved({"w": 1.0}), "holds no variable 'v'."),
        (_saved({"v": 1.0}, format="4"), "it is no file of level 5"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "it is of version 7.3"),
        (b"", "it is no file of level 5"),
        (_saved({"v": 1j * np.ones((2, 2))}), "it holds complex numbers"),
        (_saved({"v": _nested(40)}), "nested too deeply"),
        (_saved({"v": np.ones((9, 9))})[:-8], "it is cut off"),
        (_saved({"v": np.ones((9, 9))}, do_compression=True)[:-4], "it is cut off"),
    ],
)
def test_what_cannot_be_read_gets_one_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        read_mat(content, PATH, "v")
    assert str(caught.value).startswith("x.mat ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "rounds", [3000, pytest.param(300_000, id="thorough", marks=pytest.mark.slow)]
)
def test_damage_anywhere_is_refused_or_read(rounds: int) -> None:
    """SciPy's own reader ends the process on some of these."""
    files = [
        _saved({"v": _info(np.ones((5, 2)))}),
        _saved({"v": np.ones((4, 4), np.uint8)}),
        _saved({"v": _info(np.ones((5, 2)))}, do_compression=True),
    ]
    draw = random.Random(0)
    refused = 0
    for _ in range(rounds):
        damaged = bytearray(draw.choice(files))
        for _ in range(draw.choice((1, 1, 2, 8))):
            place = draw.randrange(124, len(damaged))
            damaged[place] = draw.choice((0, 1, 2, 4, 14, 15, 127, 128, 255, draw.randrange(256)))
        end = draw.choice((len(damaged), len(damaged), draw.randrange(len(damaged))))
        try:
            read_mat(bytes(damaged[:end]), PATH, "v")
        except UserError:
            refused += 1
    assert refused > rounds / 4
