"""TResNet-M as published: names, shapes and arithmetic of the official weights, step by step.

Written from the description of the network (Ridnik et al., WACV 2021) and the layout of its files:
a convolution is number 0 of a pair and its in-place ABN number 1; a strided pair is followed by a
blur and sits one level deeper; the pair of a shortcut stands behind its average pooling.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]

STAGES = ((3, 64, False), (4, 128, False), (11, 256, True), (3, 512, True))  # blocks, width, deep


def official_state(num_classes: int, generator: torch.Generator) -> State:
    """Random tensors under the names of the official files; weights of ABN have either sign."""
    state: State = {}

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) * (high - low) + low

    def pair(name: str, inputs: int, outputs: int, side: int) -> None:
        bound = (3 / (inputs * side * side)) ** 0.5
        state[f"{name}.0.weight"] = uniform(-bound, bound, outputs, inputs, side, side)
        sign = uniform(-1, 1, outputs).sign()
        state[f"{name}.1.weight"] = uniform(0.5, 1.0, outputs) * sign
        state[f"{name}.1.bias"] = uniform(-0.2, 0.2, outputs)
        state[f"{name}.1.running_mean"] = uniform(-0.2, 0.2, outputs)
        state[f"{name}.1.running_var"] = uniform(0.5, 1.5, outputs)
        state[f"{name}.1.num_batches_tracked"] = torch.tensor(7)

    def gate(name: str, channels: int, hidden: int) -> None:
        for part, inputs, outputs in (("fc1", channels, hidden), ("fc2", hidden, channels)):
            state[f"{name}.{part}.weight"] = uniform(-0.2, 0.2, outputs, inputs, 1, 1)
            state[f"{name}.{part}.bias"] = uniform(-0.2, 0.2, outputs)

    pair("body.conv1", 48, 64, 3)
    channels = 64
    for stage, (blocks, width, deep) in enumerate(STAGES, start=1):
        wide = 4 * width if deep else width
        for block in range(blocks):
            name = f"body.layer{stage}.{block}"
            nested = ".0" if stage > 1 and block == 0 else ""
            if deep:
                pair(f"{name}.conv1", channels, width, 1)
                pair(f"{name}.conv2{nested}", width, width, 3)
                pair(f"{name}.conv3", width, wide, 1)
            else:
                pair(f"{name}.conv1{nested}", channels, width, 3)
                pair(f"{name}.conv2", width, width, 3)
            if stage < 4:
                gate(f"{name}.se", width, max(wide // (8 if deep else 4), 64))
            if nested:
                pair(f"{name}.downsample.1", channels, wide, 1)
            channels = wide
    # Real shape, one number: the classifier is not what is tested.
    state["head.fc.weight"] = torch.zeros(1, 1).expand(num_classes, channels)
    state["head.fc.bias"] = torch.zeros(1).expand(num_classes)
    return state


def _blur(x: Tensor) -> Tensor:
    """Every second cell of the map averaged by 1-2-1 in both directions."""
    row = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (row[:, None] * row).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def _pair(state: State, name: str, x: Tensor, slope: float) -> Tensor:
    nested = f"{name}.0.0.weight" in state
    inner = f"{name}.0" if nested else name
    kernel = state[f"{inner}.0.weight"]
    x = F.conv2d(x, kernel, padding=kernel.shape[2] // 2)
    abn = {
        part: state[f"{inner}.1.{part}"][:, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    }
    x = (x - abn["running_mean"]) / (abn["running_var"] + 1e-5).sqrt()
    x = x * (abn["weight"].abs() + 1e-5) + abn["bias"]
    x = torch.where(x < 0, slope * x, x)
    return _blur(x) if nested else x


def _gated(state: State, name: str, x: Tensor) -> Tensor:
    if f"{name}.fc1.weight" not in state:
        return x
    pooled = x.mean(dim=(2, 3), keepdim=True)
    hidden = F.conv2d(pooled, state[f"{name}.fc1.weight"], state[f"{name}.fc1.bias"]).relu()
    return x * F.conv2d(hidden, state[f"{name}.fc2.weight"], state[f"{name}.fc2.bias"]).sigmoid()


def features(state: State, images: Tensor) -> Tensor:
    """The feature map before pooling, (B, 2048, H/32, W/32) for images (B, 3, H, W)."""
    x = torch.cat([images[:, :, i::4, j::4] for i in range(4) for j in range(4)], dim=1)
    x = _pair(state, "body.conv1", x, 1e-2)
    for stage, (blocks, _, deep) in enumerate(STAGES, start=1):
        for block in range(blocks):
            name = f"body.layer{stage}.{block}"
            shortcut = x
            if f"{name}.downsample.1.0.weight" in state:
                pooled = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
                shortcut = _pair(state, f"{name}.downsample.1", pooled, 1)
            x = _pair(state, f"{name}.conv1", x, 1e-3)
            if deep:
                x = _pair(state, f"{name}.conv2", x, 1e-3)
                x = _pair(state, f"{name}.conv3", _gated(state, f"{name}.se", x), 1)
            else:
                x = _gated(state, f"{name}.se", _pair(state, f"{name}.conv2", x, 1))
            x = (x + shortcut).relu()
    return x
