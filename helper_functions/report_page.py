"""``report.html``: the result of a validation as one page that needs neither network nor script."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from helper_functions.figures.style import INK, MUTED, PALETTE, PAPER
from helper_functions.files import write_text
from helper_functions.images import read_image
from helper_functions.metrics import average_precision

_THUMBNAIL = 240  # pixels, longest side
_QUALITY = 80  # of the JPEG
_CHIPS = 12  # labels of a kind before the others fold away

_COLOURS = f"""
:root {{
  --paper: {PAPER}; --ink: {INK}; --muted: {MUTED}; --line: #DDE2E6; --soft: #F4F6F8;
  --bar: {PALETTE["blue"]}; --right: {PALETTE["green"]}; --missed: {PALETTE["blue"]};
  --wrong: {PALETTE["vermilion"]};
  --right-fill: {PALETTE["green"]}2E; --wrong-fill: {PALETTE["vermilion"]}2E;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --paper: #14191E; --ink: #E4E8EB; --muted: #A3AEB7; --line: #333D46; --soft: #1D242B;
    --bar: {PALETTE["sky"]}; --missed: {PALETTE["sky"]};
    --right-fill: {PALETTE["green"]}59; --wrong-fill: {PALETTE["vermilion"]}59;
  }}
}}
"""
_LAYOUT = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 74rem; padding: 1.5rem 1rem 3rem; background: var(--paper);
  color: var(--ink); font: 16px/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .25rem; font-size: 1.2rem; }
h3 { margin: 1.75rem 0 .25rem; font-size: 1rem; }
p { margin: .25rem 0 .75rem; max-width: 46rem; }
ul { list-style: none; margin: 0; padding: 0; }
.note { color: var(--muted); font-size: .875rem; }
.split { font-weight: 400; color: var(--muted); white-space: nowrap; }
.keys { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 1.25rem; }
.key { flex: 1 1 7rem; padding: .75rem 1rem; background: var(--soft); border-radius: .5rem; }
.main { flex: 2 1 26rem; display: flex; flex-wrap: wrap; align-items: center; gap: .5rem 1.5rem; }
.main .beside { flex: 1 1 9rem; }
.key b { display: block; font-size: 1.4rem; line-height: 1.3; }
.main b { font-size: 2.9rem; line-height: 1.1; }
.key span { color: var(--muted); font-size: .8125rem; line-height: 1.3; display: block; }
.beside li { display: grid; grid-template-columns: 1fr auto; font-size: .875rem; margin: .25rem 0; }
.beside .bar { grid-column: 1 / -1; }
.bar { display: block; height: 4px; background: var(--line); border-radius: 2px; }
.bar i { display: block; height: 100%; background: var(--bar); border-radius: 2px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9375rem; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right; }
thead th { color: var(--muted); font-size: .8125rem; font-weight: 600; vertical-align: bottom;
  overflow-wrap: normal; }
td { white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; min-width: 6.5rem; }
th:last-child, td:last-child { padding-right: 0; }
tbody th { font-weight: 500; }
th.ap { text-align: left; width: 17rem; }
td.ap div { display: flex; align-items: center; gap: .2rem .6rem; }
td.ap .bar { flex: 1; }
td.ap span:first-child { min-width: 2.75rem; font-weight: 600; }
td, b, .score { font-variant-numeric: tabular-nums; }
.gallery { display: grid; gap: 1.25rem 1rem; margin-top: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(10.5rem, 100%), 1fr)); }
figure { margin: 0; min-width: 0; break-inside: avoid; }
img { display: block; width: 100%; height: auto; aspect-ratio: 1; object-fit: contain;
  background: var(--soft); border-radius: .375rem; }
figcaption { margin: .35rem 0 .4rem; font-size: .8125rem; line-height: 1.3; }
figcaption span { color: var(--muted); }
.chips { display: flex; flex-wrap: wrap; gap: .25rem; margin-bottom: .25rem; font-size: .8125rem; }
.chip { padding: .05rem .45rem; border: 1px solid; border-radius: .75rem; line-height: 1.4; }
.chip .score { color: var(--muted); color: color-mix(in srgb, var(--ink) 75%, transparent); }
.chip > span:first-child { font-weight: 700; }
.right { border-color: var(--right); background: var(--right-fill); }
.missed { border-color: var(--missed); border-style: dashed; }
.wrong { border-color: var(--wrong); background: var(--wrong-fill); }
details { font-size: .8125rem; margin-bottom: .25rem; }
summary { cursor: pointer; color: var(--muted); }
@media (max-width: 40rem) {
  table { font-size: .875rem; }
  th, td { padding: .3rem .25rem; }
  th.ap { width: auto; }
  td.ap div { flex-wrap: wrap; }
  td.ap .bar { flex: 1 0 100%; }
  td.ap span:first-child { text-align: left; }
}
"""
# The page may not fetch anything, even if a name got past the escaping.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class _Kind(NamedTuple):
    """What a label of a picture can be: its word, its sign, what it says."""

    word: str
    sign: str
    meaning: str


_RIGHT = _Kind("right", "&#10003;", "predicted and true")
_MISSED = _Kind("missed", "&ndash;", "true, not predicted")
_WRONG = _Kind("wrong", "&#10007;", "predicted, not true")


def write_report(
    path: Path,
    metrics: dict[str, Any],
    table: dict[str, npt.NDArray[Any]],
    paths: Sequence[Path],
    targets: npt.NDArray[np.uint8],
    scores: npt.NDArray[np.float32],
    shown: int = 12,
) -> None:
    """Write key figures, the per-class table and the best and worst pictures as one HTML file.

    Args:
        path: The HTML file.
        metrics: As written to ``metrics.json``.
        table: As written to ``per_class.csv``.
        paths: The N pictures.
        targets: (N, K) 0 or 1.
        scores: (N, K) probabilities.
        shown: Number of pictures, half of them the best and half the worst (if odd, one more of
            the best); fewer if fewer pictures have a label.

    Raises:
        ImageError: If a picture to be shown cannot be read.
    """
    precisions = _picture_precisions(targets, scores)
    best, worst = _best_and_worst(precisions, shown)
    decisions = scores > np.asarray(metrics["threshold"], dtype=np.float32)

    def card(index: int) -> str:
        labels = _labels(metrics["classes"], targets[index], scores[index], decisions[index])
        return _card(paths[index], precisions[index], labels)

    body = [
        _headline(metrics),
        _key_figures(metrics),
        _class_table(metrics, table),
        _pictures(map(card, best), map(card, worst)),
    ]
    write_text(path, _page(f"{_checkpoint_name(metrics)}, split {metrics['split']}", body))


def _escape(text: object) -> str:
    """Text for HTML; bytes of a file name that are not UTF-8 become question marks."""
    return html.escape(str(text).encode(errors="replace").decode())


def _page(title: str, body: Iterable[str]) -> str:
    """The whole document; its icon is empty, else browsers ask the server for one."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            f"<title>{_escape(title)}</title>",
            f"<style>{_COLOURS}{_LAYOUT}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>\n",
        ]
    )


def _checkpoint_name(metrics: dict[str, Any]) -> str:
    """File name of the checkpoint."""
    return Path(metrics["checkpoint"]).name


def _headline(metrics: dict[str, Any]) -> str:
    """Checkpoint and split, below them where both lie."""
    name, split = _escape(_checkpoint_name(metrics)), _escape(metrics["split"])
    files = f"{_escape(metrics['checkpoint'])} on {_escape(metrics['csv_path'])}"
    return (
        f'<h1>{name} <span class="split">split {split}</span></h1>\n'
        f'<p class="note">{files}, {len(metrics["classes"])} classes</p>'
    )


def _bar(percent: float) -> str:
    """A thin bar from 0 to 100."""
    return f'<span class="bar"><i style="width:{min(max(percent, 0.0), 100.0):.1f}%"></i></span>'


def _key(value: str, name: str, meaning: str) -> str:
    """One key figure."""
    return f'<div class="key"><b>{value}</b>{name}<span>{meaning}</span></div>'


def _main_key(metrics: dict[str, Any]) -> str:
    """The mAP, beside it what is reached without looking at a picture."""
    rows = (
        ("this model", "mAP"),
        ("by chance", "chance_mAP"),
        ("class frequencies", "frequency_mAP"),
    )
    beside = "".join(
        f"<li>{name} <strong>{metrics[key]:.1f}</strong>{_bar(metrics[key])}</li>"
        for name, key in rows
    )
    return (
        f'<div class="key main"><div><b>{metrics["mAP"]:.2f}</b>mAP'
        f'<span>mean average precision, %</span></div><ul class="beside">{beside}</ul></div>'
    )


def _threshold_key(threshold: float | list[float]) -> str:
    """The decision threshold, or that every class has its own."""
    value = "various" if isinstance(threshold, list) else f"{threshold:g}"
    return _key(value, "threshold", "a score above it is predicted")


def _key_figures(metrics: dict[str, Any]) -> str:
    """The row of key figures."""
    keys = [
        _main_key(metrics),
        _key(f"{metrics['F_C']:.2f}", "F_C", "mean F1 over classes"),
        _key(f"{metrics['CF1']:.2f}", "CF1", "F1 of mean precision and mean recall"),
        _key(f"{metrics['F_O']:.2f}", "F_O", "F1 over all decisions"),
        _key(f"{metrics['num_images']:,}", "images", "in this split"),
        _threshold_key(metrics["threshold"]),
    ]
    return "\n".join(['<div class="keys">', *keys, "</div>"])


def _class_row(name: str, row: dict[str, Any]) -> str:
    """One line of the per-class table."""
    rates = "".join(f"<td>{row[key]:.1f}</td>" for key in ("precision", "recall", "F1"))
    return (
        f'<tr><th scope="row">{_escape(name)}</th><td>{row["support"]:,}</td>'
        f'<td class="ap"><div><span>{row["AP"]:.1f}</span>{_bar(row["AP"])}</div></td>{rates}</tr>'
    )


def _class_note(metrics: dict[str, Any], table: dict[str, npt.NDArray[Any]]) -> str:
    """How to read the per-class table, and what in it has no value."""
    sentences = ["In percent, best AP (average precision) first."]
    if metrics["absent_classes"]:
        absent = f"Classes without an image in this split: {metrics['absent_classes']}"
        sentences.append(f"{absent}; they count as AP&nbsp;0.")
    if not table["predicted"].all():
        sentences.append("Precision and F1 of a class that is never predicted are set to 0.")
    return f'<p class="note">{" ".join(sentences)}</p>'


def _class_table(metrics: dict[str, Any], table: dict[str, npt.NDArray[Any]]) -> str:
    """All classes, best AP first."""
    header = (
        '<thead><tr><th scope="col">class</th><th scope="col">images</th>'
        '<th scope="col" class="ap">AP</th><th scope="col">preci&shy;sion</th>'
        '<th scope="col">recall</th><th scope="col">F1</th></tr></thead>'
    )
    rows = [
        _class_row(metrics["classes"][k], {key: column[k] for key, column in table.items()})
        for k in np.argsort(-table["AP"], kind="stable")
    ]
    return "\n".join(
        [
            "<h2>Classes</h2>",
            _class_note(metrics, table),
            f'<div class="scroll"><table>{header}<tbody>',
            *rows,
            "</tbody></table></div>",
        ]
    )


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
    return "".join(
        _chips(kind, [_chip(kind, classes[k], score[k]) for k in order if members[k]])
        for kind, members in kinds.items()
    )


def _sign(kind: _Kind) -> str:
    """The sign of a kind, with its word for those who do not see it."""
    return f'<span role="img" aria-label="{kind.word}" title="{kind.word}">{kind.sign}</span>'


def _chip(kind: _Kind, name: str, score: float) -> str:
    """One label of a picture with its score."""
    return (
        f'<li class="chip {kind.word}">{_sign(kind)} {_escape(name)} '
        f'<span class="score">{score:.2f}</span></li>'
    )


def _chips(kind: _Kind, chips: Sequence[str]) -> str:
    """The labels of one kind; a long list folds after the highest scores."""
    if not chips:
        return ""
    first = f'<ul class="chips">{"".join(chips[:_CHIPS])}</ul>'
    rest = chips[_CHIPS:]
    if not rest:
        return first
    return (
        f"{first}<details><summary>{len(rest)} more {kind.word}</summary>"
        f'<ul class="chips">{"".join(rest)}</ul></details>'
    )


def _thumbnail(path: Path) -> str:
    """The picture, made small, as an element that carries its own bytes."""
    picture = read_image(path)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=_QUALITY)
    data = base64.b64encode(jpeg.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/jpeg;base64,{data}" alt="{_escape(path.name)}" '
        f'width="{picture.width}" height="{picture.height}">'
    )


def _card(path: Path, precision: float, labels: str) -> str:
    """One picture with its name, its average precision and its labels."""
    return (
        f"<figure>{_thumbnail(path)}<figcaption>{_escape(path.name)} "
        f"<span>AP&nbsp;{100 * precision:.1f}</span></figcaption>{labels}</figure>"
    )


def _legend() -> str:
    """What the chips mean."""
    entries = "".join(
        f'<li class="chip {kind.word}">{_sign(kind)} {kind.word}: {kind.meaning}</li>'
        for kind in (_RIGHT, _MISSED, _WRONG)
    )
    return f'<ul class="chips">{entries}</ul>'


def _gallery(title: str, cards: Iterable[str]) -> str:
    """A titled grid of pictures; nothing without pictures."""
    figures = list(cards)
    if not figures:
        return ""
    return "\n".join([f"<h3>{title}</h3>", '<div class="gallery">', *figures, "</div>"])


def _pictures(best: Iterable[str], worst: Iterable[str]) -> str:
    """Both grids under one legend; nothing without pictures."""
    galleries = _gallery("Best", best) + _gallery("Worst", worst)
    if not galleries:
        return ""
    note = (
        "By the AP of the picture, which is 100 if its true labels have the highest scores. "
        "Pictures without a label are left out."
    )
    return f'<h2>Pictures</h2>\n<p class="note">{note}</p>\n{_legend()}\n{galleries}'
