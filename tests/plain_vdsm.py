"""VDSM cell by cell and edge by edge: the oracle of the batched version in ``models.vdsm``.

Follows the description of the method sentence by sentence, one image at a time; slow on purpose.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor


def plain_distance(h: int, w: int, variant: str) -> Tensor:
    """Distances of all pairs of cells, (h*w, h*w)."""
    cells = h * w
    if cells == 1:
        return torch.tensor([[1e6]])
    distance = torch.zeros(cells, cells)
    for i in range(cells):
        for j in range(cells):
            y_i, y_j = (i % h, j % h) if variant == "released" else (i // w, j // w)
            squared = (i % w - j % w) ** 2 + (y_i - y_j) ** 2
            distance[i, j] = torch.tensor(float(squared)).sqrt()
    distance = distance / distance.max()
    for i in range(cells):
        distance[i, i] = 1e6
    return distance


def plain_density(features: Tensor, variant: str, distance: Tensor | None = None) -> Tensor:
    """Density of every edge of one image (c, h, w), as (h*w, h*w) at [lower, higher].

    The distances of a grid may be handed in, so that a benchmark need not count them every time.
    """
    c, h, w = features.shape
    cells = h * w
    flat = features.reshape(c, cells)
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    vectors = ((flat - low) / (high - low + 1e-8)).T
    if distance is None:
        distance = plain_distance(h, w, variant).to(features.device)
    affinity = vectors @ vectors.T + (1 - distance)
    density = torch.zeros(cells, cells, device=features.device)
    for i in range(cells):
        if variant == "released":
            a, b = torch.topk(affinity[i], 2).indices.tolist()
        else:
            row = affinity[i].tolist()
            by_affinity = sorted(range(cells), key=lambda j: (-row[j], j))
            a, b = by_affinity[0], i if variant == "nearest" else by_affinity[1]
        low_cell, high_cell = min(a, b), max(a, b)
        density[low_cell, high_cell] += 1 / (cells * distance[low_cell, high_cell])
    return density


def released_labels(density: Tensor, ranked: list[int], h: int, w: int) -> Tensor:
    """The released code's sequential labelling along the ranked edges, (h, w)."""
    cells = h * w
    labels: dict[int, int] = {}
    fresh = 0
    for flat in ranked:
        low, high = divmod(flat, cells)
        if density[low, high] == 0:
            continue
        if low not in labels and high not in labels:
            labels[low] = fresh
            fresh += 1
        elif low in labels and high in labels:
            lost = labels[high]
            for cell, label in labels.items():
                if label == lost:
                    labels[cell] = labels[low]
        elif low in labels:
            labels[high] = labels[low]
        else:
            labels[low] = labels[high]
    for cell in range(cells):
        if cell not in labels:
            labels[cell] = fresh
            fresh += 1
    order = {label: rank for rank, label in enumerate(sorted(set(labels.values())))}
    return torch.tensor([order[labels[cell]] for cell in range(cells)]).reshape(h, w)


def first_appearance(labels: Tensor) -> Tensor:
    """Renumber a label map by first appearance in raster order."""
    seen: dict[int, int] = {}
    flat = [seen.setdefault(int(label), len(seen)) for label in labels.flatten()]
    return torch.tensor(flat).reshape(labels.shape)


def plain_labels(
    features: Tensor, min_superpixels: int, variant: str, distance: Tensor | None = None
) -> Tensor:
    """Superpixel labels of one image (c, h, w), as int64 (h, w) on the CPU."""
    _, h, w = features.shape
    cells = h * w
    density = plain_density(features, variant, distance)
    if variant == "released":
        ranked = torch.topk(density.flatten(), cells - min_superpixels).indices.tolist()
        return released_labels(density, ranked, h, w)
    flat = density.flatten().tolist()
    order = sorted((i for i in range(cells * cells) if flat[i] > 0), key=lambda i: (-flat[i], i))
    edges = np.array([divmod(i, cells) for i in order[: cells - min_superpixels]]).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(cells, cells))
    _, components = connected_components(graph, directed=False)
    return first_appearance(torch.from_numpy(components).reshape(h, w))


def plain_pool(features: Tensor, labels: Tensor) -> Tensor:
    """Mean raw feature of every region, (R, C), image after image, ascending label."""
    means = []
    for image, label_map in zip(features, labels.to(features.device), strict=True):
        for label in range(int(label_map.max()) + 1):
            inside = label_map == label
            means.append(image[:, inside].mean(dim=1))
    return torch.stack(means)
