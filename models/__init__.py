"""The model: tensors in, tensors out, unaware of arguments and data sets."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.backbones import create_backbone
from models.inplace_abn import DEFAULT, INPLACE_ABN, NORMS, use_inplace_abn
from models.pretrained import load_backbone_weights
from models.volunet import RegionScores, TrainingOutput, VoLUNet

__all__ = ["RegionScores", "TrainingOutput", "VoLUNet", "create_model"]


def create_model(
    backbone_name: str,
    num_classes: int,
    *,
    subsampling: bool = False,
    sub_h: int = 4,
    sub_w: int = 4,
    min_superpixels: int = 6,
    vdsm: str = "released",
    head: str = "kan",
    kan_grid_size: int = 5,
    kan_spline_order: int = 3,
    kan_grid_range: Sequence[float] = (-1.0, 1.0),
    norm: str = DEFAULT,
    pretrained: bool = False,
    model_path: str | Path | None = None,
    image_size: int | None = None,
    **kwargs: Any,
) -> VoLUNet:
    """Build a VoLUNet.

    Args:
        backbone_name: A name of the original README (``tresnet_l``, ``swin_b_224_22k``, ...) or any
            timm model.
        num_classes: K.
        subsampling: Average the feature map to ``sub_h`` x ``sub_w`` cells before VDSM.
        sub_h: Rows after subsampling.
        sub_w: Columns after subsampling.
        min_superpixels: ``h*w - min_superpixels`` edges merge; 0 turns VDSM off.
        vdsm: ``released``, ``corrected`` or ``nearest``.
        head: ``kan`` is the WIC-Classifier, ``linear`` a plain layer to compare it with.
        kan_grid_size: Intervals of the KAN head's spline grid.
        kan_spline_order: Degree of its splines.
        kan_grid_range: Ends of the grid.
        norm: ``default``, or ``inplace-abn`` for TResNet with less activation memory.
        pretrained: Fetch timm's published weights for the backbone.
        model_path: A weights file for the backbone. Tensors that do not fit are named in a warning.
        image_size: Side of the pictures; needed where a backbone's layers depend on it.
        **kwargs: Handed on to ``timm.create_model``.

    Raises:
        ValueError: If a setting, a name or a file is unusable; the message is for people.
    """
    if norm not in NORMS:
        raise ValueError(f"Unknown norm {norm!r}; choose {' or '.join(NORMS)}.")
    backbone = create_backbone(
        backbone_name, pretrained=pretrained, image_size=image_size, **kwargs
    )
    if model_path is not None:
        report = load_backbone_weights(backbone, Path(model_path))
        not_loaded = report.missing + report.mismatched
        if not_loaded:
            warnings.warn(
                f"{model_path} lacks {len(not_loaded)} of the backbone's tensors, which keep their "
                f"initial values: {', '.join(not_loaded)}.",
                stacklevel=2,
            )
        if report.unused:
            warnings.warn(
                f"{len(report.unused)} tensors of {model_path} have no place in the backbone: "
                f"{', '.join(report.unused)}.",
                stacklevel=2,
            )
    if norm == INPLACE_ABN:
        use_inplace_abn(backbone)
    model_settings: dict[str, Any] = {
        "subsampling": subsampling,
        "sub_h": sub_h,
        "sub_w": sub_w,
        "min_superpixels": min_superpixels,
        "vdsm": vdsm,
        "head": head,
        "kan_grid_size": kan_grid_size,
        "kan_spline_order": kan_spline_order,
        "kan_grid_range": list(kan_grid_range),
    }
    model = VoLUNet(backbone, num_classes, **model_settings)
    model.settings = {
        "backbone_name": backbone_name,
        "num_classes": num_classes,
        **model_settings,
        "norm": norm,
        "image_size": image_size,
        **kwargs,
    }
    return model
