"""Speed and memory of the KAN layer, beside the plain layer. Prints ratios.

    python tests/benchmarks/kan.py [--rounds 15] [--threads 2] [--classes 15 290] [--head 5016]

Speed is that of the forward and backward pass of the layer alone. Activations are what the forward
pass keeps for the backward pass, beyond parameters. Memory is the peak of a head's training steps
with Adam as a share of parameters, gradients and optimizer state. For both, glibc
keeps freed memory, as it does in training (`keep_freed_memory`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "benchmarks")]

from head_memory import PlainKANLinear  # noqa: E402
from timing import hardware, interleaved, ratio  # noqa: E402

from helper_functions.data.workers import keep_freed_memory  # noqa: E402
from models.kan import KANLinear  # noqa: E402

ROWS = 160
CHANNELS = 2432


def training_pass(layer: KANLinear, x: Tensor, gradient: Tensor) -> Callable[[], None]:
    """Return a forward and backward pass; gradients are fresh, as in a training step."""

    def run() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x).backward(gradient)

    return run


def kept_bytes(layer: KANLinear, x: Tensor) -> int:
    """Count what autograd saves beyond parameters and grid, each storage once."""
    known = {t.untyped_storage().data_ptr() for t in (*layer.parameters(), layer.grid)}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = layer(x)
    del result
    return sum(size for address, size in kept.items() if address not in known)


def compare(classes: int, rounds: int) -> None:
    """Print speed and activations of one size."""
    torch.manual_seed(0)
    ours, plain = KANLinear(CHANNELS, classes), PlainKANLinear(CHANNELS, classes)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(ROWS, CHANNELS, requires_grad=True)
    gradient = torch.randn(ROWS, classes)
    layers = {"plain": plain, "ours": ours}
    seconds = interleaved(
        {name: training_pass(layer, x, gradient) for name, layer in layers.items()},
        rounds,
        before=2,
    )
    times = {name: sorted(values)[rounds // 2] * 1e3 for name, values in seconds.items()}
    kept = {name: kept_bytes(layer, x) / 2**20 for name, layer in layers.items()}
    title = f"{ROWS} rows x {CHANNELS} channels x {classes} classes"
    print(
        f"{title}, speed        {ratio(seconds, 'plain', 'ours'):6.2f} x  "
        f"({times['ours']:.1f} against {times['plain']:.1f} ms)"
    )
    print(
        f"{title}, activations  {kept['plain'] / kept['ours']:6.1f} x  "
        f"({kept['ours']:.1f} against {kept['plain']:.1f} MiB)",
        flush=True,
    )


def head_memory(classes: int) -> None:
    """Print the peak of a head's training step, measured in a process of its own."""
    for head in ("blockwise", "plain"):
        done = subprocess.run(
            [
                *(sys.executable, str(ROOT / "tests" / "head_memory.py"), head, "project"),
                *(str(ROWS), str(CHANNELS), str(classes)),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        memory = json.loads(done.stdout)
        peak, needed = memory["peak"] / 2**20, memory["needed"] / 2**20
        print(
            f"head of {classes} classes, {head}: peak {100 * peak / needed:.1f} % of parameters, "
            f"gradients and optimizer state ({peak:.0f} against {needed:.0f} MiB)",
            flush=True,
        )


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--classes", type=int, nargs="*", default=[15, 290])
    parser.add_argument("--head", type=int, default=5016, help="classes of the head; 0: skip")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    print(hardware())
    for classes in args.classes:
        compare(classes, args.rounds)
    if args.head:
        head_memory(args.head)


if __name__ == "__main__":
    main()
