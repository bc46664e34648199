"""The KAN layer in blocks of channels: bases, scaled weights, and their gradients.

Every sum of the layer over channels falls into blocks. Only one block's bases and scaled weights
exist at a time, in buffers that the next one reuses. ``Blocks`` works with PyTorch's operators on
any device, ``CompiledBlocks`` with loops in C on a processor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from models import kernels
from models.bspline import ChannelBases, firing_bases

# Numbers in each buffer of a block of channels. A processor's buffers should stay in its cache; a
# GPU wants few and large operations.
BLOCK_NUMBERS = {"cpu": 2**20, "other": 2**24}
FEWEST_CHANNELS = 8
# The loops in C keep 192 numbers for each knot on the stack of a thread.
MOST_COMPILED_KNOTS = 64


def block_size(rows: int, outputs: int, channels: int, knots: int, device: torch.device) -> int:
    """Channels of a block, so that all blocks are of about equal size."""
    numbers = BLOCK_NUMBERS["cpu" if device.type == "cpu" else "other"]
    size = max(numbers // (knots * (rows + outputs)), FEWEST_CHANNELS)
    return math.ceil(channels / math.ceil(channels / size))


def make_blocks(
    x: Tensor, grid: Tensor, spline_weight: Tensor, spline_scaler: Tensor, order: int
) -> Blocks:
    """Blocks of a layer at its inputs x (rows, in), by the fastest way that there is."""
    alike = x.dtype == grid.dtype == spline_weight.dtype == spline_scaler.dtype
    if not (alike and grid.shape[1] <= MOST_COMPILED_KNOTS and kernels.usable(x)):
        return Blocks(x, grid, spline_weight, spline_scaler, order)
    weights = spline_weight.contiguous(), spline_scaler.contiguous()
    return CompiledBlocks(x, grid.contiguous(), *weights, order)


class Blocks:
    """Walks through the channels of a layer, block by block.

    Args:
        x: Inputs (rows, in).
        grid: Knots (in, knots).
        spline_weight: (out, in, bases).
        spline_scaler: (out, in).
        order: Degree of the splines.

    Attributes:
        fired: The bases that are expanded; on a processor those that are not 0 at every input.
    """

    def __init__(
        self, x: Tensor, grid: Tensor, spline_weight: Tensor, spline_scaler: Tensor, order: int
    ) -> None:
        self.channels = x.shape[1]
        self.x = x.T.contiguous()
        # Asking a device which bases fire would make the host wait for it.
        host = x.device.type == "cpu" and x.numel() > 0
        self.fired = firing_bases(x, grid, order) if host else slice(0, spline_weight.shape[2])
        self.grid = grid[:, self.fired.start : self.fired.stop + order + 1]
        self.order = order
        self.weight = spline_weight
        self.scaler = spline_scaler
        outputs = len(spline_weight)
        self.size = block_size(len(x), outputs, self.channels, self.grid.shape[1], x.device)
        self._bases = self.fired.stop - self.fired.start
        self._scaled = spline_weight.new_empty(outputs * self.size * self._bases)
        self._prepare()

    def _prepare(self) -> None:
        self._expansion = ChannelBases(self.grid, self.order, self.size, self.x.shape[1])

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """The channels of each block, and their bases, (channels * bases, rows)."""
        for start in range(0, self.channels, self.size):
            channels = slice(start, min(start + self.size, self.channels))
            yield channels, self._expand(channels).flatten(0, 1)

    def _expand(self, channels: slice) -> Tensor:
        bases, self._quotients = self._expansion(self.x[channels], channels.start // self.size)
        return bases

    def scaled_weight(self, channels: slice) -> Tensor:
        """Spline weights of some channels times their scalers, (out, channels * bases)."""
        weight = self.weight[:, channels, self.fired]
        scaled = self._scaled[: weight.numel()].view(weight.shape)
        torch.mul(weight, self.scaler[:, channels].unsqueeze(-1), out=scaled)
        return scaled.flatten(1)

    def slope(self, channels: slice, of_bases: Tensor, of_x: Tensor) -> None:  # noqa: ARG002
        """Write the gradient of the current block's inputs to ``of_x`` (channels, rows).

        Args:
            channels: Of the block.
            of_bases: Gradient of the bases, (channels * bases, rows).
            of_x: Where it goes.
        """
        if self._quotients is None:
            of_x.zero_()
            return
        of_bases = of_bases.view(len(of_x), self._bases, -1)
        of_x.copy_(self._expansion.slope(self._quotients, of_bases))

    def unscale(
        self, channels: slice, of_scaled: Tensor, of_weight: Tensor | None, of_scaler: Tensor | None
    ) -> None:
        """Write the gradients of weights and scalers, each unless ``None``, of some channels.

        Args:
            channels: Of the block.
            of_scaled: Gradient of ``scaled_weight``; may be overwritten.
            of_weight: (out, in, bases).
            of_scaler: (out, in).
        """
        weight = self.weight[:, channels, self.fired]
        of_scaled = of_scaled.view(weight.shape)
        if of_weight is not None:
            part = of_weight[:, channels]
            if self._bases < part.shape[2]:
                part.zero_()
            scaler = self.scaler[:, channels].unsqueeze(-1)
            torch.mul(of_scaled, scaler, out=part[..., self.fired])
        if of_scaler is not None:
            of_scaler[:, channels] = of_scaled.mul_(weight).sum(-1)


class CompiledBlocks(Blocks):
    """The same with loops in C."""

    def _prepare(self) -> None:
        rows = self.x.shape[1]
        self._buffer = self.x.new_empty(self.size * self._bases * rows)

    def _expand(self, channels: slice) -> Tensor:
        x = self.x[channels]
        bases = self._buffer[: x.numel() * self._bases].view(len(x), self._bases, x.shape[1])
        kernels.expand_bases(x, self.grid[channels], self.order, bases)
        return bases

    def scaled_weight(self, channels: slice) -> Tensor:
        """See ``Blocks.scaled_weight``."""
        weight = self.weight[:, channels]
        size = (len(weight), weight.shape[1], self._bases)
        scaled = self._scaled[: math.prod(size)].view(size)
        kernels.scale_weight(weight, self.scaler[:, channels], self.fired, scaled)
        return scaled.flatten(1)

    def slope(self, channels: slice, of_bases: Tensor, of_x: Tensor) -> None:
        """See ``Blocks.slope``."""
        if self.order == 0:
            of_x.zero_()
            return
        kernels.slope(self.x[channels], self.grid[channels], self.order, of_bases, of_x)

    def unscale(
        self, channels: slice, of_scaled: Tensor, of_weight: Tensor | None, of_scaler: Tensor | None
    ) -> None:
        """See ``Blocks.unscale``."""
        weight = self.weight[:, channels]
        kernels.unscale_weight(
            weight,
            self.scaler[:, channels],
            of_scaled.view(len(weight), -1, self._bases),
            self.fired,
            None if of_weight is None else of_weight[:, channels],
            None if of_scaler is None else of_scaler[:, channels],
        )
