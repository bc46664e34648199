"""Checkpoints: plain tensors in plain dictionaries, read without running code from them.

Content of a file, whatever the task:

* ``format``, ``format_version``, ``versions``: what wrote it;
* ``architecture``, ``settings``: the arguments of ``models.build``; ``model``: the state dict;
* ``info``: ``task``, and what using the model needs (class names, image size, mean and std, ...);
* ``args``: the command line as resolved; ``data_hash``, ``provenance``;
* ``epoch``, ``step``, ``metrics``: how far the run has come;
* ``training``: optimizer, scheduler, scaler, state of the loop and of the random generators; in
  ``last.ckpt`` only.
"""

from __future__ import annotations

import hashlib
import platform
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import nn

import models
from helper_functions.checkpoints.hub_folder import CONFIG, WEIGHTS, read_hub_folder
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import temporary_path, write_atomically
from models.legacy import convert_released_checkpoint, is_released_checkpoint
from models.pretrained import read_state_dict

FORMAT = "volunet"
FORMAT_VERSION = 1

BEST = "model-highest.ckpt"
LAST = "last.ckpt"
LAST_BUT_ONE = "last-1.ckpt"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read from a file; see the module's description for its parts."""

    path: Path
    content: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        try:
            return self.content[key]
        except KeyError:
            raise UserError(f"The checkpoint {self.path} lacks its part {key!r}.") from None

    def digest(self) -> str:
        """Return a checksum of the file, or of the files of a folder."""
        files = [self.path]
        if self.path.is_dir():
            files = [self.path / CONFIG, self.path / WEIGHTS]
        digest = hashlib.sha256()
        for path in files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @property
    def task(self) -> str:
        """The task that the model was trained for."""
        task: str = self["info"]["task"]
        return task

    def model(self, changes: dict[str, Any] | None = None) -> nn.Module:
        """Build the model that the checkpoint describes, in evaluation mode.

        Args:
            changes: Settings of the model to replace.

        Raises:
            UserError: If settings and tensors do not belong together.
        """
        architecture = self.content.get("architecture", "volunet")
        try:
            settings = {**self["settings"], **(changes or {})}
            model = models.build_for_inference(architecture, settings, self["model"])
        except (ValueError, TypeError, RuntimeError, MemoryError) as error:
            reason = str(error).splitlines()[0] if str(error) else "too little memory"
            raise UserError(
                f"The checkpoint {self.path} does not describe a usable model: {reason}"
            ) from error
        return model


def library_versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "timm": timm.__version__,
        "numpy": np.__version__,
    }


def _canonical(value: Any) -> Any:
    """Return the same plain data as fresh objects with interned strings.

    Pickle writes an object that it has met before as a reference, so without this the bytes of a
    file would tell whether its parts were computed or loaded.
    """
    if isinstance(value, dict):
        return {_canonical(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_canonical(item) for item in value])
    return sys.intern(value) if type(value) is str else value


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically, stamped with format and versions.

    Raises:
        OSError: If it cannot be written; the old file is then untouched.
    """
    stamp = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": library_versions(),
    }
    whole = _canonical({**stamp, **content})
    write_atomically(path, lambda file: torch.save(whole, file))


def keep_previous(path: Path, previous: Path) -> None:
    """Give the file at ``path`` a second name, so that a new one can take its place.

    At every moment at least one of the two is whole.
    """
    if not path.is_file():
        return
    link = temporary_path(previous)
    try:
        link.unlink(missing_ok=True)
        link.hardlink_to(path)
        link.replace(previous)
    except OSError:  # a file system without links
        path.replace(previous)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this project, or one of the authors' released program.

    Args:
        path: A file, or a folder as ``val.py --export folder`` writes it.

    Raises:
        UserError: If the file is missing, damaged, unsafe, of another program or a newer format.
    """
    if path.is_dir():
        return Checkpoint(path, read_hub_folder(path))
    try:
        content = read_state_dict(path)
    except ValueError as error:
        raise UserError(str(error)) from error
    if is_released_checkpoint(content):
        return _read_released(path, content)
    if content.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint that train.py wrote.")
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has checkpoint format {version}; this program reads {FORMAT_VERSION}."
        )
    return Checkpoint(path, _with_current_names(content))


def _with_current_names(content: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint of version 0.1 under the names of today."""
    info, training = content.get("info"), content.get("training")
    if isinstance(info, dict) and info.get("task", "classification") == "classification":
        info["task"] = "classify"
    for old, new in (("position", "state"), ("plain_model", "raw_model")):
        if isinstance(training, dict) and old in training:
            training[new] = training.pop(old)
    return content


def _read_released(path: Path, content: dict[str, Any]) -> Checkpoint:
    """Return a checkpoint of the authors' released program; it carries no class names."""
    try:
        settings, state = convert_released_checkpoint(content)
    except ValueError as error:
        raise UserError(
            f"{path} looks like a checkpoint of the released VoLUNet, but {error}."
        ) from error
    info = {
        "task": "classify",
        "classes": None,
        "image_size": settings["image_size"],
        "mean": None,
        "std": None,
    }
    return Checkpoint(path, {"settings": settings, "model": state, "info": info})


def load_model(path: str | Path, map_location: str | torch.device = "cpu") -> nn.Module:
    """Return the trained model of any task, ready for evaluation.

    Args:
        path: A checkpoint of ``train.py``, or of the authors' released program; or a folder as
            ``val.py --export folder`` writes it.
        map_location: Device to put it on.

    Raises:
        UserError: If the file cannot be used; the message says why.
    """
    return read_checkpoint(Path(path)).model().to(map_location)


def random_states() -> dict[str, Any]:
    """Return the states of all random generators, as plain data."""
    version, internal, gauss = random.getstate()
    # Libraries may draw from NumPy's global generator, so its state belongs to a run.
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    kind, keys, position, has_gauss, cached = numpy_state
    states: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo what has been drawn since ``random_states``."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = states["numpy"]
    numpy_state = (kind, keys.numpy().astype(np.uint32), position, has_gauss, cached)
    np.random.set_state(numpy_state)  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])
    if "cuda" in states and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all(states["cuda"])
