"""VDSM, and all that follows the backbone in training, beside the plain versions. Prints ratios.

    python tests/benchmarks/vdsm.py

Forward and backward pass on random feature maps in one process, in turns. The plain versions work
image by image, cell by cell and region by region; they know the distances of the cells beforehand.
glibc keeps freed memory for both, as it does in training (`keep_freed_memory`).
"""

from __future__ import annotations

import argparse
import statistics

import torch
from passes import (
    feature_maps,
    head,
    head_model,
    plain_head,
    plain_vdsm,
    random_targets,
    vdsm,
)
from timing import hardware, interleaved, ratio

from helper_functions.data.workers import keep_freed_memory
from models.vdsm import VARIANTS


def report(title: str, seconds: dict[str, list[float]], plain: str, ours: str) -> None:
    """Print how many times faster ``ours`` is, and the median milliseconds of both."""
    times = [f"{1e3 * statistics.median(seconds[name]):.2f}" for name in (ours, plain)]
    print(
        f"{title:36} {ratio(seconds, plain, ours):6.2f} x  ({times[0]} against {times[1]} ms)",
        flush=True,
    )


def main() -> None:
    """Compare on grids of 4 x 4 and 7 x 7 cells, then with heads of 15 and 290 classes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--channels", type=int, default=2432)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    print(hardware())
    for side in (4, 7):
        features = feature_maps(options.batch, options.channels, side)
        passes = {f"{variant}, plain": plain_vdsm(features, variant) for variant in VARIANTS}
        passes |= {variant: vdsm(features, variant) for variant in VARIANTS}
        seconds = interleaved(passes, options.rounds, before=2)
        for variant in VARIANTS:
            title = f"VDSM {side} x {side}, {variant}"
            report(title, seconds, f"{variant}, plain", variant)
        for variant in VARIANTS[1:]:
            report(f"VDSM {side} x {side}, {variant} : released", seconds, "released", variant)
    features = feature_maps(options.batch, options.channels, 4)
    for classes in (15, 290):
        model = head_model(options.channels, classes)
        targets = random_targets(options.batch, classes)
        seconds = interleaved(
            {
                "plain": plain_head(features, model, targets),
                "ours": head(features, model, targets),
            },
            options.rounds,
            before=2,
        )
        report(f"VDSM, head and losses, {classes} classes", seconds, "plain", "ours")


if __name__ == "__main__":
    main()
