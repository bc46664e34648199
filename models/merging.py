"""Merging cells along edges, for the superpixels of ``models.vdsm``.

Both rules are sequential at heart and deal with a few dozen numbers an image. A processor takes
them edge by edge; a device, and a graph that is compiled, get a formulation with static shapes in
which the host reads nothing. Shapes: B images, N cells; an edge is ``lower cell * N + higher``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log2

import torch
from torch import Tensor


def on_host(tensor: Tensor) -> bool:
    """Whether the host may read a tensor's numbers without waiting, and no graph is recorded."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


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


def _joined_on_device(edges: Tensor, own: Tensor, merges: int) -> Tensor:
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


def _joined_on_host(edges: Sequence[int], own: Sequence[float], merges: int) -> list[int]:
    """The lowest cell that each cell of one image is joined with."""
    cells = len(edges)
    density = dict(zip(edges, own, strict=True))
    # Sorting is stable: of equal densities the lower edge stays first.
    ranked = sorted(sorted(density), key=density.__getitem__, reverse=True)
    lowest = list(range(cells))
    members = [[cell] for cell in range(cells)]
    for edge in ranked[:merges]:
        first, second = divmod(edge, cells)
        low, high = sorted((lowest[first], lowest[second]))
        if low != high:
            for cell in members[high]:
                lowest[cell] = low
            members[low] += members[high]
    return lowest


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
    if on_host(edges):
        images = zip(edges.tolist(), own.tolist(), strict=True)
        lowest = torch.tensor([_joined_on_host(*image, merges) for image in images])
    else:
        lowest = _joined_on_device(edges, own, merges)
    return _rank_labels(lowest, edges.shape[1])


def _labelled_on_device(edges: Tensor, density: Tensor, cells: int) -> Tensor:
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


def _labelled_on_host(edges: Sequence[int], density: Sequence[float], cells: int) -> list[int]:
    """Labels of one image after its edges, see ``merge_released``."""
    ranks = len(edges)
    label = list(range(ranks, ranks + cells))
    members: dict[int, list[int]] = {}
    for rank, (edge, votes) in enumerate(zip(edges, density, strict=True)):
        if votes == 0:
            break  # as are all that follow
        low, high = divmod(edge, cells)
        passed_on, replaced = label[low], label[high]
        if passed_on >= ranks and replaced >= ranks:
            label[low] = rank
            members[rank] = [low]
        elif passed_on >= ranks:
            label[low] = replaced
            members[replaced].append(low)
        elif replaced >= ranks:
            label[high] = passed_on
            members[passed_on].append(high)
        elif passed_on != replaced:
            for cell in members[replaced]:
                label[cell] = passed_on
            members[passed_on] += members.pop(replaced)
    return label


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
    if on_host(density):
        images = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        label = torch.tensor([_labelled_on_host(*image, cells) for image in images])
    else:
        label = _labelled_on_device(top.indices, top.values, cells)
    return _rank_labels(label, merges + cells)
