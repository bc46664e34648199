"""Flags as fields of dataclasses: types, bounds, switches, help, and the way back."""

# ruff: noqa: RUF009 (flag returns a field)
from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helper_functions.cli import DeviceSettings, Parser, add_flags, flag, from_flags
from helper_functions.data.flags import LoaderSettings
from helper_functions.inference.flags import InferenceSettings
from helper_functions.parsers import make_parser
from helper_functions.tasks.classify import Classify
from helper_functions.tasks.classify.flags import DatasetSettings, ModelSettings, RegionSettings
from helper_functions.training.flags import LogSettings, SaveSettings, TrainSettings


@dataclass(frozen=True)
class Settings:
    total: int  # no flag
    count: int = flag(3, "how many", low=1, names=("-c",))
    share: float = flag(0.5, "a part", low=0, high=1)
    offset: float = flag(1.0)
    folder: Path | None = flag(None, "where", group="files")
    ends: list[float] = flag([-1.0, 1.0], "from, to", nargs=2)
    size: list[int] | None = flag(None, "sides (default: of the image)", nargs="+")
    mode: str = flag("fast", "how", choices=("fast", "slow"))
    quiet: bool = flag(False, "print nothing")
    cached: bool = flag(True, "keep images")
    packed: bool | None = flag(None, "pack pixels (default: on CUDA)")
    threads: int = 2  # no flag


def make(only: tuple[str, ...] = ()) -> Parser:
    parser = Parser(prog="program")
    add_flags(parser, "example", Settings, only)
    return parser


def settings(*words: str) -> Settings:
    return from_flags(Settings, make().parse_args(words), total=7, threads=1)


def test_defaults() -> None:
    assert settings() == Settings(7, threads=1)
    assert settings().ends == [-1.0, 1.0]
    assert settings().ends is not Settings(7).ends
    assert Settings.count == 3


def test_values_have_the_types_of_their_fields() -> None:
    found = settings(
        *("-c", "4", "--share", "1", "--offset", "-2", "--folder", "a/b", "--ends", "0", "2.5"),
        *("--size", "8", "9", "--mode", "slow", "--quiet", "--no-cached", "--packed"),
    )
    assert found == Settings(
        total=7,
        count=4,
        share=1.0,
        offset=-2.0,
        folder=Path("a/b"),
        ends=[0.0, 2.5],
        size=[8, 9],
        mode="slow",
        quiet=True,
        cached=False,
        packed=True,
        threads=1,
    )
    assert [type(value) for value in (found.count, found.share)] == [int, float]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--count 0", "argument -c/--count: 0 is out of range, it must be at least 1"),
        ("--share 1.1", "argument --share: 1.1 is out of range, it must be from 0 to 1"),
        ("--share nan", "argument --share: nan is out of range, it must be from 0 to 1"),
        ("--count 1.5", "argument -c/--count: invalid whole number value: '1.5'"),
        ("--share x", "argument --share: invalid number value: 'x'"),
        ("--offset x", "argument --offset: invalid float value: 'x'"),
        ("--ends 1", "argument --ends: expected 2 arguments"),
        ("--mode medium", "argument --mode: invalid choice: 'medium'"),
        ("--no-quiet", "unrecognized arguments: --no-quiet"),
        ("--threads 3", "unrecognized arguments: --threads 3"),
    ],
)
def test_refused(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        make().parse_args(words.split())
    assert left.value.code == 2
    assert f"program: error: {message}" in capsys.readouterr().err


def test_the_help_ends_with_the_default() -> None:
    actions = {action.dest: action for action in make()._actions}
    assert {name: action.help for name, action in actions.items() if name != "help"} == {
        "count": "how many (default: 3)",
        "share": "a part (default: 0.5)",
        "offset": "(default: 1)",
        "folder": "where (default: none)",
        "ends": "from, to (default: -1 1)",
        "size": "sides (default: of the image)",
        "mode": "how (default: fast)",
        "quiet": "print nothing (default: off)",
        "cached": "keep images (default: on)",
        "packed": "pack pixels (default: on CUDA)",
    }


def test_groups_are_shared_and_fields_can_be_chosen() -> None:
    parser = make(("folder", "quiet"))
    group = parser.add_argument_group("more")
    add_flags(parser, "more", Settings, ("count",))
    titles = {group.title: group for group in parser._action_groups[2:]}
    assert list(titles) == ["files", "example", "more"]
    assert titles["more"] is group
    assert [action.dest for action in group._group_actions] == ["count"]
    assert set(vars(parser.parse_args([]))) == {"folder", "quiet", "count"}


def test_recipes_replace_defaults() -> None:
    parser = make()
    parser.set_defaults(cached=False, count=5)
    assert parser.parse_args(["-c", "6"]) == argparse.Namespace(
        **{**vars(make().parse_args([])), "cached": False, "count": 6}
    )


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        *(("train", kind) for kind in (TrainSettings, SaveSettings, LogSettings, ModelSettings)),
        *(("val", kind) for kind in (InferenceSettings, RegionSettings)),
        *((s, k) for s in ("train", "val") for k in (LoaderSettings, DeviceSettings)),
        *((s, DatasetSettings) for s in ("train", "val")),
    ],
)
def test_the_scripts_default_to_the_settings_defaults(script: str, kind: Any) -> None:
    needed = {
        "train": ("--img_dir", "images", "--csv_path", "splits.csv"),
        "val": ("--ckpt-path", "a.ckpt"),
    }
    flags = make_parser(script, Classify).parse_args(needed[script])
    assert from_flags(kind, flags) == kind()
