"""Names and layouts of published weights, translated to those of this project.

Published backbones come under their own names (official TResNet and Swin ``.pth``, torchvision),
wrapped by a training script or not; whole checkpoints of the authors' released VoLUNet as bare
state dicts ``backbone.<original names>``, ``WIC_Cls.layers.0.<KAN names>``.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones import create_backbone
from models.fcn8 import HIDDEN

# Keys under which training scripts put the weights, moving averages first.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")

# Places of the convolutions of torchvision's VGG16, stages three to five.
_VGG16_DEEP = (10, 12, 14, 17, 19, 21, 24, 26, 28)

_BACKBONE, _HEAD = "backbone.", "WIC_Cls."
_UNUSED = ("backbone.head.", "backbone.fc.")  # the backbone's own classifier, never called
_HEAD_WEIGHT = "WIC_Cls.layers.0.base_weight"

# Backbones of the released program, by what tells them apart in a state dict.
_TRESNET_BY_CHANNELS = {2048: "tresnet_m", 2432: "tresnet_l"}
_RESNET_BY_LAYER3 = {(2, False): "resnet18", (6, True): "resnet50", (23, True): "resnet101"}
_SWIN_BY_WIDTH = {128: "swin_b", 192: "swin_l"}
_SWIN_BY_OFFSETS = {169: 224, 529: 384}  # (2 * window - 1)^2 offsets for windows of 7 and 12 cells


def unwrap(content: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a file, without wrappers and DistributedDataParallel's prefix."""
    for key in _WRAPPERS:
        if isinstance(content.get(key), dict):
            return unwrap(content[key])
    return {
        name.removeprefix("module."): value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }


def to_timm_names(tensors: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Translate an architecture's published names and layouts to timm's, by timm's own filter.

    For TResNet that filter also turns the gains of in-place ABN into those of batch norm: in-place
    ABN scales by |weight| + 1e-5, and only its layers are called ``bn`` after the translation.

    Raises:
        ValueError: If the weights are visibly for another architecture.
    """
    translate = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    try:
        return translate(tensors, backbone) if translate else tensors
    except (KeyError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"The weights do not fit the backbone {type(backbone).__name__}; are they for another "
            f"architecture?"
        ) from error


def fcn8_from_vgg16(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's VGG16 to the hidden layers of FCN8: its linear layers convolve there.

    The 1,000 classes of ``classifier.6`` are left out.
    """
    convolutions = (f"features.{number}" for number in (0, 2, 5, 7, *_VGG16_DEEP))
    sources = [*convolutions, "classifier.0", "classifier.3"]
    state = {
        f"{layer}.{kind}": tensors[f"{source}.{kind}"]
        for layer, source in zip(HIDDEN, sources, strict=True)
        for kind in ("weight", "bias")
        if f"{source}.{kind}" in tensors
    }
    for name, side in (("fc6.weight", 7), ("fc7.weight", 1)):
        if name in state and state[name].shape[1:].numel() % side**2 == 0:
            state[name] = state[name].reshape(len(state[name]), -1, side, side)
    return state


def is_released_checkpoint(content: dict[str, Any]) -> bool:
    """Return whether a file is a checkpoint of the authors' released program."""
    return any(name.startswith(_HEAD) for name in unwrap(content))


def _released_backbone(tensors: dict[str, Tensor], channels: int) -> tuple[str, int]:
    """Return name and image size of the backbone of a released checkpoint."""
    if "backbone.body.conv1.0.weight" in tensors and channels in _TRESNET_BY_CHANNELS:
        return _TRESNET_BY_CHANNELS[channels], 224
    if "backbone.layer3.0.conv1.weight" in tensors:
        blocks = {name.split(".")[2] for name in tensors if name.startswith("backbone.layer3.")}
        layer3 = (len(blocks), "backbone.layer3.0.conv3.weight" in tensors)
        if layer3 in _RESNET_BY_LAYER3:
            return _RESNET_BY_LAYER3[layer3], 224
    embedding = tensors.get("backbone.patch_embed.proj.weight")
    offsets = tensors.get("backbone.layers.0.blocks.0.attn.relative_position_bias_table")
    if embedding is not None and offsets is not None:
        width, size = _SWIN_BY_WIDTH.get(len(embedding)), _SWIN_BY_OFFSETS.get(len(offsets))
        if width and size:
            return f"{width}_{size}_22k", size
    raise ValueError("its backbone is none of the released program's (TResNet, ResNet, Swin)")


def convert_released_checkpoint(content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Turn a checkpoint of the released program into settings and state dict of this one.

    Returns:
        Arguments of ``create_model`` (backbone, class count and image size follow from the
        tensors), and the state dict of the model that it builds.

    Raises:
        ValueError: If the backbone is unknown or tensors are missing.
    """
    tensors = unwrap(content)
    if _HEAD_WEIGHT not in tensors:
        raise ValueError(f"it lacks the tensor {_HEAD_WEIGHT}")
    num_classes, channels = tensors[_HEAD_WEIGHT].shape
    backbone_name, image_size = _released_backbone(tensors, channels)
    original = {
        name.removeprefix(_BACKBONE): value
        for name, value in tensors.items()
        if name.startswith(_BACKBONE) and not name.startswith(_UNUSED)
    }
    backbone = create_backbone(backbone_name, image_size=image_size)
    translated = to_timm_names(original, backbone)
    for name in backbone.state_dict():
        if name.endswith("num_batches_tracked"):  # in-place ABN keeps no such count
            translated.setdefault(name, torch.tensor(0))
    missing = [name for name in backbone.state_dict() if name not in translated]
    if missing:
        raise ValueError(f"it lacks {len(missing)} tensors of a {backbone_name}: {missing[0]}, ...")
    state = {f"backbone.{name}": translated[name] for name in backbone.state_dict()}
    for name, value in tensors.items():
        if name.startswith(_HEAD):
            state[f"head.{name.removeprefix(_HEAD)}"] = value
    settings = {"backbone_name": backbone_name, "num_classes": num_classes}
    return {**settings, "image_size": image_size}, state
