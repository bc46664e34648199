"""Predictions for many images, kept in parts as they come, so that an interruption costs little.

The parts lie in a hidden folder beside the result, with a description of the prediction: a second
call with the same description goes on after the last part, one with another is refused. The result
does not depend on how often the work was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from tqdm import tqdm

from helper_functions.data.dataset import Samples
from helper_functions.data.sampler import EpochSampler
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import FolderLock, make_folder, write_atomically, write_text
from helper_functions.tasks.base import Predictions
from helper_functions.tasks.predictor import Predictor

T = TypeVar("T")

PARTS = ".predictions"  # the hidden folder
_DESCRIPTION = "description.json"
_IMAGES_PER_PART = 1024


class Part(NamedTuple):
    """Predictions for some consecutive images.

    Attributes:
        indices: Of the images that could be read.
        predictions: One entry for each of them in every value.
        failures: A sentence on each of the others.
    """

    indices: list[int]
    predictions: Predictions
    failures: list[str]


def digest_of_images(samples: Samples) -> str:
    """Return a checksum over the images' names, sizes and times of modification."""
    digest = hashlib.sha256()
    for name, path in zip(samples.names, samples.paths, strict=True):
        try:
            status = path.stat()
            state = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:  # reported when it is opened
            state = "missing"
        digest.update(f"{name}\0{state}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


class PredictionStore:
    """The parts of a prediction on disk; iterating gives indices and predictions, in order.

    Args:
        output: Where the result will go.
        description: What the predictions depend on, as plain data under names for people.
        batch_size: Parts hold whole batches, so that a continued run forms the same ones.
    """

    def __init__(self, output: Path, description: dict[str, Any], batch_size: int) -> None:
        self.output = output
        self.folder = output / PARTS
        self.description = json.loads(json.dumps({**description, "batch size": batch_size}))
        self.images_per_part = batch_size * max(1, _IMAGES_PER_PART // batch_size)
        self._lock = FolderLock(self.folder)
        self._made_output = not output.exists()

    def __enter__(self) -> Self:
        self._lock.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__()

    def __iter__(self) -> Iterator[tuple[list[int], Predictions]]:
        for part in self.parts():
            if part.indices:
                yield part.indices, part.predictions

    def parts_done(self) -> int:
        """Return how many parts an earlier call has left behind.

        Raises:
            UserError: If they belong to another prediction.
        """
        path = self.folder / _DESCRIPTION
        if not path.is_file():
            return 0
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is damaged; delete {self.folder} to start again.") from error
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

    def save(self, index: int, part: Part) -> None:
        """Write a part; the first one brings the folder and the description."""
        if index == 0:
            make_folder(self.folder)
            self._lock.claim()
            write_text(self.folder / _DESCRIPTION, json.dumps(self.description, indent=2) + "\n")
        arrays: dict[str, Any] = {
            "indices": np.array(part.indices, np.int64),
            "failures": np.array(part.failures, np.str_),
        }
        for name, values in part.predictions.items():
            if isinstance(values, list):  # arrays of different shapes
                arrays |= {f"list/{name}/{k}": value for k, value in enumerate(values)}
            else:
                arrays[f"array/{name}"] = values
        write_atomically(self._path(index), lambda file: np.savez(file, **arrays))

    def parts(self) -> Iterator[Part]:
        """Yield all parts, in order.

        Raises:
            UserError: If one is damaged.
        """
        return self._read(_unpacked)

    def failures(self) -> list[str]:
        """Return a sentence on each image that could not be read; no prediction is loaded."""
        parts: Iterator[list[str]] = self._read(lambda arrays: arrays["failures"].tolist())
        return [failure for part in parts for failure in part]

    def _read(self, unpack: Callable[[Any], T]) -> Iterator[T]:
        """Yield what a function makes of the arrays of each part, which are loaded on demand."""
        for index in range(self.parts_done()):
            path = self._path(index)
            try:
                with np.load(path) as arrays:
                    content = unpack(arrays)
            except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                raise UserError(
                    f"{path} is damaged; delete it and give the command again."
                ) from error
            yield content

    def discard(self) -> None:
        """Remove the parts, and the folder for the result if it was made for them and is empty."""
        self._lock.__exit__()
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
        if self._made_output and self.output.is_dir() and not any(self.output.iterdir()):
            self.output.rmdir()

    def _path(self, index: int) -> Path:
        return self.folder / f"part-{index:06d}.npz"


def _unpacked(arrays: Any) -> Part:
    """Return the part of a file."""
    predictions: Predictions = {}
    for key in arrays.files:
        form, _, rest = key.partition("/")
        if form == "array":
            predictions[rest] = arrays[key]
        elif form == "list":
            values = predictions.setdefault(rest.rpartition("/")[0], [])
            assert isinstance(values, list)
            values.append(arrays[key])
    return Part(arrays["indices"].tolist(), predictions, arrays["failures"].tolist())


def predict_remaining(
    store: PredictionStore, predictor: Predictor, samples: Samples, *, skip_bad: bool = False
) -> list[str]:
    """Predict the images that no part holds yet, part by part.

    Args:
        store: Where the parts go.
        predictor: Predicts.
        samples: All images.
        skip_bad: Leave out images that cannot be read.

    Returns:
        A sentence on each image that was left out.

    Raises:
        UserError: If an image cannot be read and may not be left out, or none can be read; then
            nothing is left behind.
        TrainingFailed: If a prediction is not finite.
    """
    index, total = store.parts_done(), len(samples.paths)
    start = min(index * store.images_per_part, total)
    if start:
        print(f"Continuing: {start} of {total} images have been predicted before.")
    loader = predictor.loader(samples)
    assert isinstance(loader.sampler, EpochSampler)
    loader.sampler.set_position(0, start)
    part: tuple[list[int], list[Predictions], list[str]] = [], [], []
    with tqdm(desc="predicting", total=total, initial=start, disable=None, leave=False) as bar:
        done = start
        for batch, predictions in predictor.batches(loader):
            if batch.failures and not skip_bad:
                raise UserError(batch.failures[0])
            indices, batches, sentences = part
            indices += batch.indices
            batches += [predictions] if predictions else []
            sentences += batch.failures
            read = len(batch.files) + len(batch.failures)
            done += read
            bar.update(read)
            if done == total or (done - start) % store.images_per_part == 0:
                store.save(index, Part(indices, join_predictions(batches), sentences))
                index += 1
                part = [], [], []
    failures = store.failures()
    if len(failures) == total:
        store.discard()
        raise UserError(f"None of the {total} images can be read. {failures[0]}")
    return failures


def join_predictions(batches: Sequence[Predictions]) -> Predictions:
    """Return the predictions of several batches as those of one; of none ``{}``."""
    if not batches:
        return {}
    return {
        name: [value for batch in batches for value in batch[name]]
        if isinstance(values, list)
        else np.concatenate([batch[name] for batch in batches])
        for name, values in batches[0].items()
    }
