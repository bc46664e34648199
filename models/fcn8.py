"""FCN8-VGG16 (Long, Shelhamer and Darrell, CVPR 2015), as the released code of LCFCN has it.

LCFCN: Laradji et al., "Where are the Blobs: Counting by Localization with Point Supervision"
(ECCV 2018). The names in the state dict are those of its released checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Widths of the 3x3 convolutions of VGG16, stage by stage.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# The hidden layers, from the image to the scores: VGG16 has a counterpart for each of them.
HIDDEN = (
    *(f"conv{s}_{n}" for s, widths in enumerate(STAGES, 1) for n in range(1, len(widths) + 1)),
    *("fc6", "fc7"),
)


class _Conv2d(nn.Conv2d):
    """A convolution without initial values: drawing 134 million numbers twice takes seconds."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


def bilinear_kernel(channels: int, size: int) -> Tensor:
    """Return the weight of a transposed convolution that enlarges each channel bilinearly.

    Returns:
        (channels, channels, size, size), zero off the diagonal of the first two axes.
    """
    factor = (size + 1) // 2
    center = factor - 0.5 if size % 2 == 0 else factor - 1
    ramp = 1 - (torch.arange(size) - center).abs() / factor
    return torch.eye(channels)[:, :, None, None] * ramp[:, None] * ramp


class FCN8VGG16(nn.Module):
    """FCN8 on VGG16: images (B, 3, H, W) -> logits (B, num_outputs, H, W), any H and W.

    The first convolution pads by 100 pixels, so that the 7x7 of ``fc6`` fits every image. The
    first logits are exactly 0.

    Args:
        num_outputs: Channels of the logits.
        initialize: Draw the weights of the hidden layers; otherwise they are undefined until
            ``initialize`` or a state dict sets them.

    Raises:
        ValueError: If there is no output.
    """

    architecture = "network"
    settings: dict[str, Any]  # arguments of ``create_network`` that build the same, as plain data

    def __init__(self, num_outputs: int, initialize: bool = True) -> None:
        super().__init__()
        if num_outputs < 1:
            raise ValueError(f"A network needs at least one output, not {num_outputs}.")
        self.settings = {}
        channels = 3
        for stage, widths in enumerate(STAGES, 1):
            for number, width in enumerate(widths, 1):
                padding = 100 if channels == 3 else 1
                layer = _Conv2d(channels, width, kernel_size=3, padding=padding)
                self.add_module(f"conv{stage}_{number}", layer)
                channels = width
        self.fc6 = _Conv2d(512, 4096, kernel_size=7)
        self.fc7 = _Conv2d(4096, 4096, kernel_size=1)
        self.scoring_layer = nn.Conv2d(4096, num_outputs, kernel_size=1)
        self.upscore2 = _upscore(num_outputs, size=4, stride=2)
        self.upscore_pool4 = _upscore(num_outputs, size=4, stride=2)
        self.upscore8 = _upscore(num_outputs, size=16, stride=8)
        self.score_pool3 = nn.Conv2d(256, num_outputs, kernel_size=1)
        self.score_pool4 = nn.Conv2d(512, num_outputs, kernel_size=1)
        for score in (self.scoring_layer, self.score_pool3, self.score_pool4):
            nn.init.zeros_(score.weight)
            if score.bias is not None:
                nn.init.zeros_(score.bias)
        if initialize:
            self.initialize(HIDDEN)

    @torch.no_grad()
    def initialize(self, layers: Iterable[str]) -> None:
        """Draw the weights of hidden layers anew: normal (He et al., fan out), biases 0."""
        for name in layers:
            layer = self.get_submodule(name)
            assert isinstance(layer, _Conv2d) and layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Score every pixel: images (B, 3, H, W) -> logits (B, num_outputs, H, W)."""
        height, width = images.shape[2:]
        # VGG16, with the maps after its third and fourth stage kept
        x, pooled = images, []
        for stage, widths in enumerate(STAGES, 1):
            for number in range(1, len(widths) + 1):
                x = F.relu(self.get_submodule(f"conv{stage}_{number}")(x))
            x = F.max_pool2d(x, kernel_size=2, stride=2, ceil_mode=True)
            pooled.append(x)
        x = F.dropout(F.relu(self.fc6(x)), 0.5, self.training)
        x = F.dropout(F.relu(self.fc7(x)), 0.5, self.training)
        # Scores, enlarged in three steps; the offsets undo the padding of the first convolution
        scores = self.upscore2(self.scoring_layer(x))
        scores = scores + _crop(self.score_pool4(pooled[3]), 5, *scores.shape[2:])
        scores = self.upscore_pool4(scores)
        scores = scores + _crop(self.score_pool3(pooled[2]), 9, *scores.shape[2:])
        return _crop(self.upscore8(scores), 31, height, width).contiguous()


def _upscore(channels: int, size: int, stride: int) -> nn.ConvTranspose2d:
    """Build an enlargement that starts as a bilinear one and is trained."""
    layer = nn.ConvTranspose2d(channels, channels, size, stride=stride, bias=False)
    with torch.no_grad():
        layer.weight.copy_(bilinear_kernel(channels, size))
    return layer


def _crop(maps: Tensor, start: int, height: int, width: int) -> Tensor:
    return maps[:, :, start : start + height, start : start + width]
