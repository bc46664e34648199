"""Flags from files: ``--config``, and a run's ``args.yaml`` as one."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT, SMALL, Script, assert_refused, data_flags

from helper_functions.parsers import make_parser
from helper_functions.runtime.errors import UserError
from helper_functions.tasks.classify import Classify


def parse(*words: object) -> dict[str, object]:
    needed = ("--img_dir", "images", "--csv_path", "splits.csv")
    return vars(make_parser("train", Classify).parse_args([*needed, *map(str, words)]))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def to_file(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return to_file


def test_a_file_says_what_flags_would(write: Callable[[str], Path]) -> None:
    path = write(
        "lr: 1e-3\nbatch_size: 8\nsubsampling: true\npretrained: false\nrand-augment: false\n"
        "kan-grid-range: [-2, 3.5]\nmodel_kwargs: {pad_type: same, drop_rate: 0.1}\n"
        "mean: null\nvdsm: nearest\nbands: [4, 2, 3]\n"
    )
    words = (
        *("--lr", "1e-3", "-b", 8, "--subsampling", "--no-rand-augment"),
        *("--kan-grid-range", -2, 3.5, "--model-kwargs", "pad_type=same", "drop_rate=0.1"),
        *("--vdsm", "nearest", "--bands", 4, 2, 3),
    )
    assert parse("--config", path) == {**parse(*words), "config": path}


def test_the_command_line_wins(write: Callable[[str], Path]) -> None:
    path = write("lr: 1\nseed: 3\nrand_augment: false\n")
    found = parse("--config", path, "--lr", 2, "--rand-augment")
    assert (found["lr"], found["seed"], found["rand_augment"]) == (2, 3, True)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("learning_rate: 1\n", "names 'learning_rate', which is no flag"),
        ("batchsize: 1\n", "did you mean 'batch_size'"),
        ("- lr\n", "must map flags to values"),
        ("", "must map flags to values"),
        ("lr: [\n", "is not a valid YAML file"),
        ("lr: !!python/object/apply:os.getcwd []\n", "is not a valid YAML file"),
        ("lr: \xff\n", "it is not UTF-8"),
    ],
)
def test_files_that_make_no_sense(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=sentence) as caught:
        parse("--config", path)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.yaml cannot be read: No such file"):
        parse("--config", tmp_path / "nowhere.yaml")


def test_values_are_checked_like_flags(
    write: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse("--config", write("epochs: 0\n"))
    assert "argument --epochs: 0 is out of range" in capsys.readouterr().err


def test_the_settings_of_a_run_repeat_it(tiny_set: Path, tmp_path: Path, run_here: Script) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    flags = (*data_flags(tiny_set), *SMALL, "--epochs", 1, "--horizontal-flip", "--clip-grad", 5)
    assert run_here("train.py", *flags, "--output-path", first).status == 0
    again = ("--config", first / "args.yaml", "--output-path", second)
    done = run_here("train.py", *again)
    assert done.status == 0, done.errors
    logs = [pd.read_csv(run / "log.csv").drop(columns="seconds") for run in (first, second)]
    pd.testing.assert_frame_equal(*logs, check_exact=True)
    settings = [yaml.safe_load((run / "args.yaml").read_text()) for run in (first, second)]
    for record in settings:
        del record["output_path"], record["provenance"]
    assert settings[0] == settings[1]

    done = run_here("train.py", "--config", first / "args.yaml")
    assert_refused(done, "already holds a run")
    best = ("--ckpt-path", second / "model-highest.ckpt")
    done = run_here("val.py", "--config", first / "args.yaml", *best)
    assert done.status == 0, done.errors
    assert (second / "val" / "metrics.json").is_file()


@pytest.mark.parametrize("script", ["train.py", "val.py"])
def test_help_gives_groups_defaults_and_an_example(
    script: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [script, "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    text = capsys.readouterr().out
    assert f"python {script} --" in text
    expected = ["data:", "model:", "runtime:", "output:"]
    if script == "train.py":
        expected += ["loss:", "optimization:"]
    for group in expected:
        assert f"\n{group}\n" in text
    flags = [entry for entry in text.split("\n  -")[2:] if not entry.startswith("h,")]
    needed = {"-img_dir", "-csv_path", "-ckpt-path"}
    for flag in flags:
        if flag.split()[0] not in needed:
            assert "default" in flag, flag
