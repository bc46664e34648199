"""A run of ``train.py``: its processes, its folder, its settings, the checkpoint to go on from."""

from __future__ import annotations

import argparse
import json
import math
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from helper_functions import cli
from helper_functions.checkpoints import Checkpoint, read_checkpoint
from helper_functions.checkpoints.checkpoint import BEST, LAST, LAST_BUT_ONE
from helper_functions.checkpoints.provenance import provenance
from helper_functions.data.cache import open_cache
from helper_functions.data.dataset import ImageDataset, Samples, make_loader
from helper_functions.data.flags import LoaderSettings
from helper_functions.runtime import distributed
from helper_functions.runtime.device import resolve_amp, resolve_device
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import FolderLock, make_folder, write_text
from helper_functions.runtime.signals import StopRequest
from helper_functions.tasks.base import Task
from helper_functions.tasks.predictor import evaluate
from helper_functions.training.engine import Logger, Trainer
from helper_functions.training.flags import LogSettings, SaveSettings, TrainSettings
from helper_functions.training.loggers import TensorBoardLogger, log_curves, log_to_wandb
from helper_functions.training.optim import make_optimizer, make_scheduler

# Settings that a resumed run may change: where and how to compute, not what.
FREE_TO_CHANGE = {
    *("img_dir", "csv_path", "output_path", "model_path", "pretrained", "overwrite", "task"),
    *("workers", "print_freq", "max_bad_images", "dataset", "device", "amp", "channels_last"),
    *("grad_checkpointing", "compile", "max_bad_steps", "save_every_steps", "save_every_minutes"),
    *("keep_all", "cache_dir", "tensorboard", "wandb", "test_split", "max_megapixels"),
}


@dataclass(frozen=True, kw_only=True)
class RunSettings(LogSettings):
    """Everything about a run that is not its task's; ``record`` is all of it as plain data."""

    train: TrainSettings
    saving: SaveSettings
    loading: LoaderSettings
    device: torch.device
    amp: torch.dtype | None
    record: dict[str, Any]

    @classmethod
    def from_flags(cls, flags: argparse.Namespace, device: torch.device) -> RunSettings:
        """Return the flags' values; fills in those that depend on the device."""
        if flags.channels_last is None:
            flags.channels_last = device.type == "cuda"
        flags.device = device.type if distributed.world_size() > 1 else str(device)
        return cli.from_flags(
            cls,
            flags,
            train=cli.from_flags(TrainSettings, flags),
            saving=cli.from_flags(SaveSettings, flags),
            loading=cli.from_flags(LoaderSettings, flags),
            device=device,
            amp=resolve_amp(flags.amp, device),
            record={**cli.plain_settings(flags), "processes": distributed.world_size()},
        )


@contextmanager
def start(flags: argparse.Namespace) -> Iterator[tuple[torch.device, FolderLock | None]]:
    """Join the other processes, lock the output folder and seed everything while a run lasts.

    Yields:
        The device, and in the main process the lock.
    """
    if flags.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    with ExitStack() as stack:
        device = stack.enter_context(distributed.session(resolve_device(flags.device)))
        lock = None
        if distributed.is_main():
            lock = stack.enter_context(FolderLock(flags.output_path))
        seed_all(flags.seed)
        yield device, lock


def seed_all(seed: int) -> None:
    """Seed every global generator; ours draw from the first only, libraries may from the others."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


def find_checkpoint(output: Path, resume: str | None, *, overwrite: bool) -> Checkpoint | None:
    """Return the checkpoint to resume from; ``None`` for a new run.

    Raises:
        UserError: If there is nothing to resume, or a run that nobody asked to replace.
    """
    last, previous = output / LAST, output / LAST_BUT_ONE
    if resume and last.is_file():
        try:
            return read_checkpoint(last)
        except UserError as error:
            if not previous.is_file():
                raise
            print(f"Note: {error} The run goes on from {previous}.")
    if resume and previous.is_file():
        return read_checkpoint(previous)
    if resume == "last":
        raise UserError(f"There is nothing to resume: {last} does not exist.")
    started = resume == "auto"  # may have been stopped before its first last.ckpt
    if (last.is_file() or ((output / BEST).is_file() and not started)) and not overwrite:
        raise UserError(
            f"{output} already holds a run; continue it with --resume, replace it with "
            f"--overwrite, or choose another --output-path."
        )
    return None


def check_same_run(checkpoint: Checkpoint, task: Task, record: dict[str, Any], csv: object) -> None:
    """Refuse to continue a run under settings that would make it another one.

    Raises:
        UserError: If data or settings differ.
    """
    if checkpoint.task != task.name:
        raise UserError(
            f"{checkpoint.path} was trained for --task {checkpoint.task}, not {task.name}; start "
            f"a new run in another --output-path."
        )
    if checkpoint["data_hash"] != task.fingerprint():
        raise UserError(
            f"The rows of {csv} or their targets are not those that {checkpoint.path} was trained "
            f"with; start a new run in another --output-path."
        )
    for name, value in checkpoint["args"].items():
        if name not in FREE_TO_CHANGE and record.get(name) != value:
            raise UserError(
                f"{checkpoint.path} was trained with {name} = {value}, not {record.get(name)}; "
                f"resume with the same setting, or start a new run in another --output-path."
            )


def checkpoint_activations(model: nn.Module) -> None:
    """Trade time for memory in the backbone, as far as timm knows how."""
    backbone: Any = getattr(model, "backbone", model)
    try:
        backbone.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise UserError(
            f"timm cannot checkpoint the activations of {type(backbone).__name__}; leave out "
            f"--grad-checkpointing."
        ) from error


def prepare_model(model: nn.Module, settings: RunSettings) -> nn.Module:
    """Return a model on the run's device, in its memory layout."""
    model = model.to(settings.device)
    if settings.train.grad_checkpointing:
        checkpoint_activations(model)
    if settings.train.channels_last:
        model.to(memory_format=torch.channels_last)
    return model


class Run:
    """Data, loaders and model of a run.

    Args:
        task: What is trained.
        settings: Everything else.

    Attributes:
        train_set: Training images with augmentation.
        val_samples: Validation images.
        test_samples: Images of ``--test-split``, checked before hours of training.
    """

    def __init__(self, task: Task, settings: RunSettings) -> None:
        self.task = task
        self.settings = settings
        self.cache = open_cache(settings.loading.cache_dir)
        allowed = settings.saving.max_bad_images
        self.train_set = self.dataset(task.samples("train", allowed), training=True)
        self.val_samples = task.samples("val")
        split = settings.test_split
        self.test_samples = None if split is None else task.samples(split)

    def dataset(self, samples: Samples, *, training: bool = False) -> ImageDataset:
        """Return samples as a data set."""
        return ImageDataset(
            samples,
            self.task.transform(training=training),
            self.settings.train.seed,
            self.cache,
            self.task.input.image_format,
        )

    def loader(self, dataset: ImageDataset, *, shared: bool = True, **options: Any) -> Any:
        """Return batches of a data set, shared by all processes or read by this one alone."""
        return make_loader(
            dataset,
            batch_size=self.settings.loading.batch_size,
            workers=self.settings.loading.workers,
            pin_memory=self.settings.device.type == "cuda",
            rank=distributed.rank() if shared else 0,
            processes=distributed.world_size() if shared else 1,
            **options,
        )

    def first_images(self, count: int) -> Any:
        """Return batches of the first training images, not augmented."""
        names, paths, _ = self.train_set.samples
        few = Samples.from_paths(paths[:count], names=names[:count])
        return self.loader(self.dataset(few), shared=False)

    def trainer(self, model: nn.Module, stop: StopRequest) -> Trainer:
        """Return the loop over the training images, ready to fit or resume."""
        task, settings = self.task, self.settings
        loader = self.loader(self.train_set, shuffle=True, weights=task.sample_weights())
        val_loader = self.loader(self.dataset(self.val_samples))
        train = settings.train
        optimizer = make_optimizer(
            model,
            train.lr,
            train.weight_decay,
            task.learning_rates(),
            betas=train.betas,
            decay_all=train.decay_all,
        )
        steps = train.epochs * math.ceil(len(loader) / train.accum_steps)
        return Trainer(
            task,
            model,
            loader,
            lambda model: evaluate(task, model, val_loader, settings.device, settings.amp, stop),
            optimizer,
            make_scheduler(optimizer, steps, train.pct_start, train.schedule),
            train,
            settings.saving,
            device=settings.device,
            amp=settings.amp,
            description={
                "architecture": model.architecture,
                "settings": model.settings,
                "info": {"task": task.name, **task.info()},
                "data_hash": task.fingerprint(),
                "args": settings.record,
                "provenance": provenance(),
            },
            loggers=self.loggers(),
            stop=stop,
        )

    def loggers(self) -> list[Logger]:
        """Return what is called after each epoch, in the main process."""
        if not distributed.is_main():
            return []
        output, settings = self.settings.saving.output_path, self.settings
        loggers = [log_curves(output / "log.csv", output / "curves.png", self.task)]
        if settings.tensorboard:
            loggers.append(
                TensorBoardLogger(
                    output / "events",
                    self.task,
                    self.train_set,
                    self.val_samples,
                    settings.loading,
                    settings.device,
                    settings.amp,
                )
            )
        if settings.wandb:
            loggers.append(log_to_wandb(output, settings.record))
        return loggers

    def start_folder(self, lock: FolderLock | None, *, resuming: bool) -> None:
        """Claim the output folder and write the settings; a new run's holds no files of an old."""
        if lock is None:
            return
        output = self.settings.saving.output_path
        make_folder(output)
        lock.claim()
        if resuming:
            return
        for name in (BEST, LAST, LAST_BUT_ONE, "log.csv"):  # of the run to overwrite
            (output / name).unlink(missing_ok=True)
        record = {
            **self.settings.record,
            "data_hash": self.task.fingerprint(),
            "provenance": provenance(),
        }
        write_text(output / "args.yaml", yaml.safe_dump(record, sort_keys=False))

    def report_test_split(self) -> None:
        """Score the best checkpoint on ``--test-split``, if it is given."""
        settings, samples = self.settings, self.test_samples
        if samples is None:
            return
        best = read_checkpoint(settings.saving.output_path / BEST).model().to(settings.device)
        loader = self.loader(self.dataset(samples))
        metrics = evaluate(self.task, best, loader, settings.device, settings.amp).compute()
        if distributed.is_main():
            text = json.dumps({"split": settings.test_split, **metrics}, indent=2)
            write_text(settings.saving.output_path / "test.json", text + "\n")
        monitor = self.task.monitor
        print(
            f"{monitor} {metrics[monitor]:.2f} on the split {settings.test_split} (see test.json)."
        )
