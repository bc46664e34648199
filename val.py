"""Validate a trained VoLUNet, predict pictures, or export the model. See ``val.py --help``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from helper_functions import cli
from helper_functions.checkpoints.checkpoint import read_checkpoint
from helper_functions.data.bands import Reading
from helper_functions.data.dataset import MultiHotTargets, image_paths
from helper_functions.data.image_lists import Pictures, find_pictures
from helper_functions.data.images import ImageError, decode_problems, read_image
from helper_functions.data.masks import MaskFolder
from helper_functions.data.splits import read_split_table
from helper_functions.inference.export import export
from helper_functions.inference.flags import parse_args
from helper_functions.inference.predictor import TrainedModel
from helper_functions.inference.resumable import (
    IndexTargets,
    Prediction,
    digest_of_pictures,
    finish,
    score_remaining,
)
from helper_functions.metrics.calibration import reliability
from helper_functions.metrics.multilabel import baselines, report
from helper_functions.metrics.thresholds import (
    THRESHOLDS_FILE,
    OperatingPoint,
    describe_point,
    read_point,
    tune,
    write_point,
)
from helper_functions.results.report import write_report
from helper_functions.results.tables import (
    summary,
    write_metrics,
    write_per_class,
    write_predictions,
)
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import make_folder
from helper_functions.tasks.classify.region_files import write_region_maps
from helper_functions.tasks.classify.regions import RegionRecorder, region_metrics
from helper_functions.tasks.classify.report import Results, key_figures, sections

T = TypeVar("T")


def operating_point(args: argparse.Namespace, classes: Sequence[str]) -> OperatingPoint:
    """How scores become decisions, before anything is fitted."""
    if args.thresholds is not None:
        return read_point(args.thresholds, classes)
    temperature = 1.0 if args.temperature in (None, "fit") else args.temperature
    return OperatingPoint(args.thre, temperature)


def leave_out(
    items: Sequence[T], problems: Sequence[ImageError | None]
) -> tuple[list[T], list[str]]:
    """Leave out what has a problem, and say so.

    Returns:
        The items without one, and a sentence on each of the others.

    Raises:
        UserError: If nothing is left.
    """
    kept = [item for item, problem in zip(items, problems, strict=True) if problem is None]
    sentences = [str(problem) for problem in problems if problem is not None]
    for sentence in sentences:
        print(f"Left out: {sentence}")
    if not kept:
        raise UserError(f"None of the {len(items)} pictures can be read. {sentences[0]}")
    return kept, sentences


def validate(args: argparse.Namespace, trained: TrainedModel, output: Path) -> None:
    """Score a labelled split and write metrics, predictions and the per-class table."""
    table = read_split_table(args.csv_path)
    classes = trained.class_names(table)
    samples = table.split(args.split)
    targets = MultiHotTargets(samples, classes, table.path).matrix()
    skipped: list[str] = []
    if args.skip_bad:
        problems = decode_problems(
            [args.img_dir / sample.filename for sample in samples], trained.reading
        )
        samples, skipped = leave_out(samples, problems)
        targets = MultiHotTargets(samples, classes, table.path).matrix()
    paths = image_paths(samples, args.img_dir, args.csv_path, reading=trained.reading)
    filenames = [sample.filename for sample in samples]
    point = operating_point(args, classes)
    regions: dict[str, Any] = {}
    if args.mask_dir is None:
        scores = trained.score(paths)
    else:
        masks = MaskFolder(args.mask_dir, classes)
        masks.check(filenames, paths, trained.reading)
        recorder = RegionRecorder(trained.model, args.superpixel_grid)
        scores = trained.score(paths, recorder)
        regions = region_metrics(
            recorder.cells(), recorder.top_classes(), map(masks.read, filenames), len(classes)
        )
    point = tune(point, targets, scores, args.tune_thresholds, args.temperature == "fit")
    scores = point.scale(scores)
    make_folder(output)
    measured, per_class = report(targets, scores, point.threshold)
    metrics = {
        **measured,
        "temperature": point.temperature,
        "ECE": 100 * reliability(targets, scores).error,
        **baselines(targets),
        **regions,
        "classes": classes,
        "split": args.split,
        "tta": args.tta,
        "skipped": skipped,
        "checkpoint": str(args.ckpt_path),
        "csv_path": str(args.csv_path),
    }
    predictions = f"predictions.{args.predictions_format}"
    write_predictions(output / predictions, filenames, classes, scores)
    write_per_class(output / "per_class.csv", classes, per_class)
    write_metrics(output / "metrics.json", metrics)
    read = partial(read_image, reading=trained.reading)
    find_maps = partial(trained.region_maps, temperature=point.temperature)
    results = Results(metrics, per_class, paths, targets, scores, find_maps, read)
    write_report(
        output / "report.html",
        title=f"{args.ckpt_path.name}, split {args.split}",
        subtitle=f"{args.ckpt_path} on {args.csv_path}, {len(classes)} classes",
        key_figures=key_figures(metrics),
        sections=sections(results),
        settings={**cli.plain_settings(args), **trained.checkpoint["settings"]},
    )
    print(summary(metrics, per_class))
    if args.tune_thresholds or args.temperature == "fit":
        origin = {
            "rule": str(args.tune_thresholds) if args.tune_thresholds else None,
            "temperature_fitted": args.temperature == "fit",
            **{key: metrics[key] for key in ("split", "csv_path", "checkpoint")},
        }
        write_point(output / THRESHOLDS_FILE, point, classes, origin)
        print(f"\n{describe_point(point, args.tune_thresholds)} {THRESHOLDS_FILE} keeps them.")
    if args.regions:
        write_region_maps(output, filenames, paths, find_maps(paths), classes, read)
    print(f"\nreport.html, metrics.json, per_class.csv and {predictions} are in {output}.")


def readable(pictures: Pictures, reading: Reading) -> Pictures:
    """The pictures that can be decoded."""
    problems = decode_problems(pictures.paths, reading)
    kept = [place for place, problem in enumerate(problems) if problem is None]
    return Pictures([pictures.names[i] for i in kept], [pictures.paths[i] for i in kept])


def predict_pictures(args: argparse.Namespace, trained: TrainedModel, output: Path) -> None:
    """Score a folder, a pattern or a list of pictures and write the predictions."""
    classes = trained.class_names(None)
    pictures = find_pictures(args.img_dir)
    point = operating_point(args, classes)
    loader = trained.loader(pictures.paths, IndexTargets(len(pictures.paths)))
    path = output / f"predictions.{args.predictions_format}"
    description = {**trained.description(), "pictures": digest_of_pictures(*pictures)}
    with Prediction(output, description, args.batch_size) as prediction:
        score_remaining(
            *(prediction, trained.scorer, loader, trained.device),
            amp=trained.amp,
            skip_bad=args.skip_bad,
        )
        result = finish(prediction, pictures.names, classes, path, point.scale)
    for sentence in result.failures:
        print(f"Left out: {sentence}")
    shown = 10
    limits = point.limits(len(classes))
    limit = "its threshold" if args.thresholds else f"{args.thre:g}"
    for name, row in list(zip(*result.first, strict=True))[:shown]:
        found = [f"{classes[k]} {row[k]:.2f}" for k in np.argsort(-row) if row[k] > limits[k]]
        print(f"{name}: {', '.join(found) or f'nothing above {limit}'}")
    if result.scored > shown:
        print(f"... and {result.scored - shown} more images")
    if args.regions:
        if result.failures:
            pictures = readable(pictures, trained.reading)
        maps = trained.region_maps(pictures.paths, point.temperature)
        read = partial(read_image, reading=trained.reading)
        write_region_maps(output, pictures.names, pictures.paths, maps, classes, read)
    print(f"\nThe scores of {result.scored} images are in {path}.")


def pictures_to_compare(args: argparse.Namespace, trained: TrainedModel) -> tuple[Tensor, str]:
    """A few pictures (N, 3, S, S) to hold an exported model against, and what they are."""
    if args.img_dir is None:
        size = trained.transform.resize.side
        noise = torch.rand(5, 3, size, size, generator=torch.Generator().manual_seed(1))
        return noise, "pictures of random noise (give --img_dir to compare on your own)"
    paths = find_pictures(args.img_dir).paths[:8]
    args.batch_size = len(paths)
    batch = next(iter(trained.loader(paths)))
    if batch.failures:
        raise UserError(batch.failures[0])
    return batch.to(torch.device("cpu")).images, f"pictures of {args.img_dir}"


def export_model(args: argparse.Namespace, trained: TrainedModel, output: Path) -> None:
    """Write the model in another format, compared with the checkpoint before it is kept."""
    table = None if args.csv_path is None else read_split_table(args.csv_path)
    card = {"classes": trained.class_names(table), **trained.settings}
    pictures, origin = pictures_to_compare(args, trained)
    path, difference = export(args.export, trained.model.cpu(), card, pictures, output)
    print(
        f"{path} scores {len(pictures)} {origin} as the checkpoint does: the largest difference of "
        f"a logit is {difference:.1e}."
    )


def main() -> None:
    """Checkpoint -> pictures -> scores -> metrics -> files."""
    args = parse_args()
    trained = TrainedModel(args, read_checkpoint(args.ckpt_path))
    folder = "val" if args.export is None else "export"
    output = args.output or args.ckpt_path.parent / folder
    if args.export is not None:
        export_model(args, trained, output)
    elif args.csv_path is None:
        predict_pictures(args, trained, output)
    else:
        validate(args, trained, output)


if __name__ == "__main__":
    cli.run(main)
