"""The command that draws every figure of the README.

The curves are drawn only if the log is there, the region maps if a checkpoint is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from helper_functions.cli import Parser, number, run
from helper_functions.figures.region_maps import draw_region_maps
from helper_functions.figures.vdsm import draw_vdsm
from helper_functions.results.curves import draw_curves
from helper_functions.runtime.files import make_folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Raises:
        UserError: If the folder cannot be made or the log is not a log.
    """
    parser = Parser(
        prog="python -m helper_functions.figures", description="Draw the figures of the README."
    )
    for flag, default, help_text in (
        ("--output", "images", "folder to write to"),
        ("--log", "runs/demo/train/log.csv", "log of a run, for its curves"),
        ("--data", "runs/demo/data", "folder of the forest's tiles, for the region maps"),
    ):
        parser.add_argument(
            flag, type=Path, default=Path(default), help=f"{help_text} (default: {default})"
        )
    parser.add_argument(
        "--checkpoint", type=Path, help="model of a run on these tiles, for its region maps"
    )
    parser.add_argument(
        "--chance", type=number(float, 0, 100), help="mAP of guessing in percent, a base line"
    )
    options = parser.parse_args(arguments)
    folder, log = options.output, options.log
    make_folder(folder)
    draw_vdsm(folder / "vdsm.png")
    if options.checkpoint is not None:
        draw_region_maps(options.checkpoint, options.data, folder / "regions.png")
    if log.exists():
        draw_curves(log, folder / "demo_curve.png", "mAP", ["loss_per_label"], options.chance)
    else:
        print(f"There is no log {log}, so demo_curve.png was left out; make demo writes that log.")


if __name__ == "__main__":
    run(main)
