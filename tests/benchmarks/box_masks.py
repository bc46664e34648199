"""Draw boxes of photographs as pixel masks: are regions classified where objects are?

    python tests/benchmarks/box_masks.py --boxes DIR --images DIR --names fish --output DIR

A text file an image, a line a box: class number, center x and y, width and height as shares of the
image (the layout of YOLO). Larger boxes are drawn first, so that small ones stay visible; pixels
outside of boxes are "background".
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from helper_functions.data.masks import NAMES_FILE


def draw_boxes(text: str, width: int, height: int) -> Image.Image:
    """Return the mask of an image: 0 for the background, else class number + 1."""
    mask = np.zeros((height, width), np.uint8)
    boxes = [tuple(map(float, line.split())) for line in text.splitlines() if line.strip()]
    for k, x, y, w, h in sorted(boxes, key=lambda box: -box[3] * box[4]):
        left, top = max(int((x - w / 2) * width), 0), max(int((y - h / 2) * height), 0)
        right, bottom = int(np.ceil((x + w / 2) * width)), int(np.ceil((y + h / 2) * height))
        mask[top:bottom, left:right] = int(k) + 1
    return Image.fromarray(mask)


def main() -> None:
    """Write a mask for every image that has a file of boxes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boxes", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--names", nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / NAMES_FILE).write_text(json.dumps(["background", *args.names]))
    for path in sorted(args.images.iterdir()):
        boxes = args.boxes / f"{path.stem}.txt"
        if boxes.is_file():
            with Image.open(path) as image:
                mask = draw_boxes(boxes.read_text(), *image.size)
            mask.save(args.output / f"{path.stem}.png")


if __name__ == "__main__":
    main()
