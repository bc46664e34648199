"""What the report says of a validation of counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helper_functions.results.report import (
    Card,
    Chart,
    Charts,
    Column,
    Gallery,
    KeyFigure,
    Section,
    Table,
    Text,
)
from helper_functions.results.style import INK, MUTED, PALETTE, new_figure, style_axes
from helper_functions.tasks.count.drawing import LEGEND
from helper_functions.tasks.count.evaluator import CountEvaluator

_SHOWN = 6  # best and worst images, each
_GROUPS = 5  # of images by density


def summary(metrics: dict[str, Any]) -> str:
    """Return the metrics as text for the terminal."""
    count = (
        f"{metrics['num_images']} images, {metrics['objects']:,} objects: "
        f"MAE {metrics['MAE']:.2f}, RMSE {metrics['RMSE']:.2f}, NAE {metrics['NAE']:.3f}, "
        f"bias {metrics['bias']:+.2f}"
    )
    games = ", ".join(f"GAME({level}) {metrics[f'GAME_{level}']:.2f}" for level in range(4))
    places = (
        f"positions within {metrics['match_radius']:g} px: precision {metrics['precision']:.1f} %, "
        f"recall {metrics['recall']:.1f} %, F1 {metrics['F1']:.1f} %"
    )
    lines = [count, games, places]
    if "MAE_per_class" in metrics:
        rows = metrics["MAE_per_class"].items()
        lines.append("MAE by class: " + ", ".join(f"{name} {mae:.2f}" for name, mae in rows))
    return "\n".join(lines)


def key_figures(metrics: dict[str, Any]) -> list[KeyFigure]:
    """Choose the numbers at the head of the page."""
    radius = metrics["match_radius"]
    return [
        KeyFigure(f"{metrics['MAE']:.2f}", "MAE", "mean absolute error of a count"),
        KeyFigure(f"{metrics['RMSE']:.2f}", "RMSE", "root of the mean squared error"),
        KeyFigure(f"{metrics['bias']:+.2f}", "bias", "mean of predicted minus true"),
        KeyFigure(f"{metrics['F1']:.1f}", "F1", f"of positions within {radius:g} px, %"),
        KeyFigure(f"{metrics['objects']:,}", "objects", "in this split"),
        KeyFigure(f"{metrics['num_images']:,}", "images", "in this split"),
    ]


def sections(
    metrics: dict[str, Any],
    evaluator: CountEvaluator,
    tables: dict[str, Any],
    draw: Callable[[Sequence[int]], Iterator[Image.Image]],
) -> list[Section]:
    """Describe a validation; ``draw`` gives overlays of images by index."""
    predicted, true = evaluator.predicted.sum(axis=1), evaluator.true.sum(axis=1)
    charts = [_scatter(predicted, true), _by_density(predicted, true)]
    result: list[Section] = [
        _findings(metrics, predicted, true),
        Charts("Counts", [chart for chart in charts if chart is not None]),
    ]
    if "per_class.csv" in tables:
        result.append(_classes(tables["per_class.csv"]))
    result += _galleries(evaluator, predicted, true, draw)
    result.append(_images(tables["per_image.csv"]))
    return result


def _findings(metrics: dict[str, Any], predicted: Any, true: Any) -> Text:
    exact = int(np.count_nonzero(predicted == true))
    baseline = float(np.abs(true - np.median(true)).mean())
    sentences = [
        f"The count of {exact} of {len(true)} images is exact; on average it is off by "
        f"{metrics['MAE']:.2f} objects. Always answering the median, {np.median(true):g}, would "
        f"be off by {baseline:.2f}.",
        f"Of the {metrics['objects']:,} true points {metrics['recall']:.1f} % have a predicted one "
        f"within {metrics['match_radius']:g} pixels, and of the predicted points "
        f"{metrics['precision']:.1f} % a true one.",
    ]
    if abs(metrics["bias"]) > 0.5 * metrics["MAE"] and metrics["MAE"] > 0:
        word = "many" if metrics["bias"] > 0 else "few"
        sentences.append(
            f"Most errors go one way: the model counts {abs(metrics['bias']):.2f} objects too "
            f"{word} an image."
        )
    return Text("Findings", sentences)


def _scatter(predicted: Any, true: Any) -> Chart:
    """Predicted against true counts."""
    figure = new_figure(4.6, 4.2, 180)
    axes = figure.subplots()
    style_axes(axes, "true count", "predicted count")
    top = 1.05 * max(predicted.max(), true.max(), 1)
    axes.plot([0, top], [0, top], color=MUTED, linewidth=1.2, linestyle="--")
    axes.plot(true, predicted, "o", color=PALETTE["blue"], markersize=4.5, alpha=0.6)
    axes.set(xlim=(-0.02 * top, top), ylim=(-0.02 * top, top))
    return Chart("counts", "Predicted against true", figure, "On the dashed line counts are right.")


def _by_density(predicted: Any, true: Any) -> Chart | None:
    """Mean error of images by their true count."""
    edges = np.unique(np.quantile(true, np.linspace(0, 1, _GROUPS + 1)))
    if len(edges) < 3:
        return None
    groups = np.clip(np.searchsorted(edges, true, side="right") - 1, 0, len(edges) - 2)
    present = [k for k in range(len(edges) - 1) if (groups == k).any()]
    errors = [np.abs(predicted - true)[groups == k].mean() for k in present]
    biases = [(predicted - true)[groups == k].mean() for k in present]
    ranges = [(true[groups == k].min(), true[groups == k].max()) for k in present]
    names = [f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in ranges]
    figure = new_figure(4.6, 4.2, 180)
    axes = figure.subplots()
    style_axes(axes, "true count", "objects")
    places = np.arange(len(present))
    axes.bar(places, errors, 0.6, color=PALETTE["sky"], label="mean absolute error")
    axes.plot(places, biases, "D", color=PALETTE["vermilion"], markersize=6, label="bias")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(places, names)
    axes.legend(frameon=False, labelcolor=INK)
    note = "Images in groups of about equal size, from few objects to many."
    return Chart("errors", "Errors by density", figure, note)


def _classes(table: dict[str, Any]) -> Table:
    columns = [Column("class"), Column("true", 0), Column("count", 0), Column("MAE", 2)]
    columns += [Column(name, 1, bar=True) for name in ("precision", "recall", "F1")]
    rows = list(zip(*(table[column.name] for column in columns), strict=True))
    return Table("Classes", columns, rows, "Counts over all images; positions in percent.")


def _images(table: dict[str, Any]) -> Table:
    errors = [p - t for p, t in zip(table["count"], table["true"], strict=True)]
    columns = [Column("image"), Column("true", 0), Column("count", 0), Column("error", 0)]
    columns.append(Column("GAME(3)", 0))
    cells = (table["filename"], table["true"], table["count"], errors, table["GAME_3"])
    note = "GAME(3): errors of 8 x 8 cells added up."
    return Table("Images", columns, list(zip(*cells, strict=True)), note)


def _galleries(
    evaluator: CountEvaluator,
    predicted: Any,
    true: Any,
    draw: Callable[[Sequence[int]], Iterator[Image.Image]],
) -> Iterator[Gallery]:
    """Show the worst images, and the best among those with objects."""
    games = np.array([image.game[3] for image in evaluator.images])
    order = np.lexsort((-games, -np.abs(predicted - true)))
    worst = [int(k) for k in order[: min(_SHOWN, len(order) // 2)]]
    some = [int(k) for k in order[::-1] if true[k] > 0 and k not in worst]
    best = some[:_SHOWN]
    drawn = draw([*worst, *best])
    note = "Outlined in white are the blobs of pixels above one half, one for each object counted."
    for title, indices in (("Worst images", worst), ("Best images", best)):
        cards = []
        for index, image in zip(indices, drawn, strict=False):
            name = evaluator.images[index].name
            value = f"{predicted[index]} of {true[index]}"
            cards.append(Card(Path(name).name, [image], value, LEGEND))
        if cards:
            yield Gallery(title, cards, note)
