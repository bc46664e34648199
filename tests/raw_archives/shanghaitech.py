"""ShanghaiTech as it is unpacked: a folder a part, images by number, heads as MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io

from raw_archives.images import save

TRAIN, TEST = (1, 2, 3, 9, 10, 11, 100), (1, 2)
SIDE = 32


def heads(number: int) -> list[tuple[float, float]]:
    """x and y in MATLAB's coordinates: (1, 1) is the center of the first pixel."""
    return [] if number == 3 else [(1.0, 1.0), (number % 30 + 0.25, 20.5), (32.4, 32.0)]


def write(raw: Path, part: str = "part_B", truth: str = "ground-truth") -> None:
    for subset, numbers in (("train", TRAIN), ("test", TEST)):
        folder = raw / part / f"{subset}_data"
        (folder / truth).mkdir(parents=True)
        for number in numbers:
            save(folder / "images" / f"IMG_{number}.jpg", number)
            locations = np.array(heads(number), float).reshape(-1, 2)
            # MATLAB: image_info{1}.location, image_info{1}.number
            info = np.empty((1, 1), object)
            info[0, 0] = {"location": locations, "number": float(len(locations))}
            path = folder / truth / f"GT_IMG_{number}.mat"
            scipy.io.savemat(path, {"image_info": info}, do_compression=number % 2 == 0)
