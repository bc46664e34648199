"""VDSM, the Voronoi density based superpixel module: which cells of a feature map form one region.

Every cell of the map votes for the edge between two alike cells; the densest edges merge cells
into superpixels, and the mean feature of each superpixel is one local vector for the Local-NMS
loss. So a class that fills the picture does not own most of the local vectors.

Source: Liu et al., IEEE TCSVT 2025 (VoLUNet), with the Voronoi density of Wei and Chen, "Skeleton
Clustering", arXiv 2104.10770. Three variants:

* ``released``: what the authors' public code computes, quirks included.
* ``corrected``: the cell distance sees rows as well as columns, and merging is single linkage.
* ``nearest``: as ``corrected``, and each cell votes for the edge to its own best neighbour.

Everything here works on whole batches with static shapes, and nothing waits for a device, except
that ``pool_superpixels`` counts the regions. On a processor loops in C (``models.kernels``) do the
same with fewer passes over memory. Shapes: B images, C channels, N = h * w cells in raster order, R
regions over the batch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from models import kernels
from models.merging import merge_released, merge_single_linkage

VDSMVariant = Literal["released", "corrected", "nearest"]
VARIANTS: tuple[str, ...] = get_args(VDSMVariant)

# Beyond these a library's matrix product is worth more than one pass less over memory.
MOST_COMPILED_CELLS = 256
_SELF_DISTANCE = 1e6  # so far that a cell never picks itself


def position_distance(h: int, w: int, variant: str = "released") -> Tensor:
    """Distance between the cells of a grid, scaled to a maximum of 1.

    Args:
        h: Rows of the grid.
        w: Columns of the grid.
        variant: One of ``VARIANTS``. ``released`` repeats the public code's row index ``i mod h``.

    Returns:
        float32 (h*w, h*w); the diagonal holds 1e6.

    Raises:
        ValueError: For an unknown variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"Unknown VDSM variant {variant!r}; choose one of {', '.join(VARIANTS)}.")
    cell = torch.arange(h * w)
    column = cell % w
    # The released code takes i mod h for the row, which on a square grid is the column again.
    row = cell % h if variant == "released" else cell // w
    squared = (column[:, None] - column) ** 2 + (row[:, None] - row) ** 2
    distance = squared.float().sqrt()
    if h * w > 1:
        distance = distance / distance.max()
    return distance.fill_diagonal_(_SELF_DISTANCE)


def edge_votes(distance: Tensor) -> Tensor:
    """What one vote for an edge adds to its density, for distances (N, N) of cells: (N, N)."""
    return 1 / (len(distance) * distance)


def _grid(h: int, w: int, variant: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Closeness of the cells of a grid, and the votes for its edges, both (N, N)."""
    distance = position_distance(h, w, variant)
    return (1 - distance).to(device), edge_votes(distance).to(device)


_kept_grid = lru_cache(maxsize=32)(_grid)


def on_host(tensor: Tensor) -> bool:
    """Whether the host may read a tensor's numbers without waiting, and no graph is recorded."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _cells(features: Tensor) -> Tensor:
    """The features of all cells, (B, C, h, w) -> (B, C, N), at least in float32."""
    return features.to(torch.promote_types(features.dtype, torch.float32)).flatten(2)


def scale_channels(cells: Tensor) -> Tensor:
    """Scale each channel of cells (B, C, N) to [0, 1] over the grid."""
    low = cells.amin(dim=2, keepdim=True)
    high = cells.amax(dim=2, keepdim=True)
    return (cells - low).div_(high - low + 1e-8)


@torch.no_grad()
def cell_affinity(cells: Tensor, closeness: Tensor) -> Tensor:
    """How alike every two cells are.

    Args:
        cells: (B, C, N).
        closeness: Their closeness on the grid, (N, N).

    Returns:
        (B, N, N): products of the cells, scaled channel by channel, plus closeness; no gradient.
    """
    if cells.shape[2] <= MOST_COMPILED_CELLS and kernels.usable(cells):
        return kernels.affinity(cells.contiguous(), closeness.to(cells).contiguous())
    scaled = scale_channels(cells)
    return scaled.transpose(1, 2) @ scaled + closeness


def voted_edges(affinity: Tensor, variant: str) -> tuple[Tensor, Tensor]:
    """The edge each cell votes for, as (lower cell, higher cell), both (B, N).

    Of equal affinities the lower cell counts first, save for ``released``: it keeps the order of
    ``torch.topk``, as the public code does.
    """
    if variant == "released":
        first, second = affinity.topk(2, dim=2).indices.unbind(dim=2)
    else:
        first = affinity.argmax(dim=2)
        if variant == "nearest":
            second = torch.arange(affinity.shape[1], device=affinity.device).expand_as(first)
        else:
            second = affinity.scatter(2, first.unsqueeze(2), -torch.inf).argmax(dim=2)
    return torch.minimum(first, second), torch.maximum(first, second)


def edge_density(edges: Tensor, votes: Tensor) -> Tensor:
    """Sum of the votes of every edge.

    Args:
        edges: (B, N) flattened index ``lower * N + higher`` of the edge that each cell votes for.
        votes: What a vote for each edge adds, (N, N).

    Returns:
        (B, N*N). All votes for one edge add the same number, so their order cannot matter.
    """
    density = votes.new_zeros(len(edges), votes.numel())
    return density.scatter_add_(1, edges, votes.flatten()[edges])


def cast_votes(affinity: Tensor, votes: Tensor, variant: str) -> tuple[Tensor, Tensor]:
    """The edge each cell votes for, as a flattened index (B, N), and the density (B, N*N)."""
    if kernels.usable(affinity):
        result = kernels.vote(
            affinity.contiguous(),
            votes.to(affinity).contiguous(),
            own=variant == "nearest",
            strict=variant == "released",
        )
        if result is not None:
            return result
    low, high = voted_edges(affinity, variant)
    edges = low * affinity.shape[1] + high
    return edges, edge_density(edges, votes)


@torch.no_grad()
def superpixel_labels(features: Tensor, min_superpixels: int, variant: str = "released") -> Tensor:
    """Merge the cells of each feature map into superpixels.

    Computed in float32 outside autocast, so half-precision features never turn into NaN.

    Args:
        features: (B, C, h, w).
        min_superpixels: The ``h*w - min_superpixels`` densest edges merge; so ``corrected`` and
            ``nearest`` leave at least this many regions, ``released`` usually far more.
        variant: One of ``VARIANTS``.

    Returns:
        int64 (B, h, w): labels 0..n-1 of each image, without gaps, and without gradient.
        ``released`` numbers them as the public code lists its region vectors, the others by first
        appearance in raster order.

    Raises:
        ValueError: If the variant is unknown or ``min_superpixels`` is not in 1..h*w.
    """
    batch, _, h, w = features.shape
    count = h * w
    if not 1 <= min_superpixels <= count:
        raise ValueError(
            f"min_superpixels is {min_superpixels}, but a grid of {h} x {w} cells allows only "
            f"1 to {count} superpixels."
        )
    # A graph that is recorded has tensors of its own, of no use to anybody else.
    grid = _grid if torch.compiler.is_compiling() else _kept_grid
    closeness, votes = grid(h, w, variant, features.device)
    merges = count - min_superpixels
    if merges == 0:
        return torch.arange(count, device=features.device).view(1, h, w).repeat(batch, 1, 1)
    with torch.autocast(features.device.type, enabled=False):
        affinity = cell_affinity(_cells(features.detach()).float(), closeness)
        edges, density = cast_votes(affinity, votes, variant)
        if variant == "released":
            labels = merge_released(density, count, merges)
        else:
            labels = merge_single_linkage(edges, density, merges)
    return labels.view(batch, h, w)


def pad_regions(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of every region, padded to one row per cell, so that no shape depends on data.

    Args:
        features: (B, C, h, w); gradients reach it.
        labels: int64 (B, h, w), 0..n-1 for each image.

    Returns:
        means float32 (B, N, C), zero where an image has no such region, and sizes (B, N): the
        number of cells of each region.
    """
    cells = _cells(features)
    flat = labels.flatten(1)
    member = flat[:, None, :] == torch.arange(flat.shape[1], device=flat.device)[:, None]
    sizes = member.sum(dim=2)
    # A product, not a scattered sum: CUDA would add in a new order every time.
    with torch.autocast(cells.device.type, enabled=False):
        means = (member.to(cells.dtype) / sizes.clamp(min=1)[:, :, None]) @ cells.transpose(1, 2)
    return means, sizes


class _RegionMeans(torch.autograd.Function):
    """Means (R, C) of the regions of cells (B, C, N), by the loops in C; first derivatives only."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, labels: Tensor, starts: Tensor, sizes: Tensor) -> Tensor:
        ctx.save_for_backward(labels, starts, sizes)
        return kernels.pool_regions(cells, labels, starts, sizes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_means: Tensor) -> tuple[Tensor, None, None, None]:
        of_cells = kernels.spread_regions(of_means.contiguous(), *ctx.saved_tensors)
        return of_cells, None, None, None


def pool_superpixels(features: Tensor, labels: Tensor) -> Tensor:
    """Mean raw feature of every region: as many rows as there are, for which the host waits.

    Args:
        features: (B, C, h, w); gradients reach it.
        labels: Integers (B, h, w), 0..n-1 for each image.

    Returns:
        float32 (R, C): image after image, ascending label.

    Raises:
        ValueError: If labels are not of the features' size, or not in 0..h*w-1.
    """
    cells, flat = _cells(features), labels.flatten(1).long()
    if flat.shape != (cells.shape[0], cells.shape[2]) or labels.is_floating_point():
        raise ValueError(
            f"Labels of {labels.dtype}, {tuple(labels.shape)}, do not fit features of "
            f"{tuple(features.shape)}."
        )
    if kernels.usable(cells):
        flat = flat.contiguous()
        found = kernels.region_sizes(flat, cells.dtype)
        if found is not None:  # else the labels are refused below
            means: Tensor = _RegionMeans.apply(cells.contiguous(), flat, *found)
            return means
    if flat.numel() and not 0 <= flat.amin() <= flat.amax() < flat.shape[1]:
        raise ValueError(f"A label of {flat.shape[1]} cells is not in 0..{flat.shape[1] - 1}.")
    counts = flat.amax(dim=1) + 1
    ends = counts.cumsum(dim=0)
    region = (flat + (ends - counts)[:, None]).flatten()
    regions = int(ends[-1])
    rows = cells.transpose(1, 2).flatten(0, 1)
    size = rows.new_zeros(regions).index_add_(0, region, rows.new_ones(len(region)))
    sums = rows.new_zeros(regions, rows.shape[1]).index_add(0, region, rows)
    return sums / size[:, None]
