"""The best and the worst pictures: what was right, missed and wrong, and their region maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from helper_functions.metrics.multilabel import average_precision
from helper_functions.results.overlays import draw_legend, legend, overlay
from helper_functions.results.report.data import Results
from helper_functions.results.report.markup import embedded, escape
from helper_functions.tasks.classify.region_files import write_png
from helper_functions.tasks.classify.region_maps import RegionMap

_THUMBNAIL = 240  # pixels, longest side
_OVERLAY = 480
_CHIPS = 12  # labels of a kind before the others fold away
_LABELS = 300  # labels of a kind at most, so that no model makes the page grow without end


class _Kind(NamedTuple):
    """What a label of a picture can be: its word, its sign, what it says."""

    word: str
    sign: str
    meaning: str


_RIGHT = _Kind("right", "&#10003;", "predicted and true")
_MISSED = _Kind("missed", "&ndash;", "true, not predicted")
_WRONG = _Kind("wrong", "&#10007;", "predicted, not true")


def _picture_precisions(
    targets: npt.NDArray[np.uint8], scores: npt.NDArray[np.float32]
) -> dict[int, float]:
    """Average precision (0 to 1) of every picture that has a label, by its index."""
    labelled = np.flatnonzero(targets.any(axis=1)).tolist()
    return {index: average_precision(scores[index], targets[index]) for index in labelled}


def _best_and_worst(precisions: dict[int, float], shown: int) -> tuple[list[int], list[int]]:
    """Indices of the best pictures, best first, and of the worst, worst first; none is in both."""
    order = sorted(precisions, key=lambda index: -precisions[index])
    count = min(shown, len(order))
    return order[: (count + 1) // 2], order[::-1][: count // 2]


def _labels(
    classes: Sequence[str],
    target: npt.NDArray[np.uint8],
    score: npt.NDArray[np.float32],
    decision: npt.NDArray[np.bool_],
) -> str:
    """All chips of a picture: right, missed, wrong, each by descending score."""
    true = target == 1
    order = np.argsort(-score, kind="stable")
    kinds = {_RIGHT: decision & true, _MISSED: ~decision & true, _WRONG: decision & ~true}
    parts = []
    for kind, members in kinds.items():
        ranked = [k for k in order if members[k]]
        chips = [_chip(kind, classes[k], score[k]) for k in ranked[:_LABELS]]
        parts.append(_chips(kind, chips, len(ranked) - len(chips)))
    return "".join(parts)


def _sign(kind: _Kind) -> str:
    """The sign of a kind, with its word for those who do not see it."""
    return f'<span role="img" aria-label="{kind.word}" title="{kind.word}">{kind.sign}</span>'


def _chip(kind: _Kind, name: str, score: float) -> str:
    """One label of a picture with its score."""
    return (
        f'<li class="chip {kind.word}">{_sign(kind)} {escape(name)} '
        f'<span class="score">{score:.2f}</span></li>'
    )


def _chips(kind: _Kind, chips: Sequence[str], omitted: int) -> str:
    """The labels of one kind; a long list folds after the highest scores."""
    if not chips:
        return ""
    first = f'<ul class="chips">{"".join(chips[:_CHIPS])}</ul>'
    rest = chips[_CHIPS:]
    if not rest:
        return first
    lost = f"<p>and {omitted:,} more with lower scores</p>" if omitted else ""
    return (
        f"{first}<details><summary>{len(rest) + omitted:,} more {kind.word}</summary>"
        f'<ul class="chips">{"".join(rest)}</ul>{lost}</details>'
    )


def _thumbnail(picture: Image.Image) -> Image.Image:
    """The picture, made small."""
    small = picture.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    return small


def _region_part(
    results: Results, picture: Image.Image, name: str, found: RegionMap, png: Path
) -> tuple[str, str]:
    """The regions over the picture, and their legend; also written as PNG."""
    entries = legend(found, results.classes)
    write_png(png, draw_legend(overlay(picture, found, results.classes), entries))
    small = overlay(picture, found, results.classes, _OVERLAY, with_scores=False)
    items = "".join(
        f'<li><span class="swatch" style="background:{entry.colour}">{entry.letter}</span> '
        f'{escape(entry.name)} <span class="score">{entry.scores[0]:.2f}</span></li>'
        for entry in entries
    )
    return embedded(small, f"regions of {name}"), f'<ul class="regions">{items}</ul>'


def _card(
    results: Results, index: int, precision: float, found: RegionMap | None, png: Path
) -> str:
    """One picture with its name, its average precision, its regions and its labels."""
    path = results.paths[index]
    score = results.scores[index]
    labels = _labels(results.classes, results.targets[index], score, score > results.limits)
    picture = results.read(path)
    pictures, regions = embedded(_thumbnail(picture), path.name), ""
    if found is not None:
        small, regions = _region_part(results, picture, path.name, found, png)
        pictures = f'<div class="pair">{pictures}{small}</div>'
    return (
        f"<figure>{pictures}<figcaption>{escape(path.name)} "
        f"<span>AP&nbsp;{100 * precision:.1f}</span></figcaption>{regions}{labels}</figure>"
    )


def _legend() -> str:
    """What the chips mean."""
    entries = "".join(
        f'<li class="chip {kind.word}">{_sign(kind)} {kind.word}: {kind.meaning}</li>'
        for kind in (_RIGHT, _MISSED, _WRONG)
    )
    return f'<ul class="chips">{entries}</ul>'


def _gallery(title: str, cards: Sequence[str], wide: bool) -> str:
    """A titled grid of pictures; nothing without pictures."""
    if not cards:
        return ""
    kind = "gallery wide" if wide else "gallery"
    return "\n".join([f"<h3>{title}</h3>", f'<div class="{kind}">', *cards, "</div>"])


def picture_galleries(results: Results, shown: int, folder: Path) -> str:
    """The best and the worst pictures under one legend; nothing without pictures.

    Args:
        results: The validation.
        shown: How many pictures, half of them the best.
        folder: Where their region maps are written, as ``best_1.png`` and so on.

    Raises:
        ImageError: If a picture to be shown cannot be read.
    """
    precisions = _picture_precisions(results.targets, results.scores)
    best, worst = _best_and_worst(precisions, shown)
    chosen = [*best, *worst]
    if not chosen:
        return ""
    maps: Iterable[RegionMap | None] = [None] * len(chosen)
    if results.find_maps is not None:
        maps = results.find_maps([results.paths[index] for index in chosen])
    names = [f"best_{n}" for n in range(1, len(best) + 1)]
    names += [f"worst_{n}" for n in range(1, len(worst) + 1)]
    cards = [
        _card(results, index, precisions[index], found, folder / f"{name}.png")
        for index, name, found in zip(chosen, names, maps, strict=True)
    ]
    wide = results.find_maps is not None
    galleries = _gallery("Best", cards[: len(best)], wide) + _gallery(
        "Worst", cards[len(best) :], wide
    )
    note = (
        "By the AP of the picture, which is 100 if its true labels have the highest scores. "
        "Pictures without a label are left out."
    )
    if wide:
        note += (
            " Beside each picture are its regions, coloured by the one class that each predicts, "
            "with that class's score."
        )
    return f'<h2>Pictures</h2>\n<p class="note">{note}</p>\n{_legend()}\n{galleries}'
