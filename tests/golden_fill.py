"""Weights and pictures that follow from names and shapes: what the golden runs were fed with.

The formula comes with the golden numbers: a counter through the splitmix64 finaliser, offset by the
CRC-32 of the tensor's name and a salt.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]


def noise(name: str, shape: tuple[int, ...], salt: int) -> Array:
    """Numbers in [-1, 1) that depend on name, position and salt."""
    word = np.uint64
    offset = ((zlib.crc32(name.encode()) + (salt << 32)) * 0xBF58476D1CE4E5B9) % 2**64
    z = np.arange(1, int(np.prod(shape)) + 1, dtype=word) * word(0x9E3779B97F4A7C15) + word(offset)
    z = (z ^ (z >> word(30))) * word(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> word(27))) * word(0x94D049BB133111EB)
    z ^= z >> word(31)
    return ((z >> word(40)).astype(np.float64) / 2**24 * 2 - 1).reshape(shape)


def _values(name: str, shape: tuple[int, ...], c: dict[str, float]) -> Any:
    kind = name.rsplit(".", 1)[-1]
    v = noise(name, shape, int(c["salt"]))
    first_tiny = "layer4.1.conv1.1." in name
    tiny = first_tiny or "layer4.1.conv2.1." in name
    if kind in ("base_weight", "spline_scaler"):
        return c["base" if kind == "base_weight" else "scaler"] * v * np.sqrt(3 / shape[1])
    if kind == "spline_weight":
        return c["spline"] * v
    if kind == "running_mean":
        return c["mean"] * v * (0.003 if tiny else 1)
    if kind == "running_var":
        return (1 + 0.3 * v) * c["tiny_var" if tiny else "var"]
    if len(shape) == 4:
        return c["conv"] * v * np.sqrt(3 / np.prod(shape[1:]))
    if len(shape) == 2:
        return v / np.sqrt(shape[1])
    if kind == "bias":
        return c["bias"] * v * (0.003 if first_tiny else 1)
    if first_tiny:
        return c["tiny_gain"] * v
    return np.where(np.abs(v) < 0.12, -1.0, 1.0) * (1 + 0.3 * v)


def state_dict(golden: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict that a golden JSON file describes, under the original code's names."""
    state = {}
    for name, shape, _ in golden["tensors"]:
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(100)
        elif name.endswith(".grid"):
            knots = np.arange(-3, 9, dtype=np.float32) * np.float32(0.4) + np.float32(-1)
            state[name] = torch.from_numpy(np.tile(knots, (shape[0], 1)))
        else:
            values = _values(name, tuple(shape), golden["constants"])
            state[name] = torch.from_numpy(values.astype(np.float32))
    return state


def images(count: int, size: int, salt: int) -> Tensor:
    """Pictures (count, 3, size, size) in [0, 1]: noise at four scales."""
    x = np.full((count, 3, size, size), 0.5)
    scales = (("colour", size, 0.18), ("coarse", 56, 0.14), ("fine", 8, 0.1), ("pixels", 1, 0.08))
    for name, cell, share in scales:
        v = noise(name, (count, 3, size // cell, size // cell), salt)
        x += share * v.repeat(cell, 2).repeat(cell, 3)
    return torch.from_numpy(x.astype(np.float32))
