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
that ``pool_cells`` counts the regions. Shapes: B images, C channels, N = h * w cells in raster
order, R regions over the batch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from models.merging import merge_released, merge_single_linkage, on_host

VDSMVariant = Literal["released", "corrected", "nearest"]
VARIANTS: tuple[str, ...] = get_args(VDSMVariant)

_SELF_DISTANCE = 1e6  # so far that a cell never picks itself


@lru_cache(maxsize=32)
def _cached_distance(h: int, w: int, variant: str, device: torch.device) -> Tensor:
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
    return distance.fill_diagonal_(_SELF_DISTANCE).to(device)


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
    return _cached_distance(h, w, variant, torch.device("cpu")).clone()


def cell_vectors(features: Tensor) -> Tensor:
    """The feature of every cell as a row, (B, C, h, w) -> (B, N, C), at least in float32.

    Gradients reach the features. Merging and pooling both read rows, so a model makes them once.
    """
    cells = features.to(torch.promote_types(features.dtype, torch.float32)).flatten(2)
    rows = cells.transpose(1, 2)
    if rows.is_contiguous() or not on_host(features):
        return rows
    # A transposed copy takes PyTorch's CPU code several times as long as it needs. A channel
    # shuffle whose "channels" are all numbers of an image is the same permutation, done in blocks.
    batch, channels, count = cells.shape
    numbers = cells.reshape(1, batch, 1, channels * count).permute(0, 3, 1, 2)
    shuffled = F.channel_shuffle(numbers, channels)
    return shuffled.permute(0, 2, 3, 1).reshape(batch, count, channels)


def scale_channels(cells: Tensor) -> Tensor:
    """Scale each channel of cells (B, N, C) to [0, 1] over the grid."""
    low = cells.amin(dim=1, keepdim=True)
    high = cells.amax(dim=1, keepdim=True)
    return (cells - low).div_(high - low + 1e-8)


def voted_edges(affinity: Tensor, variant: str) -> tuple[Tensor, Tensor]:
    """The edge each cell votes for, as (lower cell, higher cell), both (B, N).

    Of equal affinities the lower cell counts first, save for ``released``: it keeps the order of
    ``torch.topk``, as the public code does.
    """
    if variant == "released":
        pair = affinity.topk(2, dim=2).indices
    else:
        best = affinity.argmax(dim=2, keepdim=True)
        if variant == "nearest":
            other = torch.arange(affinity.shape[1], device=affinity.device)[:, None].expand_as(best)
        else:
            other = affinity.scatter(2, best, -torch.inf).argmax(dim=2, keepdim=True)
        pair = torch.cat([best, other], dim=2)
    return pair.amin(dim=2), pair.amax(dim=2)


def edge_density(edges: Tensor, distance: Tensor) -> Tensor:
    """Sum of the votes of every edge.

    Args:
        edges: (B, N) flattened index ``lower * N + higher`` of the edge that each cell votes for.
        distance: (N, N).

    Returns:
        (B, N*N). All votes for one edge add the same number, so their order cannot matter.
    """
    batch, cells = edges.shape
    votes = (1 / (cells * distance)).flatten()[edges]
    return votes.new_zeros(batch, cells * cells).scatter_add_(1, edges, votes)


@torch.no_grad()
def cell_labels(
    cells: Tensor, grid: tuple[int, int], min_superpixels: int, variant: str = "released"
) -> Tensor:
    """Merge the cells of each feature map, given as rows, into superpixels.

    Args:
        cells: (B, N, C) from ``cell_vectors``.
        grid: Rows and columns, (h, w).
        min_superpixels: See ``superpixel_labels``.
        variant: One of ``VARIANTS``.

    Returns:
        int64 (B, h, w), see ``superpixel_labels``.

    Raises:
        ValueError: If the variant is unknown or ``min_superpixels`` is not in 1..h*w.
    """
    batch, count, _ = cells.shape
    h, w = grid
    if not 1 <= min_superpixels <= count:
        raise ValueError(
            f"min_superpixels is {min_superpixels}, but a grid of {h} x {w} cells allows only "
            f"1 to {count} superpixels."
        )
    distance = _cached_distance(h, w, variant, cells.device)
    merges = count - min_superpixels
    if merges == 0:
        return torch.arange(count, device=cells.device).view(1, h, w).repeat(batch, 1, 1)
    with torch.autocast(cells.device.type, enabled=False):
        scaled = scale_channels(cells.float())
        affinity = scaled @ scaled.transpose(1, 2) + (1 - distance)
        low, high = voted_edges(affinity, variant)
        edges = low * count + high
        density = edge_density(edges, distance)
        if variant == "released":
            labels = merge_released(density, count, merges)
        else:
            labels = merge_single_linkage(edges, density, merges)
    return labels.view(batch, h, w)


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
    grid = (features.shape[2], features.shape[3])
    return cell_labels(cell_vectors(features.detach()), grid, min_superpixels, variant)


def pad_regions(cells: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of every region of cells, padded to one row per cell, so that no shape depends on data.

    Args:
        cells: (B, N, C); gradients reach them.
        labels: int64 (B, h, w), 0..n-1 for each image.

    Returns:
        means (B, N, C), zero where an image has no such region, and sizes (B, N): the number of
        cells of each region.
    """
    flat = labels.flatten(1)
    member = flat[:, None, :] == torch.arange(flat.shape[1], device=flat.device)[:, None]
    sizes = member.sum(dim=2)
    # A product, not a scattered sum: CUDA would add in a new order every time.
    with torch.autocast(cells.device.type, enabled=False):
        means = (member.to(cells.dtype) / sizes.clamp(min=1)[:, :, None]) @ cells
    return means, sizes


def pool_cells(cells: Tensor, labels: Tensor) -> Tensor:
    """Mean of every region of cells, as many rows as there are regions: the host waits for these.

    Args:
        cells: (B, N, C); gradients reach them.
        labels: int64 (B, h, w), 0..n-1 for each image.

    Returns:
        (R, C): image after image, ascending label.
    """
    flat = labels.flatten(1)
    counts = flat.amax(dim=1) + 1
    ends = counts.cumsum(dim=0)
    region = (flat + (ends - counts)[:, None]).flatten()
    regions = int(ends[-1])
    size = cells.new_zeros(regions).index_add_(0, region, cells.new_ones(len(region)))
    sums = cells.new_zeros(regions, cells.shape[2]).index_add(0, region, cells.flatten(0, 1))
    return sums / size[:, None]


def pool_superpixels(features: Tensor, labels: Tensor) -> Tensor:
    """Mean raw feature of every region.

    Args:
        features: (B, C, h, w); gradients reach it.
        labels: int64 (B, h, w), 0..n-1 for each image.

    Returns:
        float32 (R, C): image after image, ascending label.
    """
    return pool_cells(cell_vectors(features), labels)
