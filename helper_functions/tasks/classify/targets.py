"""Targets of multi-label classification."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from helper_functions.data.splits import Sample
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.lookalikes import contrast, find_look_alike


class MultiHotTargets(Sequence[Tensor]):
    """Targets of multi-label samples: 0/1 float32 (K,) each, stored as class indices.

    Args:
        samples: Rows of a split CSV.
        classes: Class names in the order of the logits.
        source: The CSV, for messages.

    Raises:
        UserError: If a label is none of the classes.
    """

    def __init__(self, samples: Sequence[Sample], classes: Sequence[str], source: Path) -> None:
        class_index = {name: index for index, name in enumerate(classes)}
        self.num_classes = len(classes)
        self.indices: list[list[int]] = []
        for sample in samples:
            for name in sample.labels:
                if name not in class_index:
                    shown, hint = repr(name), ""
                    if alike := find_look_alike(name, classes):
                        shown, known = contrast(name, alike)
                        hint = f" One of them is {known}, which looks the same."
                    raise UserError(
                        f"{source}, line {sample.line}: the model does not know the class "
                        f"{shown}; it was trained on {len(classes)} others.{hint}"
                    )
            self.indices.append([class_index[name] for name in sample.labels])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        target = torch.zeros(self.num_classes)
        target[self.indices[index]] = 1
        return target
