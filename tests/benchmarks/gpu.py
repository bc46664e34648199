"""Training on a GPU under mixed precision: images a second and memory. Prints a Markdown table.

    python tests/benchmarks/gpu.py

Steps on random images, which are on the device already: the plain version after the
backbone, ours as it is and compiled, and the same backbone with a linear head. All are in memory
together and take turns; the memory of each is what building it and its first step need at most.
A rehearsal without a GPU, in seconds:

    python tests/benchmarks/gpu.py --device cpu --batch 2 --rounds 1 --image-size 64 \
        --backbone-name resnet18
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from passes import random_targets
from steps import step_makers, training_step
from timing import hardware, interleaved

GIB = 2**30


def main() -> None:
    """Measure all steps with each batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--classes", type=int, default=15)
    parser.add_argument("--backbone-name", default="tresnet_l")
    options = parser.parse_args()
    device = torch.device(options.device)
    on_gpu = device.type == "cuda"
    if on_gpu and not torch.cuda.is_available():
        raise SystemExit("There is no GPU that PyTorch can use; --device cpu rehearses.")
    torch.manual_seed(0)
    print(f"{options.backbone_name} at {options.image_size}, {hardware()}\n")
    print("| batch | step | images/s | of the linear head's | peak memory |")
    print("| ---: | --- | ---: | ---: | ---: |")
    for batch in options.batch:
        images = torch.rand(batch, 3, options.image_size, options.image_size, device=device)
        targets = random_targets(batch, options.classes).to(device)
        makers = step_makers(options.backbone_name, options.image_size, options.classes, device)
        steps: dict[str, Callable[[], object]] = {}
        torch.compiler.reset()  # or the second size would compile for all sizes
        memory = dict.fromkeys(makers, "")
        for name, make in makers.items():
            before = torch.cuda.memory_allocated() if on_gpu else 0
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            steps[name] = training_step(
                make(), images, targets, amp=torch.float16 if on_gpu else None
            )
            steps[name]()
            if on_gpu:
                peak = torch.cuda.max_memory_allocated() - before
                memory[name] = f"{peak / GIB:.2f} GiB"
        seconds = interleaved(steps, options.rounds)
        median = {name: statistics.median(times) for name, times in seconds.items()}
        for name, time in median.items():
            share = median["linear head"] / time
            print(
                f"| {batch} | {name} | {batch / time:.0f} | {100 * share:.1f} % | {memory[name]} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
