"""Merging cells along edges, for the superpixels of ``models.vdsm``.

Both rules are sequential at heart and deal with a few dozen numbers an image. On a processor they
go edge by edge (``models.kernels``); a device, and a graph that is compiled, get a formulation with
static shapes in which the host reads nothing. Shapes: B images, N cells; an edge is ``lower cell *
N + higher``.
"""

from __future__ import annotations

from math import ceil, log2

import torch
from torch import Tensor

from models import kernels


def _rank_labels(key: Tensor, size: int) -> Tensor:
    """Replace keys in [0, size) by their rank among the keys of the same image, (B, N)."""
    present = torch.zeros(key.shape[0], size, dtype=torch.long, device=key.device)
    present.scatter_(1, key, 1)
    return (present.cumsum(dim=1) - 1).gather(1, key)


def _transitive_closure(reach: Tensor) -> Tensor:
    """Reflexive transitive closure of a relation, bool (B, n, n), by repeated squaring."""
    size = reach.shape[1]
    closed = (reach | torch.eye(size, dtype=torch.bool, device=reach.device)).float()
    for _ in range(ceil(log2(max(size, 2)))):
        closed = (closed @ closed).clamp_(max=1)
    return closed > 0


def _joined(edges: Tensor, own: Tensor, merges: int) -> Tensor:
    """The lowest cell that each cell is joined with, int64 (B, N)."""
    batch, cells = edges.shape
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
    return torch.where(connected, own_cell, cells).amin(dim=2)


def merge_single_linkage(edges: Tensor, density: Tensor, merges: int) -> Tensor:
    """Join the cells of the ``merges`` densest edges; of equal densities the lower index first.

    Args:
        edges: int64 (B, N), which may repeat.
        density: (B, N*N), by edge.
        merges: Edges to join along.

    Returns:
        int64 (B, N), regions numbered by first appearance in raster order.
    """
    own = density.gather(1, edges)
    if kernels.usable(own):
        return kernels.merge_single_linkage(edges.contiguous(), own, merges)
    return _rank_labels(_joined(edges, own, merges), edges.shape[1])


def _labelled(edges: Tensor, density: Tensor, cells: int) -> Tensor:
    """Labels after the edges (B, ranks) of some density, see ``merge_released``, int64 (B, N)."""
    ranks = edges.shape[1]
    ends = torch.stack([edges // cells, edges % cells], dim=2)
    # Edges without density join a column beyond the cells to itself.
    ends = torch.where(density[:, :, None] > 0, ends, cells)
    label = torch.arange(ranks, ranks + cells + 1, device=edges.device).repeat(len(edges), 1)
    for rank, edge in enumerate(ends.unbind(dim=1)):
        pair = label.gather(1, edge)
        pair = torch.where(pair[:, :1] < ranks, pair, pair.flip(1))
        passed_on, replaced = pair[:, :1], pair[:, 1:]
        # What is passed on is the label of an earlier rank, or there is none yet: a new one.
        label = torch.where(label == replaced, passed_on.clamp(max=rank), label)
    return label[:, :cells]


def merge_released(density: Tensor, cells: int, merges: int) -> Tensor:
    """The public code's labelling along the ``merges`` densest edges, as ``torch.topk`` has them.

    For an edge (lo, hi) whose cells are both unlabelled, only lo gets a new label. Where one is
    labelled the other copies it, where both are, hi's label turns into lo's. Here a label is the
    rank of the edge that brought it up, and cell i without label holds merges + i, which is above
    all labels and unlike those of other cells.

    Args:
        density: (B, N*N), by edge.
        cells: N.
        merges: Edges to label along.

    Returns:
        int64 (B, N), regions in the order of the labels that survive in the public code.
    """
    top = density.topk(merges, dim=1)
    if kernels.usable(density):
        return kernels.merge_released(top.indices, top.values, cells)
    return _rank_labels(_labelled(top.indices, top.values, cells), merges + cells)
