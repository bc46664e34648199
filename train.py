"""Train a model: command line -> data -> model -> loss -> training. See ``train.py --help``."""

from __future__ import annotations

from helper_functions import cli
from helper_functions.checkpoints import read_checkpoint
from helper_functions.checkpoints.checkpoint import BEST
from helper_functions.parsers import parse_train
from helper_functions.runtime import distributed
from helper_functions.runtime.signals import StopRequest
from helper_functions.training import run as runs
from helper_functions.training.run import Run, RunSettings


def main() -> None:
    """Train as the command line says, in one of the processes that share the run."""
    task_type, flags = parse_train()
    with runs.start(flags) as (device, lock):
        # The task and its data
        checkpoint = runs.find_checkpoint(
            flags.output_path, flags.resume, overwrite=flags.overwrite
        )
        task = task_type.from_flags(flags)
        settings = RunSettings.from_flags(flags, device)
        output = settings.saving.output_path
        if checkpoint is not None:
            runs.check_same_run(checkpoint, task, settings.record, flags.csv_path)
        elif (output / BEST).is_file() and not flags.overwrite:  # stopped in its first epoch
            best = read_checkpoint(output / BEST)
            runs.check_same_run(best, task, settings.record, flags.csv_path)
        run = Run(task, settings)

        # The model
        task.check_device(device, settings.amp)
        model = task.build_model()
        task.check_model(model)
        model = runs.prepare_model(model, settings)
        task.to(device)
        if checkpoint is None:
            task.before_training(model, run.first_images, device)
        print(f"{task.describe(len(run.train_set), len(run.val_samples.paths))} on {device}.")

        # The loop
        stop = StopRequest()
        trainer = run.trainer(model, stop)
        trainer.dry_run()
        if distributed.rank():  # equal weights, but dropout of its own
            runs.seed_all(settings.train.seed + distributed.rank())
        if checkpoint is not None:
            trainer.resume(checkpoint)
        run.start_folder(lock, resuming=checkpoint is not None)
        stop.listen()
        trainer.fit()
        run.report_test_split()
        print(
            f"Best validation {task.monitor} {trainer.state.best:.2f} in epoch "
            f"{trainer.state.best_epoch}; checkpoints, log and curves in {output}."
        )


if __name__ == "__main__":
    cli.run(main)
