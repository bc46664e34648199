"""Runs that are killed, and what they end with once they are started again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from conftest import ROOT, Command

from helper_functions.results.training_log import TrainingLog

FILES = ("last.ckpt", "model-highest.ckpt")


def read_log(output: Path) -> list[dict[str, str]]:
    """The log without its times."""
    return [{**row, "seconds": ""} for row in TrainingLog(output / "log.csv").read()]


def assert_equal_runs(output: Path, other: Path) -> None:
    """Two trainings ended alike, byte for byte."""
    assert read_log(output) == read_log(other)
    for name in FILES:
        assert (output / name).read_bytes() == (other / name).read_bytes(), name


def _start(arguments: Sequence[object], kill: tuple[float, signal.Signals] | None) -> int:
    """Start a run, and kill it after some seconds or let it finish; its exit status."""
    with subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        if kill is not None:
            moment, signum = kill
            time.sleep(moment)
            run.send_signal(signum)
        _, errors = run.communicate()
    assert "Traceback" not in errors, errors
    assert run.returncode in {0, -signal.SIGKILL, -signal.SIGTERM, 143}, errors
    return run.returncode


def compare_killed_runs(
    arguments: Sequence[object], output: Path, command: Command, kills: int, seed: int
) -> None:
    """Kill runs at random moments, start them again, and compare each end with an undisturbed one.

    A run that comes to its end between two kills is compared, and the next one starts from nothing,
    so that every kill meets a run at work.

    Args:
        arguments: Of a training that resumes by itself.
        output: Its folder, the same for all: the checkpoints hold the command line.
        command: The fixture.
        kills: Their number.
        seed: Of the moments.
    """
    undisturbed = output.with_name("undisturbed")
    started = time.monotonic()
    whole = command(*arguments)
    span = time.monotonic() - started
    assert whole.returncode == 0, whole.stderr
    shutil.move(output, undisturbed)

    draw = random.Random(seed)
    met = 0
    while True:
        signum = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        status = _start(arguments, (draw.uniform(0, span), signum) if met < kills else None)
        if status:
            met += 1
            continue
        assert_equal_runs(output, undisturbed)
        if met == kills:
            return
        shutil.rmtree(output)


# Both end this process by SIGKILL: once two parts of four images are written, or after seven steps.
_PREDICTING = """
from helper_functions.inference import resumable as predicting
predicting._IMAGES_PER_PART = 4
save = predicting.PredictionStore.save
def save_and_die(self, number, part):
    save(self, number, part)
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
predicting.PredictionStore.save = save_and_die
"""
_TRAINING = """
from helper_functions.training.engine import Trainer
step = Trainer.step
def step_and_die(self, micro_batches):
    step(self, micro_batches)
    if self.state.step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
Trainer.step = step_and_die
"""


def _run_until_killed(patch: str, script: str, arguments: Sequence[object]) -> None:
    start = f"sys.argv[0] = {script!r}\nrunpy.run_path({script!r}, run_name='__main__')"
    code = f"import os, runpy, signal, sys\n{patch}{start}"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def predict_until_killed(*arguments: object) -> None:
    """Run ``val.py`` until eight images are predicted."""
    _run_until_killed(_PREDICTING, "val.py", arguments)


def train_until_killed(*arguments: object) -> None:
    """Run ``train.py`` for seven steps."""
    _run_until_killed(_TRAINING, "train.py", arguments)
