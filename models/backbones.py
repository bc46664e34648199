"""Backbones by name: every timm model, with the original README's names as aliases."""

from __future__ import annotations

import difflib
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg, get_arch_pretrained_cfgs, get_deprecated_models
from torch import Tensor, nn

from models.failures import reason

# The names of the original README and the timm models with the same weights and arithmetic.
ALIASES = {
    "swin_b_224_22k": "swin_base_patch4_window7_224.ms_in22k",
    "swin_b_384_22k": "swin_base_patch4_window12_384.ms_in22k",
    "swin_l_224_22k": "swin_large_patch4_window7_224.ms_in22k",
    "swin_l_384_22k": "swin_large_patch4_window12_384.ms_in22k",
}


# What the model hub puts before timm's names.
_HUB_PREFIX = re.compile(r"^(hf[-_]hub:)?timm/")


class NoFeatureMapError(ValueError):
    """A backbone gives something else than a map before pooling."""


def timm_name(backbone_name: str) -> str:
    """Return the timm name behind a backbone name; ``timm/`` and ``hf-hub:timm/`` may precede it.

    Raises:
        ValueError: If timm knows no such model, or no such tag of it; the message lists the closest
            names, or the tags.
    """
    name = ALIASES.get(backbone_name) or _HUB_PREFIX.sub("", backbone_name)
    name = get_deprecated_models().get(name) or name
    architecture, dot, _ = name.partition(".")
    if not timm.is_model(architecture):
        last = name.rpartition("/")[2]
        similar = difflib.get_close_matches(last, [*ALIASES, *timm.list_models()], n=5)
        hint = f" Similar names: {', '.join(similar)}." if similar else ""
        raise ValueError(
            f"There is no backbone named {backbone_name!r}; use one of the README's names or any "
            f"model of timm {timm.__version__}.{hint}"
        )
    tagged = list(get_arch_pretrained_cfgs(architecture))
    if dot and name not in tagged:
        raise ValueError(
            f"The backbone {backbone_name!r} has a tag that timm {timm.__version__} does not know; "
            f"use {architecture} without a tag, or one of {', '.join(tagged)}."
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
def explained(
    backbone_name: str, advice: Callable[[], str] = lambda: "choose another backbone"
) -> Iterator[None]:
    """Turn what timm raises while it builds a backbone into one sentence.

    Args:
        backbone_name: As the user gave it.
        advice: Makes the end of the sentence, once it is needed.

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
    except Exception as error:  # settings are wrong in many ways
        raise ValueError(
            f"timm cannot build the backbone {backbone_name!r}: {reason(error)}; {advice()}."
        ) from error
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
    published = published_settings(backbone_name)

    def advice() -> str:
        text = "change --model-kwargs" if kwargs else "choose another backbone"
        if published.fixed_input_size and image_size is not None:
            text += size_hint(backbone_name, image_size, kwargs)
        return text

    with explained(backbone_name, advice):
        backbone = _build(backbone_name, image_size=image_size, pretrained=pretrained, **kwargs)
    if not hasattr(backbone, "forward_features") or not hasattr(backbone, "num_features"):
        raise ValueError(f"The backbone {backbone_name!r} offers no feature map before pooling.")
    return backbone


def _build(
    backbone_name: str, *, image_size: int | None, pretrained: bool = False, **kwargs: Any
) -> nn.Module:
    """Call ``timm.create_model`` for a backbone; raises whatever timm does."""
    if image_size is not None and published_settings(backbone_name).fixed_input_size:
        kwargs.setdefault("img_size", image_size)
    build = partial(
        timm.create_model, timm_name(backbone_name), pretrained=pretrained, num_classes=0
    )
    try:
        backbone: nn.Module = build(global_pool="", **kwargs)
    except (TypeError, AssertionError):  # some know no other pooling than their own
        backbone = build(**kwargs)
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


def _shapes_only(build: Callable[[], nn.Module]) -> Any:
    """Build a model without memory for its weights; with it, if it computes something with them."""
    try:
        with torch.device("meta"):
            return build()
    except (RuntimeError, TypeError, ValueError, AssertionError):
        return build()


def _strides(name: str, **settings: Any) -> list[int]:
    """Return the strides of the maps that a timm model gives."""
    encoder = _shapes_only(partial(timm.create_model, name, features_only=True, **settings))
    return list(encoder.feature_info.reduction())


def feature_map(backbone: nn.Module, images: Tensor) -> Tensor:
    """Compute features before pooling: images (B, 3, size, size) -> (B, C, H, W).

    Raises:
        ValueError: If the backbone gives neither a map nor square tokens.
    """
    features: object = backbone.forward_features(images)  # type: ignore[operator]
    channels = int(backbone.num_features)  # type: ignore[arg-type]
    if isinstance(features, Tensor) and features.ndim == 3 and features.shape[2] == channels:
        tokens = features[:, getattr(backbone, "num_prefix_tokens", 0) or 0 :]
        side = math.isqrt(tokens.shape[1])
        if side * side == tokens.shape[1]:
            # -1, not the length of the batch, which tracing would take for a constant.
            return tokens.transpose(1, 2).reshape(-1, channels, side, side)
    if isinstance(features, Tensor) and features.ndim == 4:
        last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
        return features.permute(0, 3, 1, 2) if last else features
    raise NoFeatureMapError(
        f"The backbone {type(backbone).__name__} gives no feature map (B, C, H, W); choose another."
    )


def size_hint(backbone_name: str, image_size: int, settings: dict[str, Any]) -> str:
    """Return which sizes near one that a backbone refuses it takes, as the end of a sentence.

    Args:
        backbone_name: As for ``create_backbone``.
        image_size: The size that it refuses.
        settings: Further arguments of ``create_backbone``.
    """
    published = published_settings(backbone_name).input_size[-1]
    near = {side * (image_size // side + up) for side in (14, 32, 64) for up in (0, 1)}
    sizes = [
        str(size)
        for size in sorted({published, *near} - {0, image_size})
        if _takes(backbone_name, size, settings)
    ]
    return f", or --image-size (such as {', '.join(sizes)})" if sizes else ""


def _takes(backbone_name: str, image_size: int, settings: dict[str, Any]) -> bool:
    """Return whether a backbone maps images of a size, by shapes alone."""
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            build = partial(_build, backbone_name, image_size=image_size, **settings)
            backbone = _shapes_only(build).eval()
            with next(backbone.parameters()).device:
                feature_map(backbone, torch.zeros(1, 3, image_size, image_size))
    except Exception:  # backbones refuse in many ways
        return False
    return True
