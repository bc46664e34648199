"""Compiled loops for a processor, in C: what VDSM and the KAN layer spend their time on.

``kernels.c`` holds them and ``build.py`` compiles them at first use. Where ``usable`` says no (a
GPU, a graph that is compiled, no GCC) the callers do the same with PyTorch's operators.
Every tensor here is contiguous, on the CPU and of one type, float32 or float64, save for integers.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from models.kernels.build import load, reason_without

__all__ = [
    "affinity",
    "expand_bases",
    "merge_released",
    "merge_single_linkage",
    "pool_regions",
    "reason_without",
    "region_sizes",
    "scale_weight",
    "slope",
    "spread_regions",
    "unscale_weight",
    "usable",
    "vote",
]


def usable(tensor: Tensor) -> bool:
    """Whether the loops can work on a tensor, once it is contiguous."""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[no-untyped-call,attr-defined]
        and reason_without(tensor.dtype) is None
    )


def _call(name: str, dtype: torch.dtype, *arguments: Tensor | int | None) -> int:
    """Call a loop: tensors by address, numbers as 64-bit integers. What it returns, if anything.

    Raises:
        TypeError: If a tensor holds neither numbers of ``dtype`` nor int64.
    """
    for argument in arguments:
        if isinstance(argument, Tensor) and argument.dtype not in (dtype, torch.int64):
            raise TypeError(f"The loop {name} for {dtype} got a tensor of {argument.dtype}.")
    function: Any = getattr(load(dtype), name)
    result: int = function(
        *(
            ctypes.c_void_p(argument.data_ptr() if isinstance(argument, Tensor) else None)
            if argument is None or isinstance(argument, Tensor)
            else ctypes.c_int64(argument)
            for argument in arguments
        )
    )
    return result


# VDSM. Shapes: B images, C channels, N cells, R regions over the batch.


def affinity(features: Tensor, closeness: Tensor) -> Tensor:
    """Products of every two cells of features (B, C, N), plus closeness (N, N): (B, N, N).

    The features are scaled to [0, 1] over the cells, channel by channel.
    """
    batch, channels, cells = features.shape
    result = features.new_empty(batch, cells, cells)
    sizes = (batch, channels, cells, torch.get_num_threads())
    _call("affinity", features.dtype, features, closeness, result, *sizes)
    return result


def vote(
    affinity: Tensor, votes: Tensor, *, own: bool, strict: bool
) -> tuple[Tensor, Tensor] | None:
    """The edge that every cell votes for, and the density of all edges.

    Args:
        affinity: (B, N, N).
        votes: What a vote for each edge adds, (N, N).
        own: Whether a cell votes for an edge of its own, or for that between its two best.
        strict: Whether to give up where the second best is not alone.

    Returns:
        int64 (B, N), ``lower * N + higher``, and (B, N * N); ``None`` if an affinity is not a
        number, or on giving up.
    """
    batch, cells, _ = affinity.shape
    edges = affinity.new_empty(batch, cells, dtype=torch.long)
    density = affinity.new_empty(batch, cells * cells)
    arguments = (affinity, votes, own, strict, edges, density, batch, cells)
    return None if _call("vote", affinity.dtype, *arguments) else (edges, density)


def merge_released(edges: Tensor, density: Tensor, cells: int) -> Tensor:
    """See ``models.merging.merge_released``.

    Args:
        edges: int64 (B, merges), of falling density.
        density: (B, merges), theirs.
        cells: N.

    Returns:
        int64 (B, N).
    """
    batch, merges = edges.shape
    labels, work = edges.new_empty(batch, cells), edges.new_empty(merges + cells)
    _call("merge_released", density.dtype, edges, density, batch, cells, merges, labels, work)
    return labels


def merge_single_linkage(edges: Tensor, density: Tensor, merges: int) -> Tensor:
    """See ``models.merging.merge_single_linkage``; ``density`` is that of the edges, (B, N)."""
    batch, cells = edges.shape
    labels, work = edges.new_empty(batch, cells), edges.new_empty(cells)
    pairs = edges.new_empty(2 * cells)
    _call(
        "merge_single_linkage",
        density.dtype,
        *(edges, density, batch, cells, merges, labels, work, pairs),
    )
    return labels


def region_sizes(labels: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """Where the regions of each image start, and how many cells each has.

    Args:
        labels: int64 (B, N), 0..n-1 for each image.
        dtype: Type of the sizes.

    Returns:
        int64 (B + 1), whose last number is R, and (R,); ``None`` if a label is not in 0..N-1.
    """
    batch, cells = labels.shape
    starts = labels.new_empty(batch + 1)
    sizes = torch.empty(batch * cells, dtype=dtype)
    if _call("region_sizes", dtype, labels, batch, cells, starts, sizes):
        return None
    return starts, sizes[: int(starts[-1])]


def pool_regions(features: Tensor, labels: Tensor, starts: Tensor, sizes: Tensor) -> Tensor:
    """Mean of every region of features (B, C, N), (R, C); see ``region_sizes`` for the others."""
    batch, channels, cells = features.shape
    means = features.new_empty(len(sizes), channels)
    threads = torch.get_num_threads()
    arguments = (features, labels, starts, sizes, means, batch, channels, cells, threads)
    _call("pool_regions", features.dtype, *arguments)
    return means


def spread_regions(of_means: Tensor, labels: Tensor, starts: Tensor, sizes: Tensor) -> Tensor:
    """Gradient (B, C, N) of the features for that of the means, (R, C)."""
    batch, cells = labels.shape
    channels = of_means.shape[1]
    gradient = of_means.new_empty(batch, channels, cells)
    threads = torch.get_num_threads()
    arguments = (of_means, labels, starts, sizes, gradient, batch, channels, cells, threads)
    _call("spread_regions", of_means.dtype, *arguments)
    return gradient


# The KAN layer. Grids (channels, knots) and weights (out, channels[, bases]) may be slices of
# larger ones, cut along channels; grids also at either end, along knots.


def _spline_sizes(x: Tensor, grid: Tensor, order: int) -> tuple[int, ...]:
    return (*x.shape, grid.shape[1], order, torch.get_num_threads())


def expand_bases(x: Tensor, grid: Tensor, order: int, bases: Tensor) -> None:
    """Bases of x (channels, rows), written to ``bases`` (channels, bases, rows)."""
    _call("kan_bases", x.dtype, x, grid, grid.stride(0), bases, *_spline_sizes(x, grid, order))


def slope(x: Tensor, grid: Tensor, order: int, of_bases: Tensor, of_x: Tensor) -> None:
    """Gradient of x (channels, rows) for that of its bases (channels, bases, rows), to ``of_x``."""
    sizes = _spline_sizes(x, grid, order)
    _call("kan_slope", x.dtype, x, grid, grid.stride(0), of_bases, of_x, *sizes)


def scale_weight(weight: Tensor, scaler: Tensor, fired: slice, scaled: Tensor) -> None:
    """Write weight (out, channels, all bases) * scaler (out, channels) to ``scaled``.

    Args:
        weight: All bases' weights.
        scaler: Their scalers.
        fired: The bases that ``scaled`` is for.
        scaled: (out, channels, bases that fired), contiguous.
    """
    outputs, channels, bases = scaled.shape
    _call(
        "kan_scale",
        weight.dtype,
        *(weight, scaler, scaled, outputs, channels, scaler.stride(0)),
        *(fired.start, bases, weight.shape[2], torch.get_num_threads()),
    )


def unscale_weight(
    weight: Tensor,
    scaler: Tensor,
    of_scaled: Tensor,
    fired: slice,
    of_weight: Tensor | None,
    of_scaler: Tensor | None,
) -> None:
    """Gradients for that of ``scale_weight``'s product, (out, channels, bases that fired).

    Args:
        weight: (out, channels, all bases).
        scaler: (out, channels).
        of_scaled: The product's gradient, contiguous.
        fired: Which bases it is of; the other ones' weights get 0.
        of_weight: Written unless ``None``, as wide as ``weight``.
        of_scaler: Written unless ``None``.
    """
    outputs, channels, bases = of_scaled.shape
    _call(
        "kan_unscale",
        weight.dtype,
        *(weight, scaler, of_scaled, of_weight, of_scaler, outputs, channels),
        *(scaler.stride(0), fired.start, bases, weight.shape[2], torch.get_num_threads()),
    )
