"""Train VoLUNet: command line -> data -> model -> loss -> training. See ``train.py --help``."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import math
import os
import random
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from torch import Tensor

from helper_functions import cli
from helper_functions.check_data.labels import label_notes
from helper_functions.checkpoints.checkpoint import Checkpoint, read_checkpoint
from helper_functions.checkpoints.provenance import provenance
from helper_functions.data.bands import PAPER
from helper_functions.data.cache import PictureCache, open_cache
from helper_functions.data.dataset import (
    ImageDataset,
    MultiHotTargets,
    NoTargets,
    Transform,
    image_paths,
    make_loader,
)
from helper_functions.data.splits import SplitTable, read_split_table
from helper_functions.data.transforms import EvalTransform, TrainTransform
from helper_functions.runtime import distributed
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import FolderLock, make_folder, write_text
from helper_functions.runtime.signals import StopRequest
from helper_functions.tasks.classify.classification import (
    ClassificationObjective,
    Evaluation,
    fit_grid,
)
from helper_functions.tasks.classify.long_tail import (
    count_classes,
    inverse_frequency_weights,
    repeat_factors,
)
from helper_functions.tasks.classify.presets import PRESETS
from helper_functions.training.engine import (
    BEST,
    LAST,
    LAST_BUT_ONE,
    Tolerance,
    Trainer,
    resolve_amp,
    resolve_device,
)
from helper_functions.training.flags import parse_args
from helper_functions.training.loggers import (
    TensorBoardWatcher,
    Watcher,
    watch_curves,
    watch_with_wandb,
)
from helper_functions.training.optim import make_optimizer, make_scheduler
from loss_functions import AsymmetricLoss
from models import VoLUNet, create_model
from models.backbones import published_settings
from models.inplace_abn import DEFAULT, INPLACE_ABN

# Settings that a resumed run may change: they say where and how to compute, not what.
FREE_TO_CHANGE = {
    *("img_dir", "csv_path", "output_path", "model_path", "pretrained", "overwrite"),
    *("workers", "print_freq", "max_bad_images", "dataset", "device", "amp", "channels_last"),
    *("grad_checkpointing", "compile", "max_bad_steps", "save_every_steps", "save_every_minutes"),
    *("keep_all", "cache_dir", "tensorboard", "wandb", "test_split"),
}


def resolve_settings(args: argparse.Namespace, device: torch.device) -> None:
    """Fill in, in place, what depends on the data set, the backbone or the device."""
    args.image_size = args.image_size or PRESETS[args.dataset].image_size
    args.bands = args.bands or [PAPER]
    if args.channels_last is None:
        args.channels_last = device.type == "cuda"
    if args.normalize == "backbone":
        try:
            published = published_settings(args.backbone_name)
        except ValueError as error:
            raise UserError(str(error)) from error
        args.mean = args.mean or list(published.mean)
        args.std = args.std or list(published.std)
    args.device = device.type if distributed.processes() > 1 else str(device)


def find_checkpoint(args: argparse.Namespace) -> Checkpoint | None:
    """The checkpoint to resume from; ``None`` for a new run."""
    last, previous = args.output_path / LAST, args.output_path / LAST_BUT_ONE
    if args.resume and last.is_file():
        try:
            return read_checkpoint(last)
        except UserError as error:
            if not previous.is_file():
                raise
            print(f"Note: {error} The run goes on from {previous}.")
    if args.resume and previous.is_file():
        return read_checkpoint(previous)
    if args.resume == "last":
        raise UserError(f"There is nothing to resume: {last} does not exist.")
    started = args.resume == "auto"  # may have been stopped before its first last.ckpt
    best = args.output_path / BEST
    if (last.is_file() or (best.is_file() and not started)) and not args.overwrite:
        raise UserError(
            f"{args.output_path} already holds a run; continue it with --resume, replace it with "
            f"--overwrite, or choose another --output-path."
        )
    return None


def check_classes(args: argparse.Namespace, table: SplitTable) -> None:
    """Compare the class count with --num-classes (an error) and the preset's; look at the names."""
    count = len(table.classes)
    if args.num_classes is not None and args.num_classes != count:
        raise UserError(
            f"--num-classes is {args.num_classes}, but {args.csv_path} names {count} classes; "
            f"leave the flag out, or mend the CSV."
        )
    expected = PRESETS[args.dataset].num_classes
    if expected is not None and expected != count:
        print(
            f"Note: {args.csv_path} names {count} classes; a complete {args.dataset} has "
            f"{expected}."
        )
    if notes := label_notes(table):
        print(notes)


def build_model(args: argparse.Namespace, num_classes: int, num_images: int) -> VoLUNet:
    """The model of the command line, its region settings checked against the image size."""
    reserved = set(inspect.signature(create_model).parameters) & set(args.model_kwargs)
    if reserved:
        raise UserError(f"{min(reserved)!r} is a setting of its own, not one of --model-kwargs.")
    try:
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always", UserWarning)
            model = create_model(
                args.backbone_name,
                num_classes,
                subsampling=args.subsampling,
                sub_h=args.sub_h,
                sub_w=args.sub_w,
                min_superpixels=args.min_superpixels,
                vdsm=args.vdsm,
                head=args.head,
                kan_grid_size=args.kan_grid_size,
                kan_spline_order=args.kan_spline_order,
                kan_grid_range=args.kan_grid_range,
                norm=args.norm,
                pretrained=args.pretrained,
                model_path=args.model_path,
                image_size=args.image_size,
                **args.model_kwargs,
            )
        grid = model.check_grid(args.image_size)
    except ValueError as error:
        raise UserError(str(error)) from error
    for note in notes:
        print(f"Note: {note.message}")
    if grid == (1, 1) and 1 in (args.batch_size, num_images % args.batch_size):
        raise UserError(
            f"Pictures of {args.image_size} pixels leave a feature map of one cell, and one of the "
            f"batches holds a single image: batch norm cannot work; change --batch-size or "
            f"--image-size."
        )
    return model


def make_dataset(
    args: argparse.Namespace,
    table: SplitTable,
    split: str,
    transform: Transform,
    cache: PictureCache | None,
) -> tuple[ImageDataset, MultiHotTargets]:
    """The pictures of a split and their multi-hot targets."""
    samples = table.split(split)
    allowed = args.max_bad_images if split == "train" else 0
    reading = cli.reading(args.bands, args.value_range)
    paths = image_paths(samples, args.img_dir, args.csv_path, allowed, reading)
    targets = MultiHotTargets(samples, table.classes, args.csv_path)
    return ImageDataset(paths, targets, transform, args.seed, cache, reading), targets


def class_weights(kind: str, targets: MultiHotTargets) -> Tensor | None:
    """The weights of --loss-weight, float32 (K,)."""
    if kind == "none":
        return None
    counts = count_classes(targets.indices, targets.num_classes)
    return torch.from_numpy(inverse_frequency_weights(counts)).float()


def picture_weights(kind: str, targets: MultiHotTargets) -> npt.NDArray[np.float64] | None:
    """The weights of --sampler, (N,)."""
    return None if kind == "uniform" else repeat_factors(targets.indices, targets.num_classes)


def data_hash(table: SplitTable) -> str:
    """A fingerprint of the rows that a run learns from and is judged by."""
    rows = [(sample.filename, sample.labels, sample.split) for sample in table.samples]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def check_norm(norm: str, device: torch.device, amp: torch.dtype | None) -> None:
    """Refuse a device or precision that the package inplace-abn has no code for."""
    types = {"cpu": (None,), "cuda": (None, torch.float16)}.get(device.type, ())
    if norm == INPLACE_ABN and amp not in types:
        raise UserError(
            f"--norm {INPLACE_ABN} computes in float32 on CPUs, and in float32 or float16 on CUDA; "
            f"choose --amp off, or --norm {DEFAULT}."
        )


def checkpoint_activations(model: VoLUNet) -> None:
    """Trade time for memory in the backbone, as far as timm knows how."""
    try:
        model.backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        name = type(model.backbone).__name__
        raise UserError(
            f"timm cannot checkpoint the activations of {name}; leave out --grad-checkpointing."
        ) from error


def fit_grid_to_data(
    args: argparse.Namespace,
    train_set: ImageDataset,
    transform: Transform,
    model: VoLUNet,
    device: torch.device,
) -> None:
    """Fit the head's spline grid to the first training pictures, without augmentation."""
    count = min(args.kan_grid_update, len(train_set))
    first = ImageDataset(
        train_set.paths[:count],
        NoTargets(count),
        transform,
        cache=train_set.cache,
        reading=train_set.reading,
    )
    fit_grid(model, make_loader(first, batch_size=args.batch_size, workers=args.workers), device)


def make_watchers(
    args: argparse.Namespace,
    settings: dict[str, Any],
    classes: Sequence[str],
    train_set: ImageDataset,
    evaluation: Evaluation,
) -> list[Watcher]:
    """Who looks on after each epoch; in the main process."""
    if not distributed.is_main():
        return []
    output = args.output_path
    watchers = [watch_curves(output / "log.csv", output / "curves.png")]
    if args.tensorboard:
        watchers.append(TensorBoardWatcher(output / "events", classes, train_set, evaluation))
    if args.wandb:
        watchers.append(watch_with_wandb(output, settings))
    return watchers


def make_trainer(
    args: argparse.Namespace,
    table: SplitTable,
    device: torch.device,
    settings: dict[str, Any],
    stop: StopRequest,
    resuming: bool,
) -> Trainer:
    """Data, model, loss and optimiser of the command line, ready to run."""
    amp = resolve_amp(args.amp, device)
    check_norm(args.norm, device, amp)
    augment = TrainTransform(
        args.image_size,
        args.mean,
        args.std,
        cutout_factor=args.cutout,
        rand_augment=args.rand_augment,
        horizontal_flip=args.horizontal_flip,
    )
    cache = open_cache(args.cache_dir)
    train_set, train_targets = make_dataset(args, table, "train", augment, cache)
    plain = EvalTransform(args.image_size, args.mean, args.std)
    val_set, val_targets = make_dataset(args, table, "val", plain, cache)
    loading = {
        "batch_size": args.batch_size,
        "workers": args.workers,
        "pin_memory": device.type == "cuda",
        "rank": distributed.rank(),
        "processes": distributed.processes(),
    }
    weights = picture_weights(args.sampler, train_targets)
    train_loader = make_loader(train_set, shuffle=True, weights=weights, **loading)
    val_loader = make_loader(val_set, **loading)

    model = build_model(args, len(table.classes), len(train_set)).to(device)
    if args.grad_checkpointing:
        checkpoint_activations(model)
    if args.channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, args.lr, args.weight_decay, {"head": args.head_lr_factor})
    if args.kan_grid_update and not resuming:
        fit_grid_to_data(args, train_set, plain, model, device)
    evaluation = Evaluation(val_loader, val_targets.matrix(), device=device, amp=amp, stop=stop)
    asl = AsymmetricLoss(
        args.gamma_neg,
        args.gamma_pos,
        args.clip,
        weight=class_weights(args.loss_weight, train_targets),
    ).to(device)
    parts = args.accum_steps * distributed.processes()
    steps = args.epochs * math.ceil(len(train_loader) / args.accum_steps)
    print(
        f"{PRESETS[args.dataset].note} {len(train_set)} training and {len(val_set)} validation "
        f"images, {len(table.classes)} classes; {args.backbone_name} on {device}."
    )
    return Trainer(
        model=model,
        objective=ClassificationObjective(asl, args.nms_weight, parts),
        evaluate=evaluation,
        metric="mAP",
        loader=train_loader,
        optimizer=optimizer,
        scheduler=make_scheduler(optimizer, steps, args.pct_start),
        device=device,
        amp=amp,
        epochs=args.epochs,
        output=args.output_path,
        description={
            "settings": model.settings,
            "info": {
                "task": "classification",
                "classes": list(table.classes),
                "image_size": args.image_size,
                "mean": args.mean,
                "std": args.std,
                "bands": args.bands,
                "value_range": args.value_range,
            },
            "data_hash": data_hash(table),
            "args": settings,
            "provenance": provenance(),
        },
        accum_steps=args.accum_steps,
        clip_grad=args.clip_grad,
        compiled=args.compile,
        ema_decay=args.ema_decay,
        print_freq=args.print_freq,
        keep_all=args.keep_all,
        tolerance=Tolerance(
            bad_images=args.max_bad_images,
            bad_steps=args.max_bad_steps,
            save_steps=args.save_every_steps,
            save_minutes=args.save_every_minutes,
        ),
        patience=args.patience,
        watchers=make_watchers(args, settings, table.classes, train_set, evaluation),
        stop=stop,
    )


def check_same_run(checkpoint: Checkpoint, settings: dict[str, Any], table: SplitTable) -> None:
    """Refuse to continue a run under settings that would make it another one."""
    if checkpoint["data_hash"] != data_hash(table):
        raise UserError(
            f"The rows of {table.path} are not those that {checkpoint.path} was trained with; "
            f"start anew in another --output-path."
        )
    for name, value in checkpoint["args"].items():
        if name not in FREE_TO_CHANGE and settings.get(name) != value:
            raise UserError(
                f"{checkpoint.path} was trained with {name} = {value}, not {settings.get(name)}; "
                f"resume with the same setting, or start anew in another --output-path."
            )


def seed_all(seed: int) -> None:
    """Seed every global generator; ours draw from the first only, libraries may from the others."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


def be_deterministic() -> None:
    """Use only algorithms whose results repeat to the last bit."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def report_test_split(args: argparse.Namespace, table: SplitTable, device: torch.device) -> None:
    """Score the best checkpoint on a split that had no part in choosing it."""
    plain = EvalTransform(args.image_size, args.mean, args.std)
    test_set, targets = make_dataset(args, table, args.test_split, plain, cache=None)
    loader = make_loader(
        test_set,
        batch_size=args.batch_size,
        workers=args.workers,
        rank=distributed.rank(),
        processes=distributed.processes(),
    )
    amp = resolve_amp(args.amp, device)
    evaluation = Evaluation(loader, targets.matrix(), device=device, amp=amp)
    metrics = evaluation(read_checkpoint(args.output_path / BEST).model().to(device))
    if distributed.is_main():
        text = json.dumps({"split": args.test_split, **metrics}, indent=2)
        write_text(args.output_path / "test.json", text + "\n")
    print(f"mAP {metrics['mAP']:.2f} on the split {args.test_split} (see test.json).")


def start_folder(
    args: argparse.Namespace, settings: dict[str, Any], fingerprint: str, *, resuming: bool
) -> None:
    """Write a run's settings; a new run's folder holds no files of an old one."""
    if not resuming:
        for name in (BEST, LAST, LAST_BUT_ONE, "log.csv"):  # of the run to overwrite
            (args.output_path / name).unlink(missing_ok=True)
        record = {**settings, "data_hash": fingerprint, "provenance": provenance()}
        write_text(args.output_path / "args.yaml", yaml.safe_dump(record, sort_keys=False))


def train(args: argparse.Namespace, device: torch.device, lock: FolderLock | None) -> None:
    """A whole run, in one of the processes that share it; the main one holds the lock."""
    checkpoint = find_checkpoint(args)
    resolve_settings(args, device)
    seed_all(args.seed)

    table = read_split_table(args.csv_path)
    check_classes(args, table)
    args.num_classes = len(table.classes)
    settings = {**cli.plain_settings(args), "processes": distributed.processes()}
    best = args.output_path / BEST
    if checkpoint is not None:
        check_same_run(checkpoint, settings, table)
    elif best.is_file() and not args.overwrite:  # of a run that was stopped in its first epoch
        check_same_run(read_checkpoint(best), settings, table)
    stop = StopRequest()
    resuming = checkpoint is not None
    trainer = make_trainer(args, table, device, settings, stop, resuming)
    if distributed.rank():  # equal weights, but dropout of its own
        seed_all(args.seed + distributed.rank())
    if checkpoint is not None:
        trainer.resume(checkpoint)
    if lock is not None:
        make_folder(args.output_path)
        lock.claim()
        start_folder(args, settings, data_hash(table), resuming=resuming)
    stop.listen()
    trainer.fit()
    if args.test_split is not None:
        report_test_split(args, table, device)
    print(
        f"Best validation mAP {trainer.position.best:.2f} in epoch "
        f"{trainer.position.best_epoch}; checkpoints, log and curves in {args.output_path}."
    )


def main() -> None:
    """Command line -> data -> model -> loss -> training."""
    args = parse_args()
    if args.deterministic:
        be_deterministic()
    with ExitStack() as stack:
        device = stack.enter_context(distributed.session(resolve_device(args.device)))
        lock = FolderLock(args.output_path) if distributed.is_main() else None
        if lock is not None:
            stack.enter_context(lock)
        train(args, device, lock)


if __name__ == "__main__":
    cli.run(main)
