"""LCFCN's loss, forward and backward, beside the plain version. Prints ratios.

    python tests/benchmarks/counting_loss.py

Both work on the same logits in one process, in turns. The plain version floods the whole image for
every blob, with SciPy and scikit-image, as the released code does. Images: objects around the
points, some of which touch; smooth as from a network of stride 8, and with noise in every pixel.
What our version compiles, it compiles before the first round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from timing import hardware, interleaved, ratio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plain_lcfcn import plain_loss

from loss_functions import LCFCNLoss
from loss_functions.lcfcn import lcfcn_terms

# Height, width, points, pairs of them that share a blob.
SIZES = ((64, 80, 25, 4), (256, 256, 40, 4), (768, 1024, 222, 9))


def sample(
    size: tuple[int, int], num_points: int, pairs: int, noise: float
) -> tuple[torch.Tensor, npt.NDArray[Any]]:
    """Return logits (H, W) of bumps around points, and the points, 0/1 (H, W).

    Points lie on a grid, jittered; those of the first pairs are moved beside each other.
    """
    height, width = size
    rng = np.random.default_rng(0)
    rows = int(np.ceil(np.sqrt(num_points * height / width)))
    spacing = height / rows
    columns = int(width / spacing)
    while rows * columns < num_points:
        columns += 1
    cells = rng.permutation(rows * columns)[:num_points]
    centers = np.column_stack(np.divmod(cells, columns)).astype(float)
    centers += rng.uniform(0.4, 0.6, centers.shape)
    centers *= (spacing, width / columns)
    radius = min(spacing, width / columns) * 0.25
    centers[:pairs] = centers[pairs : 2 * pairs] + (0, 1.5 * radius)

    grid = np.moveaxis(np.mgrid[:height, :width], 0, -1)
    logits = np.full(size, -4.0)
    points = np.zeros(size, np.int64)
    for center in centers.clip(0, np.array(size) - 1):
        distance = np.linalg.norm(grid - center, axis=-1)
        logits = np.maximum(logits, 4 - 4 * (distance / radius) ** 2)
        points[tuple(center.astype(int))] = 1
    logits += noise * rng.standard_normal(size)
    return torch.from_numpy(logits.astype(np.float32)), points


def passes(logits: torch.Tensor, points: npt.NDArray[Any]) -> dict[str, Callable[[], object]]:
    """Both versions, forward and backward."""
    loss, targets = LCFCNLoss(), torch.from_numpy(points)[None]
    inputs = {name: logits.clone().requires_grad_() for name in ("plain", "ours")}

    def plain() -> float:
        value = plain_loss(inputs["plain"], points)
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    def ours() -> float:
        value = loss(inputs["ours"][None, None], targets)
        value.backward()
        return float(value.detach())

    return {"plain": plain, "ours": ours}


def main() -> None:
    """Compare at the three sizes, smooth and noisy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(hardware())
    for height, width, num_points, pairs in SIZES:
        for kind, noise in (("smooth", 0.0), ("noisy", 0.5)):
            logits, points = sample((height, width), num_points, pairs, noise)
            terms = lcfcn_terms(torch.sigmoid(logits), points)
            split = sum(term.kind == "local_split" for term in terms)
            both = passes(logits, points)
            plain = float(plain_loss(logits, points))
            ours = float(LCFCNLoss()(logits[None, None], torch.from_numpy(points)[None]))
            if abs(plain - ours) > 1e-5 * abs(plain):
                raise SystemExit(f"The losses differ: {plain} and {ours}.")
            seconds = interleaved(both, options.rounds)
            times = [f"{1e3 * statistics.median(seconds[name]):.2f}" for name in ("ours", "plain")]
            print(
                f"{height} x {width}, {kind}: {points.sum()} points, {split} blobs to split"
                f"  {ratio(seconds, 'plain', 'ours'):6.2f} x  ({times[0]} against {times[1]} ms)",
                flush=True,
            )


if __name__ == "__main__":
    main()
