"""The best and the worst images: what was right, missed and wrong, and their region maps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from helper_functions.metrics.multilabel import average_precision
from helper_functions.results.report import Card, ChipGroup, Gallery
from helper_functions.tasks.classify.region_maps import (
    RegionMap,
    draw_region_map,
    overlay_regions,
    region_legend,
)
from helper_functions.tasks.classify.report.results import Results

_OVERLAY = 480  # pixels, longest side
_LEGEND = (
    ChipGroup("right", "good", [("right: predicted and true", "")]),
    ChipGroup("missed", "missing", [("missed: true, not predicted", "")]),
    ChipGroup("wrong", "bad", [("wrong: predicted, not true", "")]),
)
_NOTE = (
    "By the AP of the image, which is 100 if its true labels have the highest scores. Images "
    "without a label are left out."
)
_REGIONS_NOTE = (
    " Beside each image are its regions, colored by the one class that each predicts, with that "
    "class's scores."
)


def _groups(results: Results, index: int) -> list[ChipGroup]:
    """Sort all labels of an image into right, missed and wrong, each by descending score."""
    true, score = results.targets[index] == 1, results.scores[index]
    decided = score > results.limits
    order = np.argsort(-score, kind="stable")
    members = (decided & true, ~decided & true, decided & ~true)
    return [
        ChipGroup(
            group.name,
            group.tone,
            [(results.classes[k], f"{score[k]:.2f}") for k in order if chosen[k]],
        )
        for group, chosen in zip(_LEGEND, members, strict=True)
    ]


def _card(
    results: Results, index: int, precision: float, region_map: RegionMap | None, name: str
) -> Card:
    """Describe an image by its average precision, its regions and its labels."""
    path = results.paths[index]
    image = results.read(path)
    value, groups = f"AP\N{NO-BREAK SPACE}{100 * precision:.1f}", _groups(results, index)
    if region_map is None:
        return Card(path.name, [image], value, groups=groups)
    legend = region_legend(region_map, results.classes)
    overlay = draw_region_map(image, region_map, legend, _OVERLAY, with_scores=False)
    original = overlay_regions(image, region_map, results.classes)
    entries = list(legend.values())
    return Card(path.name, [image, overlay], value, entries, groups, name, original)


def galleries(results: Results, shown: int) -> list[Gallery]:
    """Show the best images, best first, and the worst, worst first; none is in both.

    Args:
        results: The validation.
        shown: How many images, half of them the best.

    Raises:
        ImageError: If an image to be shown cannot be read.
    """
    # The images by their average precision
    labeled = np.flatnonzero(results.targets.any(axis=1)).tolist()
    ap = {k: average_precision(results.scores[k], results.targets[k]) for k in labeled}
    order = sorted(ap, key=lambda index: -ap[index])
    count = min(shown, len(order))
    chosen = {"best": order[: (count + 1) // 2], "worst": order[::-1][: count // 2]}

    # Their cards
    indices = [*chosen["best"], *chosen["worst"]]
    maps: Iterator[RegionMap | None] = itertools.repeat(None)
    note = _NOTE
    if results.find_maps is not None and indices:
        maps = iter(results.find_maps(indices))
        note += _REGIONS_NOTE
    sections = []
    for word, members in chosen.items():
        cards = [
            _card(results, index, ap[index], next(maps), f"{word}_{rank}")
            for rank, index in enumerate(members, 1)
        ]
        if cards:
            sections.append(Gallery(f"{word.capitalize()} images", cards, note, _LEGEND))
    return sections
