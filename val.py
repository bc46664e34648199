"""Validate a trained VoLUNet on a split, predict pictures, or export the model.

Examples:
    python val.py --ckpt-path runs/train/model-highest.ckpt --img_dir images --csv_path splits.csv
    python val.py --ckpt-path runs/train/model-highest.ckpt --img_dir photos
    python val.py --ckpt-path runs/train/model-highest.ckpt --img_dir 'photos/**/*.jpg'
    python val.py --ckpt-path runs/train/model-highest.ckpt --export onnx --img_dir photos
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from helper_functions import cli
from helper_functions.bands import Reading
from helper_functions.cache import open_cache
from helper_functions.calibration import reliability
from helper_functions.checkpoints import Checkpoint, read_checkpoint
from helper_functions.classification import predict
from helper_functions.datasets import (
    ImageDataset,
    MultiHotTargets,
    NoTargets,
    image_paths,
    make_loader,
)
from helper_functions.engine import resolve_amp, resolve_device
from helper_functions.errors import UserError
from helper_functions.exporting import FORMATS, export
from helper_functions.files import make_folder
from helper_functions.images import ImageError, decode_problems, read_image
from helper_functions.masks import MaskFolder
from helper_functions.metrics import baselines, report
from helper_functions.packages import require_packages
from helper_functions.picture_lists import Pictures, find_pictures
from helper_functions.predicting import (
    IndexTargets,
    Prediction,
    digest_of_pictures,
    finish,
    score_remaining,
)
from helper_functions.region_maps import RegionMap, find_region_maps, write_region_maps
from helper_functions.regions import RegionRecorder, region_metrics
from helper_functions.report import write_report
from helper_functions.reporting import (
    PREDICTION_FORMATS,
    summary,
    write_metrics,
    write_per_class,
    write_predictions,
)
from helper_functions.splits import ALL, SPLITS, SplitTable, read_split_table
from helper_functions.thresholds import (
    THRESHOLDS_FILE,
    OperatingPoint,
    describe_point,
    read_point,
    tune,
    write_point,
)
from helper_functions.train_flags import make_parser as make_train_parser
from helper_functions.transforms import EvalTransform
from helper_functions.views import VIEWS, ViewAverage
from models import VoLUNet

T = TypeVar("T")


def parse_args() -> argparse.Namespace:
    """The command line; what it leaves open comes from the checkpoint."""
    parser = cli.Parser(
        usage="%(prog)s --ckpt-path FILE --img_dir DIR [--csv_path FILE | --export FORMAT] [flags]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_config_flag()
    parser.others = vars(make_train_parser().parse_args(["--img_dir", ".", "--csv_path", "."]))
    parser.add_argument(
        "--ckpt-path",
        type=Path,
        required=True,
        help="checkpoint of train.py or the released program, or a folder of --export folder",
    )
    cli.add_data_flags(parser, csv_required=False)
    parser.add_argument(
        "--split", choices=(*SPLITS, ALL), default="val", help="rows to validate (default: val)"
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out pictures that cannot be read, and list them (default: stop at the first)",
    )
    parser.add_argument(
        "--mask-dir",
        type=Path,
        help="pixel masks: 8-bit PNGs of class indices, named like the pictures, and classes.json, "
        "the list of the indices' names; measures whether regions are classified rightly (default: "
        "none)",
    )
    group = parser.add_argument_group(
        "model",
        "The checkpoint knows its model and its regions. The region flags matter in training only; "
        "they are accepted for the sake of old command lines.",
    )
    group.add_argument(
        "--backbone-name", help="checked against the checkpoint when given (default: not)"
    )
    cli.add_region_flags(group)
    group = cli.add_runtime_flags(parser)
    group.add_argument(
        "--tta",
        choices=tuple(VIEWS),
        default="none",
        help="test-time augmentation: average over the picture and its left-right mirror image, or "
        "the upside-down ones as well (default: none)",
    )
    group = parser.add_argument_group("output")
    cli.add_decision_flags(group)
    cli.add_map_flags(group)
    group.add_argument(
        "--output",
        type=Path,
        help="folder for the results (default: 'val', or 'export', beside the checkpoint)",
    )
    group.add_argument(
        "--predictions-format",
        choices=PREDICTION_FORMATS,
        default="csv",
        help="how the scores are written (default: csv)",
    )
    group.add_argument(
        "--export",
        choices=tuple(FORMATS),
        help="write the model in another format and do nothing else; 'folder': model.safetensors "
        "and config.json, as the Hugging Face hub has them (default: none)",
    )
    args = parser.parse_args()
    if args.img_dir is None and args.export is None:
        parser.error("the following arguments are required: --img_dir")
    if args.predictions_format == "parquet":
        require_packages("--predictions-format parquet", ["pyarrow"])
    if args.mask_dir is not None and args.csv_path is None:
        parser.error("--mask-dir belongs to a validation: give --csv_path as well")
    cli.check_decision_flags(parser, args)
    return args


def check_against_checkpoint(args: argparse.Namespace, checkpoint: Checkpoint) -> None:
    """Refuse flags that contradict what the checkpoint holds."""
    num_classes = checkpoint.num_classes
    if args.num_classes is not None and args.num_classes != num_classes:
        raise UserError(
            f"--num-classes is {args.num_classes}, but {checkpoint.path} has {num_classes} classes."
        )
    backbone_name = checkpoint["settings"]["backbone_name"]
    if args.backbone_name is not None and args.backbone_name != backbone_name:
        raise UserError(
            f"--backbone-name is {args.backbone_name}, but {checkpoint.path} holds a "
            f"{backbone_name}."
        )


def class_names(checkpoint: Checkpoint, table: SplitTable | None) -> list[str]:
    """Names of the logits; checkpoints of the released program leave them to the CSV."""
    names: list[str] | None = checkpoint["info"]["classes"]
    if names is not None:
        return names
    num_classes = checkpoint.num_classes
    if table is None:
        print("The checkpoint carries no class names; the columns are numbered instead.")
        return [f"class_{index}" for index in range(num_classes)]
    if len(table.classes) != num_classes:
        raise UserError(
            f"{checkpoint.path} scores {num_classes} classes without naming them, but {table.path} "
            f"names {len(table.classes)}; give the CSV that it was trained with."
        )
    return list(table.classes)


def reading_of(args: argparse.Namespace, checkpoint: Checkpoint) -> Reading:
    """How pictures are read: as in training, unless the command line says otherwise."""
    info = checkpoint["info"]
    return cli.reading(args.bands or info.get("bands"), args.value_range or info.get("value_range"))


def transform_of(args: argparse.Namespace, checkpoint: Checkpoint) -> EvalTransform:
    """Size, mean and standard deviation of the pictures, likewise."""
    info = checkpoint["info"]
    return EvalTransform(
        args.image_size or info["image_size"], args.mean or info["mean"], args.std or info["std"]
    )


def operating_point(args: argparse.Namespace, classes: Sequence[str]) -> OperatingPoint:
    """How scores become decisions, before anything is fitted."""
    if args.thresholds is not None:
        return read_point(args.thresholds, classes)
    temperature = 1.0 if args.temperature in (None, "fit") else args.temperature
    return OperatingPoint(args.thre, temperature)


def check_superpixel_grid(
    grid: tuple[int, int] | None, cells: tuple[int, int], image_size: int
) -> None:
    """Refuse a grid that is finer than the feature map."""
    if grid is not None and (grid[0] > cells[0] or grid[1] > cells[1]):
        raise UserError(
            f"--superpixel-grid asks for {grid[0]} x {grid[1]} cells, but the feature map of "
            f"pictures of {image_size} pixels has {cells[0]} x {cells[1]}; lower it, or raise "
            "--image-size."
        )


def make_score_loader(
    args: argparse.Namespace,
    checkpoint: Checkpoint,
    model: VoLUNet,
    paths: list[Path],
    targets: Sequence[Tensor],
) -> DataLoader[Any]:
    """Batches of N pictures with N targets, as the model was trained on them.

    Raises:
        UserError: If the model refuses the size of the pictures.
    """
    transform = transform_of(args, checkpoint)
    try:
        cells = model.check_grid(transform.resize.side)
    except ValueError as error:
        raise UserError(str(error)) from error
    check_superpixel_grid(args.superpixel_grid, cells, transform.resize.side)
    dataset = ImageDataset(
        paths,
        targets,
        transform,
        cache=open_cache(args.cache_dir),
        reading=reading_of(args, checkpoint),
    )
    return make_loader(
        dataset,
        batch_size=args.batch_size,
        workers=args.workers,
        pin_memory=resolve_device(args.device).type == "cuda",
    )


def score(
    args: argparse.Namespace,
    checkpoint: Checkpoint,
    model: VoLUNet,
    paths: list[Path],
    recorder: RegionRecorder | None = None,
) -> npt.NDArray[np.float32]:
    """Class probabilities of pictures, float32 (N, K).

    Args:
        args: The command line.
        checkpoint: Where the model is from.
        model: The model.
        paths: The N pictures.
        recorder: Around the model, if the classes of the regions are wanted too.
    """
    loader = make_score_loader(args, checkpoint, model, paths, NoTargets(len(paths)))
    device = resolve_device(args.device)
    scorer = ViewAverage(recorder or model, model, args.tta).to(device)
    return predict(scorer, loader, device, resolve_amp(args.amp, device))


def region_maps(
    args: argparse.Namespace,
    checkpoint: Checkpoint,
    model: VoLUNet,
    temperature: float,
    paths: Sequence[Path],
) -> Iterator[RegionMap]:
    """What the regions of pictures predict, one map a picture."""
    loader = make_score_loader(args, checkpoint, model, list(paths), NoTargets(len(paths)))
    device = resolve_device(args.device)
    amp = resolve_amp(args.amp, device)
    settings = {"grid": args.superpixel_grid, "temperature": temperature}
    return find_region_maps(model.to(device), loader, device, amp, **settings)


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


def validate(
    args: argparse.Namespace, checkpoint: Checkpoint, model: VoLUNet, output: Path
) -> None:
    """Score a labelled split and write metrics, predictions and the per-class table."""
    table = read_split_table(args.csv_path)
    classes = class_names(checkpoint, table)
    samples = table.split(args.split)
    targets = MultiHotTargets(samples, classes, table.path).matrix()
    skipped: list[str] = []
    reading = reading_of(args, checkpoint)
    if args.skip_bad:
        problems = decode_problems([args.img_dir / sample.filename for sample in samples], reading)
        samples, skipped = leave_out(samples, problems)
        targets = MultiHotTargets(samples, classes, table.path).matrix()
    paths = image_paths(samples, args.img_dir, args.csv_path, reading=reading_of(args, checkpoint))
    filenames = [sample.filename for sample in samples]
    point = operating_point(args, classes)
    regions: dict[str, Any] = {}
    if args.mask_dir is None:
        scores = score(args, checkpoint, model, paths)
    else:
        masks = MaskFolder(args.mask_dir, classes)
        masks.check(filenames, paths, reading)
        recorder = RegionRecorder(model, args.superpixel_grid)
        scores = score(args, checkpoint, model, paths, recorder)
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
    read = partial(read_image, reading=reading)
    find_maps = partial(region_maps, args, checkpoint, model, point.temperature)
    write_report(
        output / "report.html",
        metrics,
        per_class,
        paths,
        targets,
        scores,
        find_maps=find_maps,
        read=read,
        settings={**cli.plain_settings(args), **checkpoint["settings"]},
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


def describe(
    args: argparse.Namespace, checkpoint: Checkpoint, pictures: Pictures
) -> dict[str, Any]:
    """What the scores of a prediction depend on, under names for people."""
    transform, reading = transform_of(args, checkpoint), reading_of(args, checkpoint)
    device = resolve_device(args.device)
    return {
        "checkpoint": checkpoint.digest(),
        "pictures": digest_of_pictures(*pictures),
        "image size": transform.resize.side,
        "normalisation": [
            args.mean or checkpoint["info"]["mean"],
            args.std or checkpoint["info"]["std"],
        ],
        "bands and value range": repr(reading),
        "views": args.tta,
        "device": device.type,
        "precision": str(resolve_amp(args.amp, device) or torch.float32),
    }


def readable(pictures: Pictures, reading: Reading) -> Pictures:
    """The pictures that can be decoded."""
    problems = decode_problems(pictures.paths, reading)
    kept = [place for place, problem in enumerate(problems) if problem is None]
    return Pictures([pictures.names[i] for i in kept], [pictures.paths[i] for i in kept])


def predict_pictures(
    args: argparse.Namespace, checkpoint: Checkpoint, model: VoLUNet, output: Path
) -> None:
    """Score a folder, a pattern or a list of pictures and write the predictions."""
    classes = class_names(checkpoint, None)
    pictures = find_pictures(args.img_dir)
    point = operating_point(args, classes)
    total = len(pictures.paths)
    loader = make_score_loader(args, checkpoint, model, pictures.paths, IndexTargets(total))
    device = resolve_device(args.device)
    path = output / f"predictions.{args.predictions_format}"
    description = describe(args, checkpoint, pictures)
    with Prediction(output, description, args.batch_size) as prediction:
        score_remaining(
            *(prediction, ViewAverage(model, model, args.tta).to(device), loader, device),
            amp=resolve_amp(args.amp, device),
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
        reading = reading_of(args, checkpoint)
        if result.failures:
            pictures = readable(pictures, reading)
        maps = region_maps(args, checkpoint, model, point.temperature, pictures.paths)
        read = partial(read_image, reading=reading)
        write_region_maps(output, pictures.names, pictures.paths, maps, classes, read)
    print(f"\nThe scores of {result.scored} images are in {path}.")


def pictures_to_compare(
    args: argparse.Namespace, checkpoint: Checkpoint, model: VoLUNet
) -> tuple[Tensor, str]:
    """A few pictures (N, 3, S, S) to hold an exported model against, and what they are."""
    size = transform_of(args, checkpoint).resize.side
    if args.img_dir is None:
        noise = torch.rand(5, 3, size, size, generator=torch.Generator().manual_seed(1))
        return noise, "pictures of random noise (give --img_dir to compare on your own)"
    paths = find_pictures(args.img_dir).paths[:8]
    args.batch_size = len(paths)
    batch = next(iter(make_score_loader(args, checkpoint, model, paths, NoTargets(len(paths)))))
    if batch.failures:
        raise UserError(batch.failures[0])
    return batch.to(torch.device("cpu")).images, f"pictures of {args.img_dir}"


def export_model(
    args: argparse.Namespace, checkpoint: Checkpoint, model: VoLUNet, output: Path
) -> None:
    """Write the model in another format, compared with the checkpoint before it is kept."""
    table = None if args.csv_path is None else read_split_table(args.csv_path)
    transform, info = transform_of(args, checkpoint), checkpoint["info"]
    card = {
        "classes": class_names(checkpoint, table),
        "image_size": transform.resize.side,
        "mean": args.mean or info["mean"],
        "std": args.std or info["std"],
        "bands": args.bands or info.get("bands"),
        "value_range": args.value_range or info.get("value_range"),
    }
    pictures, origin = pictures_to_compare(args, checkpoint, model)
    path, difference = export(args.export, model, card, pictures, output)
    print(
        f"{path} scores {len(pictures)} {origin} as the checkpoint does: the largest difference of "
        f"a logit is {difference:.1e}."
    )


def main() -> None:
    """Checkpoint -> pictures -> scores -> metrics -> files."""
    args = parse_args()
    checkpoint = read_checkpoint(args.ckpt_path)
    check_against_checkpoint(args, checkpoint)
    model = checkpoint.model()
    folder = "val" if args.export is None else "export"
    output = args.output or args.ckpt_path.parent / folder
    if args.export is not None:
        export_model(args, checkpoint, model, output)
    elif args.csv_path is None:
        predict_pictures(args, checkpoint, model, output)
    else:
        validate(args, checkpoint, model, output)


if __name__ == "__main__":
    cli.run(main)
