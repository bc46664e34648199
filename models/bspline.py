"""B-spline bases: the recursion of Cox and de Boor, and the form of it that the KAN layer runs.

On knots t_0 < t_1 < ..., the basis of degree p that starts at t_j is

    B_{0,j}(x) = 1 on [t_j, t_{j+1}) and 0 elsewhere,
    B_{p,j}(x) = (x - t_j) / (t_{j+p} - t_j) * B_{p-1,j}(x)
               + (t_{j+p+1} - x) / (t_{j+p+1} - t_{j+1}) * B_{p-1,j+1}(x),

and its derivative is

    B'_{p,j}(x) = p * (B_{p-1,j}(x) / (t_{j+p} - t_j) - B_{p-1,j+1}(x) / (t_{j+p+1} - t_{j+1})).

The quotients S_{p,j} = B_{p-1,j} / (t_{j+p} - t_j) occur in both, and each in two neighbours:

    B_{p,j} = (x - t_j) * S_{p,j} - (x - t_{j+p+1}) * S_{p,j+1},
    B'_{p,j} = p * (S_{p,j} - S_{p,j+1}).
"""

from __future__ import annotations

import torch
from torch import Tensor


def bspline_basis(x: Tensor, grid: Tensor, spline_order: int) -> Tensor:
    """B-spline bases of every input, by the recursion of Cox and de Boor.

    Args:
        x: (rows, in).
        grid: (in, knots), ascending; knot intervals are half-open, [left, right).
        spline_order: Degree of the pieces, 3 for cubic splines.

    Returns:
        (rows, in, knots - spline_order - 1); all zero for x outside the knots.
    """
    x = x.unsqueeze(-1)
    left, right = grid[:, :-1], grid[:, 1:]
    basis = ((x >= left) & (x < right)).to(x.dtype)
    for degree in range(1, spline_order + 1):
        count = grid.shape[1] - degree - 1
        start, end = grid[:, :count], grid[:, degree + 1 :]
        rising = (x - start) / (grid[:, degree : degree + count] - start)
        falling = (end - x) / (end - grid[:, 1 : 1 + count])
        basis = rising * basis[..., :-1] + falling * basis[..., 1:]
    return basis


def firing_bases(x: Tensor, grid: Tensor, spline_order: int) -> slice:
    """Which bases can be other than 0 at some input; at least one, and all if one is not finite.

    The features that a ReLU leaves are never below 0, and two of the default grid's eight bases
    end before it.

    Args:
        x: Of any shape; the host waits for it.
        grid: (in, knots), ascending.
        spline_order: Degree.
    """
    bases = grid.shape[1] - spline_order - 1
    low, high = x.aminmax()
    if not (low - high).isfinite():
        return slice(0, bases)
    passed = int((grid.amax(dim=0) <= low).sum())  # knots that no input is below
    reached = grid.shape[1] - int((grid.amin(dim=0) > high).sum())
    first = min(max(passed - spline_order - 1, 0), bases - 1)
    return slice(first, max(min(reached, bases), first + 1))


class ChannelBases:
    """Bases and slopes of some channels at a time, in buffers that the next channels reuse.

    Channels come first and rows last, so that every step of the recursion is a few operations on
    whole planes (channels x rows), and the result is a matrix as the KAN layer's product needs it.

    Args:
        grid: (in, knots), of all channels.
        spline_order: Degree.
        channels: At most so many at a time.
        rows: Inputs of each channel.
    """

    def __init__(self, grid: Tensor, spline_order: int, channels: int, rows: int) -> None:
        knots = grid.shape[1]
        self.order = spline_order
        self.count = knots - spline_order - 1
        planes = grid.T.unsqueeze(-1)
        self._knots = torch.split(planes, channels, dim=1)
        # [p][block][j] is 1 / (t_{j+p} - t_j), so that degree p multiplies and never divides.
        self._reciprocals = [
            torch.split((planes[degree:] - planes[: knots - degree]).reciprocal(), channels, dim=1)
            for degree in range(spline_order + 1)
        ]
        # One allocation each; the last block may be smaller than the others.
        self._buffers = [
            grid.new_empty(size, channels, rows) for size in (knots, knots - 1, knots - 1)
        ]
        self._bases = grid.new_empty(channels, self.count, rows)

    def __call__(self, x: Tensor, block: int) -> tuple[Tensor, Tensor | None]:
        """Expand the channels of a block.

        Args:
            x: (channels, rows), contiguous.
            block: Its number.

        Returns:
            Bases (channels, bases, rows), and the quotients S of the highest degree,
            (bases + 1, channels, rows), for ``slope``; ``None`` for degree 0. Both are buffers that
            the next call overwrites.
        """
        if len(x) < len(self._bases):
            self._buffers = [buffer[:, : len(x)] for buffer in self._buffers]
            self._bases = self._bases[: len(x)]
        offsets, *buffers = self._buffers
        bases = self._bases
        torch.sub(x, self._knots[block], out=offsets)
        planes = bases.transpose(0, 1)  # one for each basis
        if self.order == 0:
            planes.copy_((offsets[:-1] >= 0) & (offsets[1:] < 0))
            return bases, None
        if self.order == 1:
            quotients = buffers[0].copy_((offsets[:-1] >= 0) & (offsets[1:] < 0))
            first = 1
        else:
            # Degree 1 has no jumps, so it needs no comparisons: with the position within interval
            # j clamped to 0..1, c_j, the hat over intervals j and j + 1 is c_j - c_{j+1}.
            positions = torch.mul(offsets[:-1], self._reciprocals[1][block], out=buffers[1])
            positions.clamp_(0, 1)
            quotients = torch.sub(positions[:-1], positions[1:], out=buffers[0][:-1])
            first = 2
        for degree in range(first, self.order + 1):
            quotients.mul_(self._reciprocals[degree][block])
            count = len(quotients) - 1
            last = degree == self.order
            basis = planes if last else buffers[1][:count]
            torch.mul(offsets[:count], quotients[:-1], out=basis)
            basis.addcmul_(offsets[degree + 1 :], quotients[1:], value=-1)
            if not last:
                quotients = basis
                buffers.reverse()
        return bases, quotients

    def slope(self, quotients: Tensor, gradient: Tensor) -> Tensor:
        """Gradient of the inputs, (channels, rows), for that of the bases.

        Args:
            quotients: From the call that gave the bases; overwritten.
            gradient: (channels, bases, rows).
        """
        count = self.count
        other = self._buffers[0][:count]
        torch.sub(quotients[:-1], quotients[1:], out=other)
        other.mul_(gradient.transpose(0, 1))
        return other.sum(0).mul_(self.order)
