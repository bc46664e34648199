"""A tiny set to count in: discs of which each has one point."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from helper_functions.checkpoints.checkpoint import save_checkpoint
from models import create_network


def write_discs(
    folder: Path,
    counts: dict[str, list[int]],
    size: int = 40,
    label: str | None = None,
    one_size: bool = False,
) -> None:
    """Draw images with that many discs a split, and their points."""
    (folder / "images").mkdir(parents=True)
    splits, points = [["filename", "split"]], [["filename", "x", "y"] + ["label"] * bool(label)]
    rng = random.Random(0)
    for split, numbers in counts.items():
        for index, number in enumerate(numbers):
            width = size + 8 * (index % 2) * (not one_size)
            image = Image.new("RGB", (width, size), (60, 70, 60))
            draw, centers = ImageDraw.Draw(image), list[tuple[int, int]]()
            while len(centers) < number:
                x, y = rng.randrange(5, width - 5), rng.randrange(5, size - 5)
                if all(math.dist((x, y), other) > 13 for other in centers):
                    centers.append((x, y))
            name = f"{split}_{index}.png"
            for k, (x, y) in enumerate(centers):
                blue = label is not None and k % 2
                color = (60, 80, 230) if blue else (230, 210, 90)
                draw.ellipse((x - 4, y - 4, x + 4, y + 4), color)
                kind = [["gold", "blue"][int(blue)]] if label else []
                points.append([name, str(x), str(y), *kind])
            image.save(folder / "images" / name)
            splits.append([name, split])
    for name, rows in (("splits.csv", splits), ("points.csv", points)):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)


def flags_of(folder: Path) -> tuple[object, ...]:
    """The flags that name a set."""
    return (
        *("--img_dir", folder / "images", "--csv_path", folder / "splits.csv"),
        *("--points-path", folder / "points.csv"),
    )


def save_model(path: Path) -> Path:
    """Save an untrained small network, whose logits are near 0."""
    torch.manual_seed(0)
    network = create_network("dilated", 1, output_bias=0.0)
    info = {"task": "count", "classes": ["object"], "scale": 1.0, "loss_mode": "released"}
    info |= {"image_size": None, "mean": None, "std": None}
    content = {"settings": network.settings, "model": network.state_dict(), "info": info}
    save_checkpoint(path, {"architecture": network.architecture, **content, "args": {}})
    return path
