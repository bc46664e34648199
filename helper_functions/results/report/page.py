"""The page as a whole: its head, its parts, its files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from helper_functions.data.images import read_image
from helper_functions.results.report.canvas import FRAME, GRID
from helper_functions.results.report.charts import draw_charts
from helper_functions.results.report.data import FindMaps, Results
from helper_functions.results.report.findings import findings
from helper_functions.results.report.lookalikes import draw_pairs, mistaken_pairs
from helper_functions.results.report.markup import bar, chart_grid, escape
from helper_functions.results.report.pictures import picture_galleries
from helper_functions.results.report.table import class_table
from helper_functions.results.style import INK, MUTED, PALETTE, PAPER
from helper_functions.runtime.files import make_folder, write_text

PICTURES = "pictures"

_LIGHT = {
    **PALETTE,
    "ink": INK,
    "muted": MUTED,
    "paper": PAPER,
    "line": GRID,
    "frame": FRAME,
    "soft": "#F4F6F8",
}
# Brighter versions of the same hues, as far apart for every kind of colour vision.
_DARK = {
    "blue": "#3B9AE1",
    "orange": "#F0B030",
    "green": "#1FBF93",
    "vermilion": "#F2762E",
    "sky": "#8ED2FF",
    "purple": "#E09BC4",
    "yellow": "#F0E442",
    "ink": "#E4E8EB",
    "muted": "#A3AEB7",
    "paper": "#14191E",
    "line": "#2B343C",
    "frame": "#4A555F",
    "soft": "#1D242B",
}


def write_report(
    path: Path,
    metrics: dict[str, Any],
    table: dict[str, npt.NDArray[Any]],
    paths: Sequence[Path],
    targets: npt.NDArray[np.uint8],
    scores: npt.NDArray[np.float32],
    shown: int = 12,
    *,
    find_maps: FindMaps | None = None,
    read: Callable[[Path], Image.Image] = read_image,
    settings: dict[str, Any] | None = None,
) -> None:
    """Write the report as one HTML file, and its pictures as PNG into a folder beside it.

    The file's size is bounded: some 300 bytes a class, at most 200 kB a picture shown, and 400 kB
    besides; 2 MB for 5,016 classes and twelve pictures.

    Args:
        path: The HTML file.
        metrics: As written to ``metrics.json``.
        table: As written to ``per_class.csv``.
        paths: The N pictures.
        targets: (N, K) 0 or 1.
        scores: (N, K) probabilities.
        shown: Number of pictures, half of them the best and half the worst (if odd, one more of
            the best); fewer if fewer pictures have a label.
        find_maps: Gives the region maps of pictures; the report goes without if left out.
        read: Decodes a picture.
        settings: The settings of the run.

    Raises:
        ImageError: If a picture to be shown cannot be read.
    """
    results = Results(metrics, table, paths, targets, scores, settings or {}, find_maps, read)
    folder = path.parent / PICTURES
    make_folder(folder)
    mistakes = mistaken_pairs(results)
    body = [
        _headline(metrics),
        "<main>",
        findings(results, mistakes),
        _key_figures(metrics),
        class_table(results),
        "<h2>Curves</h2>",
        chart_grid(draw_charts(results, folder)),
        "<h2>Look-alikes and company</h2>",
        chart_grid(draw_pairs(results, mistakes, folder), "charts two"),
        _regions_table(metrics),
        picture_galleries(results, shown, folder),
        _settings_table(results),
        "</main>",
    ]
    write_text(path, _page(f"{_checkpoint_name(metrics)}, split {metrics['split']}", body))


def _part(name: str) -> str:
    """A file of this package."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _style() -> str:
    """Colours and layout."""
    light, dark = (
        "".join(f"--{name}:{value};" for name, value in colours.items())
        for colours in (_LIGHT, _DARK)
    )
    scheme = f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return f"{scheme}\n{_part('report.css')}"


def _policy(script: str) -> str:
    """The page may fetch nothing and run only its script, even if a name got past the escaping."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"default-src 'none'; {allowed}"


def _page(title: str, body: Iterable[str]) -> str:
    """The whole document; its icon is empty, else browsers ask the server for one."""
    script = _part("report.js")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title>",
            f"<style>{_style()}</style>",
            "</head>",
            "<body>",
            *filter(None, body),
            f"<script>{script}</script>",
            "</body>",
            "</html>\n",
        ]
    )


def _checkpoint_name(metrics: dict[str, Any]) -> str:
    """File name of the checkpoint."""
    return Path(metrics["checkpoint"]).name


def _headline(metrics: dict[str, Any]) -> str:
    """Checkpoint and split, below them where both lie."""
    name, split = escape(_checkpoint_name(metrics)), escape(metrics["split"])
    files = f"{escape(metrics['checkpoint'])} on {escape(metrics['csv_path'])}"
    return (
        f'<h1>{name} <span class="split">split {split}</span></h1>\n'
        f'<p class="note">{files}, {len(metrics["classes"])} classes</p>'
    )


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
        f"<li>{name} <strong>{metrics[key]:.1f}</strong>{bar(metrics[key])}</li>"
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


def _regions_table(metrics: dict[str, Any]) -> str:
    """What masks say of the regions; nothing without masks."""
    if "region_grid" not in metrics:
        return ""
    rows, columns = metrics["region_grid"]
    lines = "".join(
        f'<tr><th scope="row">{name}</th>'
        + "".join(
            f"<td>{metrics[f'region_{key}{suffix}']:.1f}</td>"
            for key in ("purity", "accuracy", "miou")
        )
        + "</tr>"
        for name, suffix in (("classes of the regions", ""), ("picture's top class", "_majority"))
    )
    chance = f"<td>{metrics['region_purity_chance']:.1f}</td><td></td><td></td>"
    return (
        "<h2>Regions against masks</h2>\n"
        f'<p class="note">In percent, on {rows} x {columns} cells a picture. Purity: the predicted '
        "class is shown in the cell; accuracy: it covers most of it; mIoU: of the pixels, mean "
        'over classes.</p>\n<div class="scroll"><table class="narrow"><thead><tr>'
        '<th scope="col">every cell takes</th><th scope="col">purity</th>'
        '<th scope="col">accuracy</th><th scope="col">mIoU</th></tr></thead><tbody>'
        f'{lines}<tr><th scope="row">a random class</th>{chance}</tr></tbody></table></div>'
    )


def _setting(value: Any) -> str:
    """The value of a setting in words."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return " ".join(map(str, value))
    return str(value)


def _settings_table(results: Results) -> str:
    """The settings of the run; nothing if there are none."""
    if not results.settings:
        return ""
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(_setting(value))}</dd>"
        for name, value in results.settings.items()
    )
    return f"<h2>Settings</h2>\n<dl>{rows}</dl>"
