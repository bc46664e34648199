"""Malformed input of every kind: one sentence to a person, never a traceback, in bounded memory.

Hypothesis draws the input: a few hundred cases of each kind in CI, thousands in the slow suite.
"""

from __future__ import annotations

import contextlib
import io
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from helper_functions.checkpoints.checkpoint import read_checkpoint
from helper_functions.data.images import ImageError, read_image
from helper_functions.data.label_cells import parse_labels
from helper_functions.data.splits import read_split_table
from helper_functions.parsers import parse_train
from helper_functions.runtime.errors import UserError

QUICK, THOROUGH = 200, 5000
CASES = [
    pytest.param(QUICK, id="quick"),
    pytest.param(THOROUGH, id="thorough", marks=pytest.mark.slow),
]


def _draws(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


# Pieces that split tables are made of, and what people put in their place.
_CELLS = st.one_of(
    st.sampled_from(
        [
            *("filename", "label", "split", "train", "val", "test", "Train", "a.png", "../a.png"),
            *("/etc/passwd", "[]", "['oak']", "['oak', 'ash']", "[1.0, 9.0]", "['oak' 'ash']", "["),
            *('"[', "\ufeff", ";", "\x00", "=1+1", "nan", "[" * 300, "[[['a']]]", "{'a': 1}", "''"),
        ]
    ),
    st.text(max_size=12),
)
_TABLES = st.one_of(
    st.binary(max_size=300),
    st.lists(st.lists(_CELLS, max_size=5).map(",".join), max_size=8).map(
        lambda rows: "\n".join(["filename,label,split", *rows]).encode("utf-8", "surrogatepass")
    ),
    st.lists(st.lists(_CELLS, max_size=5).map(",".join), max_size=4).map(
        lambda rows: "\r\n".join(rows).encode("utf-16", "surrogatepass")
    ),
)


@pytest.mark.parametrize("examples", CASES)
def test_split_tables(examples: int, tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"

    @_draws(examples)
    @given(content=_TABLES)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            table = read_split_table(path)
        except UserError as error:
            assert str(path) in str(error)
            assert len(str(error).splitlines()) == 1
            return
        assert table.samples
        assert list(table.classes) == sorted(set(table.classes))
        for sample in table.samples:
            assert not Path(sample.filename).is_absolute()
            assert ".." not in Path(sample.filename).parts

    check()


@pytest.mark.parametrize("examples", CASES)
def test_label_cells(examples: int) -> None:
    @_draws(examples)
    @given(cell=_CELLS)
    def check(cell: str) -> None:
        names = parse_labels(cell)
        assert len(set(names)) == len(names)
        assert all(name == name.strip() and name for name in names)
        assert parse_labels(repr(list(names))) == names  # what is written reads back

    check()


def _images() -> dict[str, bytes]:
    """Sound files of several formats, to be damaged."""
    noise = random.Random(0)
    image = Image.frombytes("RGB", (24, 20), noise.randbytes(24 * 20 * 3))
    files: dict[str, bytes] = {}
    for kind, changed in [
        *(("PNG", image), ("JPEG", image), ("TIFF", image), ("BMP", image), ("GIF", image)),
        *(("WEBP", image), ("PNG", image.convert("P")), ("PNG", image.convert("I;16"))),
        *(("TIFF", image.convert("F")), ("TIFF", image.convert("CMYK"))),
    ]:
        buffer = io.BytesIO()
        changed.save(buffer, kind)
        files[f"{kind}-{changed.mode}"] = buffer.getvalue()
    return files


@pytest.mark.parametrize("examples", CASES)
def test_damaged_images(examples: int, tmp_path: Path) -> None:
    sound = _images()
    path = tmp_path / "image"

    @_draws(examples)
    @given(
        kind=st.sampled_from(sorted(sound)),
        changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=12),
        end=st.integers(0, 10**6),
        cut=st.booleans(),
    )
    def check(kind: str, changes: list[tuple[int, int]], end: int, cut: bool) -> None:
        content = bytearray(sound[kind])
        for offset, value in changes:
            content[offset % len(content)] = value
        path.write_bytes(content[: end % len(content)] if cut else content)
        try:
            image = read_image(path)
        except ImageError as error:
            assert str(path) in str(error)
            assert len(str(error).splitlines()) == 1
            return
        assert image.mode == "RGB"
        assert image.width * image.height < 200_000_000

    check()


_WORDS = st.one_of(
    st.sampled_from(
        [
            *("--lr", "--epochs", "--batch-size", "-b", "-j", "--subsampling", "--mean", "--std"),
            *(
                "--min-superpixels",
                "--vdsm",
                "nearest",
                "--recipe",
                "recommended",
                "--model-kwargs",
            ),
            *("a=1", "=", "0", "-1", "1e400", "nan", "inf", "1e-3", "--seed", "--no-rand-augment"),
            *(
                "--kan-grid-range",
                "--device",
                "--resume",
                "--csv_path",
                "--img_dir",
                "x",
                "--",
                "@x",
            ),
        ]
    ),
    st.text(max_size=6),
)


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    with (
        contextlib.redirect_stderr(io.StringIO()) as errors,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        yield errors


@pytest.mark.parametrize("examples", CASES)
def test_command_lines(examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    @_draws(examples)
    @given(words=st.lists(_WORDS, max_size=8))
    def check(words: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["train.py", "--img_dir", "i", "--csv_path", "c", *words])
        with _quiet() as errors:
            try:
                _, args = parse_train()
            except UserError:
                return  # one sentence: cli.run prints it
            except SystemExit as left:
                assert left.code in (0, 2)  # 0: --help
                assert left.code == 0 or len(errors.getvalue().strip().splitlines()) >= 1
                return
        assert args.epochs >= 1
        assert args.lr >= 0
        assert args.batch_size >= 1

    check()


@pytest.mark.parametrize("examples", CASES)
def test_damaged_checkpoints(examples: int, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    content: dict[str, Any] = {"format": "volunet", "format_version": 1, "settings": {}}
    torch.save({**content, "model": {"weight": torch.zeros(3, 4)}}, buffer)
    sound = buffer.getvalue()
    path = tmp_path / "model.ckpt"

    @_draws(examples)
    @given(
        changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
        end=st.integers(0, 10**6),
        cut=st.booleans(),
    )
    def check(changes: list[tuple[int, int]], end: int, cut: bool) -> None:
        damaged = bytearray(sound)
        for offset, value in changes:
            damaged[offset % len(damaged)] = value
        path.write_bytes(damaged[: end % len(damaged)] if cut else damaged)
        try:
            read_checkpoint(path)["settings"]
        except UserError as error:
            assert str(path) in str(error)

    check()
