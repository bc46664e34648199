"""VDSM, the Voronoi density based superpixel module: which cells of a feature map form one region.

Every cell of the map votes for the edge between two alike cells; the densest edges merge cells
into superpixels, and the mean feature of each superpixel is one local vector for the Local-NMS
loss. So a class that fills the picture does not own most of the local vectors.

Source: Liu et al., IEEE TCSVT 2025 (VoLUNet), with the Voronoi density of Wei and Chen, "Skeleton
Clustering", arXiv 2104.10770. Three variants:

* ``released``: what the authors' public code computes, quirks included.
* ``corrected``: the cell distance sees rows as well as columns, and merging is single linkage.
* ``nearest``: as ``corrected``, and each cell votes for the edge to its own best neighbour.

Everything here works on whole batches; the only loop runs over the ranks of the released merge
order, which is sequential by definition. Shapes: B images, C channels, N = h * w cells in raster
order, R regions over the batch.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, log2
from typing import Literal, get_args

import torch
from torch import Tensor

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


def scale_channels(features: Tensor) -> Tensor:
    """Scale each channel to [0, 1] over its grid: (B, C, h, w) -> (B, N, C)."""
    cells = features.flatten(2)
    low = cells.amin(dim=2, keepdim=True)
    high = cells.amax(dim=2, keepdim=True)
    return ((cells - low) / (high - low + 1e-8)).transpose(1, 2)


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


def _transitive_closure(reach: Tensor) -> Tensor:
    """Reflexive transitive closure of a relation, bool (B, n, n), by repeated squaring."""
    size = reach.shape[1]
    closed = (reach | torch.eye(size, dtype=torch.bool, device=reach.device)).float()
    for _ in range(ceil(log2(max(size, 2)))):
        closed = (closed @ closed).clamp_(max=1)
    return closed > 0


def _rank_labels(key: Tensor, size: int) -> Tensor:
    """Replace keys in [0, size) by their rank among the keys of the same image, (B, N)."""
    present = torch.zeros(key.shape[0], size, dtype=torch.long, device=key.device)
    present.scatter_(1, key, 1)
    return (present.cumsum(dim=1) - 1).gather(1, key)


def _merge_single_linkage(edges: Tensor, density: Tensor, merges: int) -> Tensor:
    """Join the cells of the ``merges`` densest edges; of equal densities the lower index first.

    Returns:
        int64 (B, N), regions numbered by first appearance in raster order.
    """
    batch, cells = edges.shape
    own = density.gather(1, edges)
    before = torch.ones(cells, cells, dtype=torch.bool, device=edges.device).tril(-1)
    same = edges[:, :, None] == edges[:, None, :]
    repeated = (same & before).any(dim=2)
    # Entry [b, i, j]: edge j outranks edge i. Duplicates of an edge count once.
    outranks = (own[:, None, :] > own[:, :, None]) | (
        (own[:, None, :] == own[:, :, None]) & (edges[:, None, :] < edges[:, :, None])
    )
    rank = (outranks & ~repeated[:, None, :]).sum(dim=2)
    # Self loops instead of the edges that are not selected.
    own_cell = torch.arange(cells, device=edges.device)
    chosen = rank < merges
    low = torch.where(chosen, edges // cells, own_cell)
    high = torch.where(chosen, edges % cells, own_cell)
    joined = torch.zeros(batch, cells * cells, dtype=torch.bool, device=edges.device)
    joined = joined.scatter_(1, low * cells + high, True).view(batch, cells, cells)
    connected = _transitive_closure(joined | joined.transpose(1, 2))
    root = torch.where(connected, own_cell, cells).amin(dim=2)
    return _rank_labels(root, cells)


def _merge_released(density: Tensor, cells: int, merges: int) -> Tensor:
    """The public code's labelling along the edges in the order of ``torch.topk``.

    For an edge (lo, hi) whose cells are both unlabelled, only lo gets a new label: the edge is
    "idle". Where one is labelled the other copies it, where both are, hi's label turns into lo's:
    the edge is "active". An edge is active if an earlier one labelled lo or hi, so the active edges
    follow from a transitive closure, and with them the direction in which each passes its label on.

    Returns:
        int64 (B, N), regions in the order of the labels that survive in the public code.
    """
    top = density.topk(merges, dim=1)
    valid = top.values > 0
    low, high = top.indices // cells, top.indices % cells
    batch, device = density.shape[0], density.device

    # Entry [b, t, s] relates edge t to the earlier edge s.
    earlier = torch.ones(merges, merges, dtype=torch.bool, device=device).tril(-1)
    earlier = earlier & valid[:, :, None] & valid[:, None, :]
    low_is_low = (low[:, :, None] == low[:, None, :]) & earlier
    low_is_high = (low[:, :, None] == high[:, None, :]) & earlier
    high_is_low = (high[:, :, None] == low[:, None, :]) & earlier
    high_is_high = (high[:, :, None] == high[:, None, :]) & earlier

    # Whatever happens at edge s, its lower cell is labelled from then on; its higher cell only if
    # s is active.
    surely = (low_is_low | high_is_low).any(dim=2)
    activated_by = _transitive_closure(low_is_high | high_is_high)
    active = (activated_by & surely[:, None, :]).any(dim=2)
    low_is_labelled = (low_is_low | (low_is_high & active[:, None, :])).any(dim=2)

    source = torch.where(low_is_labelled, low, high)
    target = torch.where(active, torch.where(low_is_labelled, high, low), source)
    label = torch.arange(cells, device=device).repeat(batch, 1)
    for rank in range(merges):
        passed_on = label.gather(1, source[:, rank : rank + 1])
        replaced = label.gather(1, target[:, rank : rank + 1])
        label = torch.where(label == replaced, passed_on, label)

    # New labels count up with the idle edges, untouched cells follow in raster order.
    order = torch.arange(merges, merges + cells + 1, device=device).repeat(batch, 1)
    idle_cell = torch.where(valid & ~active, low, cells)  # column `cells` takes what is not idle
    order = order.scatter_(1, idle_cell, torch.arange(merges, device=device).expand(batch, merges))
    return _rank_labels(order.gather(1, label), merges + cells)


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
        int64 (B, h, w): labels 0..n-1 of each image, without gaps. ``released`` numbers them as the
        public code lists its region vectors, the others by first appearance in raster order.

    Raises:
        ValueError: If the variant is unknown or ``min_superpixels`` is not in 1..h*w.
    """
    batch, _, h, w = features.shape
    cells = h * w
    if not 1 <= min_superpixels <= cells:
        raise ValueError(
            f"min_superpixels is {min_superpixels}, but a grid of {h} x {w} cells allows only "
            f"1 to {cells} superpixels."
        )
    distance = _cached_distance(h, w, variant, features.device)
    merges = cells - min_superpixels
    if merges == 0:
        return torch.arange(cells, device=features.device).view(1, h, w).repeat(batch, 1, 1)
    with torch.autocast(features.device.type, enabled=False):
        scaled = scale_channels(features.float())
        affinity = scaled @ scaled.transpose(1, 2) + (1 - distance)
        low, high = voted_edges(affinity, variant)
        edges = low * cells + high
        density = edge_density(edges, distance)
        if variant == "released":
            labels = _merge_released(density, cells, merges)
        else:
            labels = _merge_single_linkage(edges, density, merges)
    return labels.view(batch, h, w)


def region_means(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean raw feature of every region, padded to one row per cell.

    Args:
        features: (B, C, h, w); gradients reach it.
        labels: int64 (B, h, w), 0..n-1 for each image.

    Returns:
        means float32 (B, N, C), zero where an image has no such region, and sizes (B, N): the
        number of cells of each region.
    """
    flat = labels.flatten(1)
    cells = flat.shape[1]
    member = flat[:, None, :] == torch.arange(cells, device=flat.device)[:, None]
    sizes = member.sum(dim=2)
    with torch.autocast(features.device.type, enabled=False):
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        weights = member.to(features.dtype) / sizes.clamp(min=1)[:, :, None]
        means = weights @ features.flatten(2).transpose(1, 2)
    return means, sizes


def pool_superpixels(features: Tensor, labels: Tensor) -> Tensor:
    """Mean raw feature of every region.

    Args:
        features: (B, C, h, w); gradients reach it.
        labels: int64 (B, h, w), 0..n-1 for each image.

    Returns:
        float32 (R, C): image after image, ascending label.
    """
    means, sizes = region_means(features, labels)
    return means[sizes > 0]
