"""Peak memory of training steps, as the sum of what PyTorch's allocator has handed out.

    python tests/head_memory.py blockwise project 16 256 500

Run in a process of its own by tests and benchmarks. Prints, in bytes, the peak and the size of what
a step cannot do without: parameters, their gradients and the optimizer's state.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Adam
from torch.profiler import ProfilerActivity, profile

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from plain_kan import plain_kan_linear  # noqa: E402

from helper_functions.training.optim import make_optimizer  # noqa: E402
from models.kan import KANLinear, WICClassifier  # noqa: E402


class PlainKANLinear(KANLinear):
    """The same layer, written down plainly."""

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.base_weight, self.spline_weight, self.spline_scaler)
        return plain_kan_linear(x, self.grid, *weights, self.spline_order)


def peak_bytes(function: Callable[[], object]) -> int:
    """The most memory that tensors on the processor hold at a time while ``function`` runs."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        function()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        record.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return max(int(e["args"]["Total Allocated"]) for e in events if e["name"] == "[memory]")


def measure(head: str, adam: str, rows: int, channels: int, classes: int) -> dict[str, int]:
    """Peak of two training steps of a head, which is made first."""
    needed = 0

    def train() -> None:
        nonlocal needed
        model = WICClassifier((channels, classes))
        if head == "plain":
            model.layers[0].__class__ = PlainKANLinear
        optimizer = make_optimizer(model, 1e-4, 1e-4)
        if adam == "loop":
            optimizer = Adam(model.parameters(), 1e-4, weight_decay=1e-4, fused=False)
        inputs = torch.randn(rows, channels, requires_grad=True)
        for _ in range(2):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
        states = [value for state in optimizer.state.values() for value in state.values()]
        kept = [*model.parameters(), *(p.grad for p in model.parameters()), *states]
        needed = sum(tensor.nbytes for tensor in kept if tensor is not None)

    return {"peak": peak_bytes(train), "needed": needed}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("head", choices=["blockwise", "plain"])
    parser.add_argument("adam", choices=["project", "loop"], help="make_optimizer's or a plain one")
    for name in ("rows", "channels", "classes"):
        parser.add_argument(name, type=int)
    args = parser.parse_args()
    print(json.dumps(measure(args.head, args.adam, args.rows, args.channels, args.classes)))


if __name__ == "__main__":
    main()
