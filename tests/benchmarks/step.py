"""A training step beside that of a linear head with cross-entropy. Prints ratios.

    python tests/benchmarks/step.py

Forward, backward and update by Adam on random images, in one process and in turns. The backbone
is the same; what VoLUNet adds are VDSM on 4 x 4 cells, the KAN head and the Local-NMS loss.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from passes import random_targets
from steps import step_makers, training_step
from timing import hardware, interleaved, ratio

from helper_functions.data.workers import keep_freed_memory

CPU = torch.device("cpu")


def main() -> None:
    """Compare on each backbone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--classes", type=int, default=15)
    parser.add_argument("--backbone-name", nargs="+", default=["resnet18", "tresnet_l"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    print(hardware())
    images = torch.rand(options.batch, 3, options.image_size, options.image_size)
    targets = random_targets(options.batch, options.classes)
    for name in options.backbone_name:
        makers = step_makers(name, options.image_size, options.classes, CPU)
        seconds = interleaved(
            {
                head: training_step(makers[head](), images, targets)
                for head in ("ours", "linear head")
            },
            options.rounds,
        )
        ours, linear = (statistics.median(seconds[head]) for head in ("ours", "linear head"))
        print(
            f"{name:16} {ratio(seconds, 'ours', 'linear head'):.3f} x the time of a linear head  "
            f"({ours:.2f} against {linear:.2f} s a step)",
            flush=True,
        )


if __name__ == "__main__":
    main()
