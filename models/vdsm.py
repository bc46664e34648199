"""VDSM, the Voronoi density based superpixel module: which cells of a feature map form one region.

Every cell of the map votes for the edge between two similar cells; the densest edges merge cells
into superpixels, and the mean feature of each superpixel is one local vector for the Local-NMS
loss. So a class that fills the image does not own most of the local vectors.

Source: Liu et al., IEEE TCSVT 2025 (VoLUNet), with the Voronoi density of Wei and Chen, "Skeleton
Clustering", arXiv 2104.10770. Three variants:

* ``released``: what the authors' public code computes, quirks included.
* ``corrected``: the cell distance sees rows as well as columns, and merging is single linkage.
* ``nearest``: as ``corrected``, and each cell votes for the edge to its own best neighbor.

Everything works on batches with static shapes, and nothing waits for a device, except that
``pool_superpixels`` counts the regions. Shapes: B images, C channels, N = h * w cells in raster
order, R regions over the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.merging import merge_released, merge_single_linkage

VARIANTS = ("released", "corrected", "nearest")
_SELF_DISTANCE = 1e6  # so far that a cell never picks itself


def position_distance(
    h: int, w: int, variant: str = "released", device: torch.device | None = None
) -> Tensor:
    """Compute the distance between the cells of a grid, scaled to a maximum of 1.

    Args:
        h: Rows of the grid.
        w: Columns of the grid.
        variant: One of ``VARIANTS``. ``released`` repeats the public code's row index ``i mod h``.
        device: Where the result lies; the CPU if left out.

    Returns:
        float32 (h*w, h*w); the diagonal holds 1e6.

    Raises:
        ValueError: For an unknown variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"Unknown VDSM variant {variant!r}; choose one of {', '.join(VARIANTS)}.")
    cell = torch.arange(h * w, device=device)
    column = cell % w
    # The released code takes i mod h for the row, which on a square grid is the column again.
    row = cell % h if variant == "released" else cell // w
    squared = (column[:, None] - column) ** 2 + (row[:, None] - row) ** 2
    distance = squared.float().sqrt()
    if h * w > 1:
        distance = distance / distance.max()
    return distance.fill_diagonal_(_SELF_DISTANCE)


def edge_votes(distance: Tensor) -> Tensor:
    """Compute what one vote for an edge adds to its density: distances (N, N) -> (N, N)."""
    return 1 / (len(distance) * distance)


def _cells(features: Tensor) -> Tensor:
    """Flatten the grid, at least in float32: (B, C, h, w) -> (B, C, N)."""
    return features.to(torch.promote_types(features.dtype, torch.float32)).flatten(2)


@torch.no_grad()
def cell_affinity(cells: Tensor, closeness: Tensor) -> Tensor:
    """Compute how similar every two cells are.

    Args:
        cells: (B, C, N).
        closeness: Of the cells on the grid, (N, N).

    Returns:
        (B, N, N): products of the cells, each channel scaled to [0, 1], plus closeness; no
        gradient.
    """
    low = cells.amin(dim=2, keepdim=True)
    high = cells.amax(dim=2, keepdim=True)
    scaled = (cells - low).div_(high - low + 1e-8)
    return scaled.transpose(1, 2) @ scaled + closeness


def voted_edges(affinity: Tensor, variant: str) -> tuple[Tensor, Tensor]:
    """Choose the edge that each cell votes for, as (lower cell, higher cell), both (B, N).

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
    """Sum the votes of every edge.

    Args:
        edges: (B, N) flattened index ``lower * N + higher`` of the edge that each cell votes for.
        votes: What a vote for each edge adds, (N, N).

    Returns:
        (B, N*N). All votes for one edge add the same number, so their order cannot matter.
    """
    density = votes.new_zeros(len(edges), votes.numel())
    return density.scatter_add_(1, edges, votes.flatten()[edges])


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
    distance = position_distance(h, w, variant, features.device)
    merges = count - min_superpixels
    if merges == 0:
        return torch.arange(count, device=features.device).view(1, h, w).repeat(batch, 1, 1)
    with torch.autocast(features.device.type, enabled=False):
        affinity = cell_affinity(_cells(features.detach()).float(), 1 - distance)
        low, high = voted_edges(affinity, variant)
        edges = low * count + high
        density = edge_density(edges, edge_votes(distance))
        if variant == "released":
            labels = merge_released(density, count, merges)
        else:
            labels = merge_single_linkage(edges, density, merges)
    return labels.view(batch, h, w)


def pad_regions(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Average the cells of every region, with one row per cell, so that no shape depends on data.

    Args:
        features: (B, C, h, w); gradients reach it.
        labels: int64 (B, h, w), 0..n-1 for each image.

    Returns:
        means float32 (B, N, C), zero where an image has no such region, and sizes (B, N): how many
        cells each region has.
    """
    cells = _cells(features)
    flat = labels.flatten(1)
    member = flat[:, None, :] == torch.arange(flat.shape[1], device=flat.device)[:, None]
    sizes = member.sum(dim=2)
    # A product, not a scattered sum: CUDA would add in a new order every time.
    with torch.autocast(cells.device.type, enabled=False):
        means = (member.to(cells.dtype) / sizes.clamp(min=1)[:, :, None]) @ cells.transpose(1, 2)
    return means, sizes


def pool_superpixels(features: Tensor, labels: Tensor) -> Tensor:
    """Average the raw features of every region; the host waits for the number of regions.

    Args:
        features: (B, C, h, w); gradients reach it.
        labels: Integers (B, h, w), 0..n-1 for each image.

    Returns:
        float32 (R, C): image after image, ascending label.

    Raises:
        ValueError: If labels are not of the features' size, or not in 0..h*w-1.
    """
    if labels.shape != features.shape[:1] + features.shape[2:] or labels.is_floating_point():
        raise ValueError(
            f"Labels of {labels.dtype}, {tuple(labels.shape)}, do not fit features of "
            f"{tuple(features.shape)}."
        )
    count = labels.shape[1] * labels.shape[2]
    if labels.numel() and not 0 <= labels.amin() <= labels.amax() < count:
        raise ValueError(f"A label of {count} cells is not in 0..{count - 1}.")
    means, sizes = pad_regions(features, labels)
    return means[sizes > 0]
