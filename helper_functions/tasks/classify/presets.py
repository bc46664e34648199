"""Settings by name: what is known of the paper's data sets, and the training recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Expectations of a data set: figures to compare with, never another way through the code.

    Attributes:
        num_classes: Classes that a complete split CSV names; ``None``: whatever it names.
        image_size: Side in pixels that pictures are resized to.
        note: One sentence for whoever starts a run.
    """

    num_classes: int | None
    image_size: int
    note: str


PRESETS = {
    "treesatai": Preset(
        15, 224, "TreeSatAI: 304 x 304 aerial tiles, 15 genera above an area share of 7 %."
    ),
    "geolifeclef": Preset(
        5016, 224, "GeoLifeCLEF 2024: 128 x 128 satellite patches around presence-absence surveys."
    ),
    "fathomnet": Preset(
        290, 224, "FathomNet 2023: 290 categories, of which 133 have training pictures."
    ),
    "shiprsimagenet": Preset(50, 224, "ShipRSImageNet: level 3 has 50 classes, Dock among them."),
    "csv": Preset(None, 224, "A split CSV of your own."),
}

# What --recipe changes in the defaults of train.py; see "Does it help?" in the README.
RECIPES: dict[str, dict[str, Any]] = {
    "released": {},
    "recommended": {
        "normalize": "backbone",
        "cutout": 0.0,
        "rand_augment": False,
        "horizontal_flip": True,
        "head_lr_factor": 10.0,
        "vdsm": "nearest",
        "nms_weight": 30.0,
    },
}
