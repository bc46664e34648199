"""Validate a trained model, predict images, or export the model. See ``val.py --help``."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import torch
from torch.utils.data import Subset

from helper_functions import cli
from helper_functions.data.dataset import Samples, stack_targets
from helper_functions.data.flags import LoaderSettings
from helper_functions.data.image_lists import list_images
from helper_functions.data.images import read_image
from helper_functions.inference.export import comparison_images, export
from helper_functions.inference.resumable import (
    PredictionStore,
    digest_of_images,
    predict_remaining,
)
from helper_functions.inference.tta import AveragedModel
from helper_functions.parsers import parse_val
from helper_functions.results.report.page import write_report
from helper_functions.results.tables import write_metrics, write_table
from helper_functions.runtime.device import resolve_amp, resolve_device
from helper_functions.runtime.files import make_folder
from helper_functions.runtime.text import printable
from helper_functions.tasks.base import Results, Task
from helper_functions.tasks.predictor import Predictor


def validate(
    task: Task,
    predictor: Predictor,
    store: PredictionStore,
    samples: Samples,
    facts: dict[str, Any],
) -> Results:
    """Evaluate stored predictions against the targets of their images.

    Args:
        task: Computes the metrics.
        predictor: For images that the report shows.
        store: Holds the predictions for all images that could be read.
        samples: All images.
        facts: What ``metrics.json`` tells beside the metrics.
    """
    readable = [index for indices, _ in store for index in indices]
    names = [samples.names[index] for index in readable]
    paths = [samples.paths[index] for index in readable]
    seen = Samples(names, paths, Subset(samples.targets, readable))  # type: ignore[arg-type]
    evaluator = task.evaluator(len(readable))
    for indices, predictions in store:
        targets = stack_targets([samples.targets[index] for index in indices])
        evaluator.update(predictions, targets, [samples.names[index] for index in indices])
    return Results(
        samples=seen,
        evaluator=evaluator,
        metrics={**evaluator.metrics(), **facts},
        tables=evaluator.tables(),
        read=partial(read_image, image_format=task.input.image_format),
        predict=partial(predictor.run, seen),
    )


def main() -> None:
    """Checkpoint -> images -> predictions -> metrics -> files."""
    task_type, checkpoint, flags = parse_val()
    output = flags.output or flags.ckpt_path.parent / ("export" if flags.export else "val")

    # The model
    task = task_type.from_checkpoint(checkpoint, flags)
    device = resolve_device(flags.device)
    amp = resolve_amp(flags.amp, device)
    model = checkpoint.model(task.model_changes()).to(device)
    task.check_model(model)
    scorer = model if flags.tta == "none" else AveragedModel(model, flags.tta)
    predictor = Predictor(task, scorer, cli.from_flags(LoaderSettings, flags), device, amp)

    if flags.export is not None:
        images, origin = comparison_images(predictor, flags.img_dir)
        info = {"task": task.name, **task.info()}
        module = model if flags.export == "folder" else task.export_module(model)
        path, difference = export(flags.export, module.cpu(), info, images, output)
        print(
            f"{path} agrees with the checkpoint on {len(images)} {origin}: the largest difference "
            f"of an output is {difference:.1e}."
        )
        return

    # Predictions, kept in parts until the results are written
    allowed = sys.maxsize if flags.skip_bad else 0
    listed = flags.csv_path is not None
    samples = task.samples(flags.split, allowed) if listed else list_images(flags.img_dir)
    labeled = listed and task.labeled
    description = {
        "checkpoint": checkpoint.digest(),
        "image size": task.input.image_size,
        "normalization": [task.input.mean, task.input.std],
        "bands and value range": repr(task.input.image_format),
        "tta": flags.tta,
        "device": device.type,
        "precision": str(amp or torch.float32),
        "images": digest_of_images(samples),
        **task.prediction_settings(),
    }
    with PredictionStore(output, description, flags.batch_size) as store:
        skipped = predict_remaining(store, predictor, samples, skip_bad=flags.skip_bad)
        for failure in skipped:
            print(f"Left out: {printable(failure)}")

        # Results
        make_folder(output)
        results = None
        if labeled:
            facts = {
                "split": flags.split,
                "tta": flags.tta,
                "skipped": skipped,
                "checkpoint": str(flags.ckpt_path),
                "csv_path": str(flags.csv_path),
            }
            results = validate(task, predictor, store, samples, facts)
            for name, table in results.tables.items():
                write_table(output / name, table)
            write_metrics(output / "metrics.json", results.metrics)
            write_report(
                output / "report.html",
                title=f"{flags.ckpt_path.name}, split {flags.split}",
                subtitle=f"{flags.ckpt_path} on {flags.csv_path}",
                key_figures=task.key_figures(results),
                sections=task.sections(results),
                settings={**cli.plain_settings(flags), **checkpoint["settings"]},
            )
        print(task.write(output, samples, store, results))
        store.discard()
    if labeled:
        print(f"\nThe report and the files beside it are in {output}.")


if __name__ == "__main__":
    cli.run(main)
