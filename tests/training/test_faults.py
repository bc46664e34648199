"""A run is killed at random moments, or its writes fail: its end must be the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import ROOT, SMALL, Command, Script, data_flags
from interruptions import FILES, compare_killed_runs, read_log


def _arguments(tiny_set: Path, output: Path) -> Sequence[object]:
    flags = ("--epochs", 6, "--save-every-steps", 2, "--ema-decay", 0.9, "--workers", 1)
    end = ("--output-path", output, "--resume", "auto")
    return ("train.py", *data_flags(tiny_set), *SMALL, *flags, *end)


def test_a_killed_run_ends_byte_for_byte_as_an_undisturbed_one(
    tiny_set: Path, command: Command, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    compare_killed_runs(_arguments(tiny_set, output), output, command, kills=6, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_many_kills(seed: int, tiny_set: Path, command: Command, tmp_path: Path) -> None:
    output = tmp_path / "run"
    compare_killed_runs(_arguments(tiny_set, output), output, command, kills=12, seed=100 + seed)


class _Full:
    """A disk that is full from a certain write on."""

    def __init__(self, writes: int) -> None:
        self.left = writes
        self.sync = os.fsync

    def __call__(self, file: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(28, "No space left on device")
        self.sync(file)


def test_every_write_may_fail(
    tiny_set: Path, run_here: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    small = ("--epochs", 2, "--output-path", output, "--resume", "auto")
    arguments = ("train.py", *data_flags(tiny_set), *SMALL, *small)
    counter = _Full(10**6)
    monkeypatch.setattr(os, "fsync", counter)
    assert run_here(*arguments).status == 0
    writes = 10**6 - counter.left
    assert writes >= 7  # settings; twice a log, the best and the last checkpoint; curves
    shutil.move(output, tmp_path / "whole")

    failed = 0
    for allowed in range(writes):
        monkeypatch.setattr(os, "fsync", _Full(allowed))
        done = run_here(*arguments)
        assert "Traceback" not in done.errors
        assert not list(output.glob(".*.tmp"))
        if done.status != 0:
            failed += 1
            assert done.status == 1, done.errors
            assert "No space left on device" in done.errors
            assert str(output) in done.errors
        monkeypatch.setattr(os, "fsync", counter)
        again = run_here(*arguments)
        assert again.status == 0, again.errors
        for name in FILES:
            assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        shutil.rmtree(output)
    assert failed >= 4


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    small = ("--epochs", 3, "--output-path", output, "--resume", "auto")
    arguments = ("train.py", *data_flags(tiny_set), *SMALL, *small)
    assert run_here(*arguments).status == 0
    shutil.copytree(output, tmp_path / "whole")
    content = bytearray((output / "last.ckpt").read_bytes())
    (output / "last.ckpt").write_bytes(content[: len(content) // 2])
    done = run_here(*arguments)
    assert done.status == 0, done.errors
    assert "last.ckpt cannot be read" in done.printed
    assert "goes on from" in done.printed
    assert "epoch 3/3" in done.printed  # the last of the three is trained again
    assert read_log(output) == read_log(tmp_path / "whole")
    for name in FILES:
        assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_two_runs_in_one_folder_are_kept_apart(tiny_set: Path, tmp_path: Path) -> None:
    call = [sys.executable, *map(str, _arguments(tiny_set, tmp_path / "run"))]
    with subprocess.Popen(call, cwd=ROOT, stderr=subprocess.PIPE, text=True) as first:
        while not (tmp_path / "run" / "args.yaml").is_file():
            assert first.poll() is None
            time.sleep(0.05)
        first.send_signal(signal.SIGSTOP)  # however long the second takes, the first is at work
        second = subprocess.run(
            call, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        assert second.returncode == 2
        assert "Another run is at work in" in second.stderr
        first.kill()
        first.communicate()
    third = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert third.returncode == 0, third.stderr  # at once, though loader processes may linger
