"""The strongest splines of a KAN head, drawn for TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from helper_functions.results.style import INK, PALETTE, fold, new_figure, to_image
from models import VoLUNet
from models.kan import KANLinear, WICClassifier

_CLASSES = 6
_LINE_LENGTH = 40  # letters of a line of a class's name


@torch.no_grad()
def draw_splines(model: VoLUNet, classes: Sequence[str]) -> Image.Image | None:
    """Draw what a KAN head makes of its strongest input, for each of the first classes.

    Returns:
        ``None`` for a head without splines.
    """
    layer = model.head.layers[0] if isinstance(model.head, WICClassifier) else None
    if not isinstance(layer, KANLinear):
        return None
    strength = (layer.spline_weight.norm(dim=2) * layer.spline_scaler.abs()).cpu()
    figure = new_figure(12, 6.5)
    for k, axis in enumerate(figure.subplots(2, _CLASSES // 2).flat):
        if k >= len(classes):
            axis.axis("off")
            continue
        channel = int(strength[k].argmax())
        knots = layer.grid[channel].cpu()
        x = torch.linspace(float(knots[0]), float(knots[-1]), 200)
        inputs = torch.zeros(len(x), layer.in_features, device=layer.grid.device)
        inputs[:, channel] = x.to(inputs.device)
        others = layer(torch.zeros_like(inputs[:1]))[0, k]  # what all the other inputs add at 0
        axis.plot(x, (layer(inputs)[:, k] - others).float().cpu(), color=PALETTE["blue"])
        inner = float(knots[layer.spline_order]), float(knots[-layer.spline_order - 1])
        axis.axvspan(*inner, color=PALETTE["sky"], alpha=0.15)
        name = fold(classes[k], _LINE_LENGTH, 2)
        axis.set_title(f"{name}, channel {channel}", fontsize=9, color=INK)
    return to_image(figure)
