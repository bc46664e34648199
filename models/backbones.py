"""Backbones by name: every timm model, with the original README's names as aliases."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg
from torch import Tensor, nn

# The names of the original README and the timm models with the same weights and arithmetic.
ALIASES = {
    "swin_b_224_22k": "swin_base_patch4_window7_224.ms_in22k",
    "swin_b_384_22k": "swin_base_patch4_window12_384.ms_in22k",
    "swin_l_224_22k": "swin_large_patch4_window7_224.ms_in22k",
    "swin_l_384_22k": "swin_large_patch4_window12_384.ms_in22k",
}


def timm_name(backbone_name: str) -> str:
    """Return the timm name behind a backbone name.

    Raises:
        ValueError: If timm knows no such model; the message lists the closest names.
    """
    name = ALIASES.get(backbone_name, backbone_name)
    if not timm.is_model(name.split(".")[0]):
        similar = difflib.get_close_matches(name, [*ALIASES, *timm.list_models()], n=5)
        hint = f" Similar names: {', '.join(similar)}." if similar else ""
        raise ValueError(
            f"There is no backbone named {backbone_name!r}; use one of the README's names or any "
            f"model of timm {timm.__version__}.{hint}"
        )
    return name


def published_settings(backbone_name: str) -> PretrainedCfg:
    """Return timm's record of a model's published weights: input size, mean, std.

    Raises:
        ValueError: If timm has none.
    """
    name = timm_name(backbone_name)
    settings = timm.get_pretrained_cfg(name)
    if settings is None:
        raise ValueError(f"timm publishes no settings for {backbone_name!r}; check its tag.")
    return settings


@contextmanager
def explained(backbone_name: str) -> Iterator[None]:
    """Turn what timm raises while it builds a backbone into one sentence.

    Raises:
        ValueError: For unreachable weights or settings that the model refuses.
    """
    hub_log = logging.getLogger("huggingface_hub")
    level = hub_log.level
    hub_log.setLevel(logging.CRITICAL)  # its retries would bury the one sentence below
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"The published weights of {backbone_name!r} could not be fetched from the model hub; "
            f"go online once, or download the file elsewhere and pass it with --model-path."
        ) from error
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"timm cannot build the backbone {backbone_name!r}: {reason}") from error
    finally:
        hub_log.setLevel(level)


def create_backbone(
    backbone_name: str, *, pretrained: bool = False, image_size: int | None = None, **kwargs: Any
) -> nn.Module:
    """Build a timm model without its classifier.

    Args:
        backbone_name: An alias of the original README or a timm model name, with or without a tag.
        pretrained: Fetch timm's published weights.
        image_size: Handed to models whose layers depend on the input size (Swin, ViT).
        **kwargs: Handed on to ``timm.create_model``.

    Raises:
        ValueError: For an unknown name, unreachable weights or settings that the model refuses.
    """
    name = timm_name(backbone_name)
    build = partial(timm.create_model, name, pretrained=pretrained, num_classes=0)
    if image_size is not None and published_settings(backbone_name).fixed_input_size:
        kwargs.setdefault("img_size", image_size)
    with explained(backbone_name):
        try:
            backbone: nn.Module = build(global_pool="", **kwargs)
        except (TypeError, AssertionError):  # some know no other pooling than their own
            backbone = build(**kwargs)
    if not hasattr(backbone, "forward_features") or not hasattr(backbone, "num_features"):
        raise ValueError(f"The backbone {backbone_name!r} offers no feature map before pooling.")
    return backbone


@lru_cache
def check_pyramid(backbone_name: str, output_stride: int = 32) -> None:
    """Make sure that a backbone can be the encoder of an encoder-decoder.

    Args:
        backbone_name: As for ``create_backbone``.
        output_stride: Stride of the last map, below 32 by dilated convolutions.

    Raises:
        ValueError: If it has no maps at strides 4, 8, 16 and 32, or cannot be dilated.
    """
    name = timm_name(backbone_name)
    with explained(backbone_name):
        strides = _strides(name)
    if strides[-4:] != [4, 8, 16, 32] or strides[:-4] not in ([], [2], [1, 2]):
        raise ValueError(
            f"An encoder needs maps at strides 4, 8, 16 and 32, but those of {backbone_name!r} are "
            f"at {', '.join(map(str, strides))}; choose a convolutional or hierarchical backbone, "
            f"such as resnet18."
        )
    if output_stride == 32:
        return
    try:
        _strides(name, output_stride=output_stride)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(
            f"The backbone {backbone_name!r} cannot keep its last maps at stride {output_stride}; "
            f"choose another, such as resnet18, or the network unet or fpn."
        ) from error


def _strides(name: str, **settings: Any) -> list[int]:
    """Return the strides of the maps that a timm model gives."""
    build = partial(timm.create_model, name, features_only=True, **settings)
    try:
        with torch.device("meta"):  # without memory
            encoder = build()
    except (RuntimeError, TypeError, ValueError, AssertionError):  # some compute with weights
        encoder = build()
    return list(encoder.feature_info.reduction())


def feature_map(backbone: nn.Module, images: Tensor) -> Tensor:
    """Compute features before pooling: images (B, 3, size, size) -> (B, C, H, W).

    Raises:
        ValueError: If the backbone gives neither a map nor square tokens.
    """
    features: object = backbone.forward_features(images)  # type: ignore[operator]
    channels = backbone.num_features
    if isinstance(features, Tensor) and features.ndim == 3 and features.shape[2] == channels:
        tokens = features[:, getattr(backbone, "num_prefix_tokens", 0) or 0 :]
        side = math.isqrt(tokens.shape[1])
        if side * side == tokens.shape[1]:
            return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
    if isinstance(features, Tensor) and features.ndim == 4:
        last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
        return features.permute(0, 3, 1, 2) if last else features
    raise ValueError(
        f"The backbone {type(backbone).__name__} gives no feature map (B, C, H, W); choose another."
    )
