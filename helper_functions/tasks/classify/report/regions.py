"""What masks say of the regions."""

from __future__ import annotations

from typing import Any

from helper_functions.results.report import Column, Table


def regions_table(metrics: dict[str, Any]) -> list[Table]:
    """Compare regions with masks; without masks there is no table."""
    if "region_grid" not in metrics:
        return []
    rows, columns = metrics["region_grid"]
    ways = (("classes of the regions", ""), ("image's top class", "_majority"))
    lines: list[list[str | float | None]] = [
        [name, *(metrics[f"region_{key}{suffix}"] for key in ("purity", "accuracy", "miou"))]
        for name, suffix in ways
    ]
    note = (
        f"In percent, on {rows} x {columns} cells an image. Purity: the predicted class is shown "
        "in the cell; accuracy: it covers most of it; mIoU: of the pixels, mean over classes."
    )
    return [
        Table(
            "Regions against masks",
            [
                Column("every cell takes"),
                *(Column(name, 1) for name in ("purity", "accuracy", "mIoU")),
            ],
            [*lines, ["a random class", metrics["region_purity_chance"], None, None]],
            note,
        )
    ]
