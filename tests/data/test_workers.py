"""Workers of a loader when they or the main process are killed: nobody sees a traceback."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image

from helper_functions.data.dataset import ImageDataset, Samples, make_loader
from helper_functions.data.transforms import EvalTransform
from helper_functions.data.workers import LOST_WORKERS, report_error
from helper_functions.runtime.signals import Stopped, StopRequest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

# Ends the main process by SIGKILL while a worker waits for its answer, about to hand over a batch.
KILLED_AT_A_HANDOVER = """
import os, signal, sys
from multiprocessing import connection
from pathlib import Path

from helper_functions.data.dataset import ImageDataset, Samples, make_loader
from helper_functions.data.transforms import EvalTransform

main = os.getpid()
answer = connection.answer_challenge

def die(*arguments):
    if os.getpid() == main:
        os.kill(main, signal.SIGKILL)
    return answer(*arguments)

connection.answer_challenge = die
paths = sorted(Path(sys.argv[1]).iterdir())
for batch in make_loader(
    ImageDataset(Samples.from_paths(paths), EvalTransform(8)), batch_size=1, workers=1
):
    print("a batch came through")
"""


def _images(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths:
        Image.new("RGB", (8, 8)).save(path)
    return paths


def test_workers_of_a_killed_process_say_nothing(tmp_path: Path) -> None:
    _images(tmp_path, 4)
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_A_HANDOVER, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("early", [True, False], ids=["in-the-queue", "not-yet-asked-for"])
def test_a_signal_that_ends_the_workers_first_stops_the_run(tmp_path: Path, early: bool) -> None:
    """Clusters signal all processes at once; workers are gone before what they made is fetched."""
    paths = _images(tmp_path, 4 if early else 9)
    loader = make_loader(
        ImageDataset(Samples.from_paths(paths), EvalTransform(8)), batch_size=1, workers=1
    )
    stop = StopRequest()
    with pytest.raises(Stopped), stop.explains(*LOST_WORKERS):
        batches = iter(loader)
        next(batches)
        time.sleep(1)  # two batches more wait in the queue, their memory in the worker's hands
        stop.signum = signal.SIGTERM
        (worker,) = batches._workers  # type: ignore[attr-defined]
        os.kill(worker.pid, signal.SIGTERM)
        worker.join(30)
        assert worker.exitcode == 0
        for _ in batches:
            pass


@pytest.mark.parametrize("orphan", [True, False])
def test_workers_report_errors_as_long_as_somebody_listens(
    orphan: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = 0 if orphan else os.getppid()
    error = ConnectionResetError("reset by peer")
    report_error(type(error), error, None, parent=parent)
    assert ("reset by peer" in capsys.readouterr().err) is not orphan
    report_error(ValueError, ValueError("a mistake"), None, parent=parent)
    assert "a mistake" in capsys.readouterr().err


@pytest.mark.parametrize("failure", [RuntimeError, EOFError, ConnectionResetError])
def test_only_a_signal_explains_lost_workers(failure: type[Exception]) -> None:
    stop = StopRequest()
    with pytest.raises(failure), stop.explains(*LOST_WORKERS):
        raise failure
    stop.signum = signal.SIGTERM
    with pytest.raises(Stopped), stop.explains(*LOST_WORKERS):
        raise failure


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc returns memory so")
def test_freed_memory_is_kept() -> None:
    # In a process of its own: whether memory is kept depends on what was freed before.
    script = """
import resource, sys
import numpy as np
from helper_functions.data.workers import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    images = [np.ones(300_000) for _ in range(16)]  # 37 MiB, 9,400 pages
    del images
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        mode: int(
            subprocess.run(
                [sys.executable, "-c", script, mode], capture_output=True, check=True, cwd=ROOT
            ).stdout
        )
        for mode in ("keep", "give")
    }
    assert 10 * faults["keep"] + 10 < faults["give"]
