"""Scores of many pictures, kept in parts as they come, so that an interruption costs little.

The parts lie in a hidden folder beside the result, with a description of the prediction: a second
call with the same description goes on after the last part, one with another is refused. The joined
result does not depend on how often the work was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from helper_functions.data.dataset import EpochSampler, NoTargets
from helper_functions.results.tables import write_prediction_parts
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import FolderLock, make_folder, write_atomically, write_text
from helper_functions.tasks.classify.classification import check_finite, score_batches

PARTS = ".predictions"  # the hidden folder
_DESCRIPTION = "description.json"
_PICTURES_PER_PART = 1024


class IndexTargets(NoTargets):
    """Targets () that are the pictures' own places: they tell which of a batch were readable."""

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        return torch.tensor(index)


class Part(NamedTuple):
    """What is known of some consecutive pictures.

    Attributes:
        places: int64 (N,), of those that could be read, among all pictures.
        scores: float32 (N, K).
        failures: A sentence on each of the others.
    """

    places: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    failures: list[str]


def digest_of_pictures(names: Sequence[str], paths: Sequence[Path]) -> str:
    """A checksum over the pictures' names, sizes and times of modification."""
    digest = hashlib.sha256()
    for name, path in zip(names, paths, strict=True):
        try:
            status = path.stat()
            state = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:  # said when it is opened
            state = "missing"
        digest.update(f"{name}\0{state}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


class Prediction:
    """A prediction under way, on disk.

    Args:
        output: Where the result will go.
        description: What the scores depend on, as plain data under names that a person knows.
        batch_size: Parts hold whole batches, so that a continued run forms the same ones.
    """

    def __init__(self, output: Path, description: dict[str, Any], batch_size: int) -> None:
        self.output = output
        self.folder = output / PARTS
        self.description = json.loads(json.dumps({**description, "batch size": batch_size}))
        self.pictures_per_part = batch_size * max(1, _PICTURES_PER_PART // batch_size)
        self._lock = FolderLock(self.folder)
        self._made_output = not output.exists()

    def __enter__(self) -> Prediction:
        self._lock.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__()

    def parts_done(self) -> int:
        """How many parts an earlier call has left behind.

        Raises:
            UserError: If they belong to another prediction.
        """
        path = self.folder / _DESCRIPTION
        if not path.is_file():
            return 0
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is damaged; delete {self.folder} to start anew.") from error
        names = [*self.description, *(name for name in earlier if name not in self.description)]
        changed = [name for name in names if earlier.get(name) != self.description.get(name)]
        if changed:
            raise UserError(
                f"{self.output} holds an unfinished prediction that differs in: "
                f"{', '.join(changed)}. Finish it with the command that began it, choose another "
                f"--output, or delete {self.folder}."
            )
        count = 0
        while self._path(count).is_file():
            count += 1
        return count

    def save(self, number: int, part: Part) -> None:
        """Keep a part; the first one brings the folder and the description."""
        if number == 0:
            make_folder(self.folder)
            self._lock.claim()
            write_text(self.folder / _DESCRIPTION, json.dumps(self.description, indent=2) + "\n")
        failures = np.array(part.failures, dtype=np.str_)
        write_atomically(
            self._path(number),
            lambda file: np.savez(file, places=part.places, scores=part.scores, failures=failures),
        )

    def parts(self) -> Iterator[Part]:
        """All parts, in order.

        Raises:
            UserError: If one is damaged.
        """
        for number in range(self.parts_done()):
            path = self._path(number)
            try:
                with np.load(path) as arrays:
                    part = Part(arrays["places"], arrays["scores"], arrays["failures"].tolist())
            except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                raise UserError(
                    f"{path} is damaged; delete it and give the command again."
                ) from error
            yield part

    def discard(self) -> None:
        """Remove the parts, and the folder for the result if it was made for them and is empty."""
        self._lock.__exit__()
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
        if self._made_output and self.output.is_dir() and not any(self.output.iterdir()):
            self.output.rmdir()

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.npz"


def score_remaining(
    prediction: Prediction,
    model: nn.Module,
    loader: DataLoader[Any],
    device: torch.device,
    amp: torch.dtype | None = None,
    *,
    skip_bad: bool = False,
) -> None:
    """Score the pictures that no part holds yet, part by part.

    Args:
        prediction: Where the parts go.
        model: On the device.
        loader: Of ``make_loader`` over all pictures, not shuffled, with ``IndexTargets``.
        device: Where batches go.
        amp: Autocast type or ``None``.
        skip_bad: Leave out pictures that cannot be read.

    Raises:
        UserError: If a picture cannot be read and may not be left out.
        TrainingFailed: If a score is not finite.
    """
    assert isinstance(loader.sampler, EpochSampler)
    total = loader.sampler.length
    number = prediction.parts_done()
    start = min(number * prediction.pictures_per_part, total)
    if start:
        print(f"Continuing: {start} of {total} images have been scored before.")
    loader.sampler.set_position(0, start)
    places: list[npt.NDArray[np.int64]] = []
    scores: list[npt.NDArray[np.float32]] = []
    failures: list[str] = []
    with tqdm(desc="predicting", total=total, initial=start, disable=None, leave=False) as bar:
        done = start
        for batch, batch_scores in score_batches(model, loader, device, amp):
            if batch.failures and not skip_bad:
                raise UserError(batch.failures[0])
            failures += batch.failures
            if batch.files:
                check_finite(batch_scores)
                places.append(batch.targets.numpy())
                scores.append(batch_scores)
            seen = len(batch.files) + len(batch.failures)
            done += seen
            bar.update(seen)
            if done == total or (done - start) % prediction.pictures_per_part == 0:
                prediction.save(number, _joined(places, scores, failures))
                number += 1
                places, scores, failures = [], [], []


def _joined(
    places: list[npt.NDArray[np.int64]], scores: list[npt.NDArray[np.float32]], failures: list[str]
) -> Part:
    """The batches of a part as one; without any readable picture its scores are (0, 0)."""
    if not places:
        return Part(np.empty(0, np.int64), np.empty((0, 0), np.float32), failures)
    return Part(np.concatenate(places), np.concatenate(scores), failures)


class Result(NamedTuple):
    """What a finished prediction has to tell.

    Attributes:
        scored: How many pictures.
        failures: A sentence on each of the others.
        first: Names and scores (n, K) of the first pictures that were scored.
    """

    scored: int
    failures: list[str]
    first: tuple[list[str], npt.NDArray[np.float32]]


def finish(
    prediction: Prediction,
    names: Sequence[str],
    classes: Sequence[str],
    path: Path,
    scale: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
) -> Result:
    """Join the parts to a file and remove them.

    Args:
        prediction: With all parts.
        names: Of all pictures.
        classes: Of the scores.
        path: See ``write_prediction_parts``.
        scale: Turns the scores of the model into those of the result.

    Raises:
        UserError: If no picture could be read; nothing is then left behind.
    """
    failures: list[str] = []
    first: tuple[list[str], npt.NDArray[np.float32]] | None = None
    for part in prediction.parts():
        failures += part.failures
        if first is None and len(part.places):
            first = [names[place] for place in part.places], scale(part.scores)
    if first is None:
        prediction.discard()
        raise UserError(f"None of the {len(names)} pictures can be read. {failures[0]}")
    write_prediction_parts(
        path,
        classes,
        (
            ([names[place] for place in part.places], scale(part.scores))
            for part in prediction.parts()
            if len(part.places)
        ),
    )
    prediction.discard()
    return Result(len(names) - len(failures), failures, first)
