"""Merging of cells along edges, for the superpixels of ``models.vdsm``.

Both rules are sequential at heart. Here they have static shapes and the host reads nothing, so that
they run on any device and within compiled graphs. Shapes: B images, N cells; an edge is the index
``lower cell * N + higher cell``.
"""

from __future__ import annotations

from math import ceil, log2

import torch
from torch import Tensor


def _rank_labels(key: Tensor, size: int) -> Tensor:
    """Replace keys in [0, size) by their rank among the keys of the same image, (B, N)."""
    present = torch.zeros(key.shape[0], size, dtype=torch.long, device=key.device)
    present.scatter_(1, key, 1)
    return (present.cumsum(dim=1) - 1).gather(1, key)


def _transitive_closure(reach: Tensor) -> Tensor:
    """Compute the reflexive transitive closure of a relation, bool (B, n, n), by squaring."""
    size = reach.shape[1]
    closed = (reach | torch.eye(size, dtype=torch.bool, device=reach.device)).float()
    for _ in range(ceil(log2(max(size, 2)))):
        closed = (closed @ closed).clamp_(max=1)
    return closed > 0


def merge_single_linkage(edges: Tensor, density: Tensor, merges: int) -> Tensor:
    """Join the cells of the ``merges`` densest edges; of equal densities the lower index first.

    Args:
        edges: int64 (B, N), the edge that each cell votes for; edges may repeat.
        density: (B, N*N), by edge.
        merges: How many edges to join along.

    Returns:
        int64 (B, N), regions numbered by first appearance in raster order.
    """
    batch, cells = edges.shape
    cell = torch.arange(cells, device=edges.device)
    # Rank the edges; entry [b, i, j] of `outranks`: edge j comes before edge i. Repeated edges
    # count once.
    weight = density.gather(1, edges)
    earlier = torch.ones(cells, cells, dtype=torch.bool, device=edges.device).tril(-1)
    repeated = ((edges[:, :, None] == edges[:, None, :]) & earlier).any(dim=2)
    outranks = (weight[:, None, :] > weight[:, :, None]) | (
        (weight[:, None, :] == weight[:, :, None]) & (edges[:, None, :] < edges[:, :, None])
    )
    chosen = (outranks & ~repeated[:, None, :]).sum(dim=2) < merges
    # Connect the ends of the chosen edges; the others become self loops.
    low = torch.where(chosen, edges // cells, cell)
    high = torch.where(chosen, edges % cells, cell)
    joined = torch.zeros(batch, cells * cells, dtype=torch.bool, device=edges.device)
    joined = joined.scatter_(1, low * cells + high, True).view(batch, cells, cells)
    connected = _transitive_closure(joined | joined.transpose(1, 2))
    # A region is known by its first cell.
    return _rank_labels(torch.where(connected, cell, cells).amin(dim=2), cells)


def merge_released(density: Tensor, cells: int, merges: int) -> Tensor:
    """Label cells along the ``merges`` densest edges as the public code does.

    For an edge (lo, hi) whose cells are both unlabeled, only lo gets a new label. Where one is
    labeled the other copies it; where both are, hi's label turns into lo's. Edges follow the order
    of ``torch.topk``.

    Args:
        density: (B, N*N), by edge.
        cells: N.
        merges: How many edges to label along.

    Returns:
        int64 (B, N), regions in the order of the labels that survive in the public code.
    """
    top = density.topk(merges, dim=1)
    ends = torch.stack([top.indices // cells, top.indices % cells], dim=2)
    # Edges without density join a column beyond the cells to itself.
    ends = torch.where(top.values[:, :, None] > 0, ends, cells)
    # A label is the rank of the edge that introduced it. Cell i without a label holds merges + i,
    # which is above all labels and unlike those of other cells.
    label = torch.arange(merges, merges + cells + 1, device=density.device).repeat(len(density), 1)
    for rank, edge in enumerate(ends.unbind(dim=1)):
        pair = label.gather(1, edge)
        pair = torch.where(pair[:, :1] < merges, pair, pair.flip(1))
        kept, replaced = pair[:, :1], pair[:, 1:]
        # What is kept is the label of an earlier rank, or there is none yet: a new one.
        label = torch.where(label == replaced, kept.clamp(max=rank), label)
    return _rank_labels(label[:, :cells], merges + cells)
