"""Dense networks by name: images (B, 3, H, W) -> logits (B, num_outputs, H, W), any H and W.

The encoder-decoders come from segmentation-models-pytorch, on any encoder of timm with maps at
strides 4 to 32, and from torchvision.
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.backbones import (
    check_pyramid,
    create_backbone,
    explained,
    timm_name,
)
from models.fcn8 import FCN8VGG16, HIDDEN
from models.legacy import fcn8_from_vgg16, unwrap
from models.pretrained import (
    copy_weights,
    load_encoder_weights,
    read_state_dict,
    warn_of_differences,
)

SMP = {"unet": smp.Unet, "fpn": smp.FPN, "deeplabv3plus": smp.DeepLabV3Plus}
TORCHVISION = ("deeplabv3_resnet50", "deeplabv3_resnet101", "fcn_resnet50", "fcn_resnet101")
NETWORKS = ("fcn8_vgg16", "dilated", *SMP, *TORCHVISION)
DEFAULT_BACKBONE = "resnet18"

_OUTPUT_STRIDE = {"deeplabv3plus": 16}  # of the encoder's last map, where it is not 32

_LAST_WEIGHT = 0.05  # factor of an encoder-decoder's last weights, if its last bias is chosen

# The bias of the layer that makes the logits.
_LAST_BIAS = {
    "fcn8_vgg16": "scoring_layer.bias",
    "dilated": "head.bias",
    **dict.fromkeys(SMP, "network.segmentation_head.0.bias"),
    **dict.fromkeys(TORCHVISION, "network.classifier.4.bias"),
}


class Dilated(nn.Module):
    """A small network for small images and CPUs: five dilated convolutions of 24 channels.

    Its receptive field is 19 x 19 pixels. The bias of the logits starts at -2.
    """

    architecture = "network"
    settings: dict[str, Any]  # arguments of ``create_network`` that build the same, as plain data

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for dilation in (1, 1, 2, 4, 1):
            layers.append(nn.Conv2d(channels, 24, 3, padding=dilation, dilation=dilation))
            layers += [nn.GroupNorm(4, 24), nn.ReLU(inplace=True)]
            channels = 24
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(24, num_outputs, kernel_size=1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, -2.0)
        self.settings = {}

    def forward(self, images: Tensor) -> Tensor:
        """Score every pixel: images (B, 3, H, W) -> logits (B, num_outputs, H, W)."""
        logits: Tensor = self.head(self.body(images))
        return logits


class EncoderDecoder(nn.Module):
    """A network of another library, for images of any size.

    Images are padded at the right and at the bottom to a multiple of the stride, by repeating the
    last row and column, and the logits are cropped. A batch norm that sees a single value of each
    channel in training, as after DeepLab's global pooling in a batch of one, uses its running
    statistics, where PyTorch would refuse it.

    Args:
        network: Maps images whose sides are multiples of the stride to logits, or to a dictionary
            with the logits under ``out``.
        stride: In pixels.
    """

    architecture = "network"
    settings: dict[str, Any]  # arguments of ``create_network`` that build the same, as plain data

    def __init__(self, network: nn.Module, stride: int = 1) -> None:
        super().__init__()
        self.network = network
        self.stride = stride
        self.settings = {}
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.register_forward_pre_hook(_before_norm)
                module.register_forward_hook(_after_norm, always_call=True)

    def forward(self, images: Tensor) -> Tensor:
        """Score every pixel: images (B, 3, H, W) -> logits (B, num_outputs, H, W)."""
        height, width = images.shape[2:]
        below, right = -height % self.stride, -width % self.stride
        if below or right:
            images = F.pad(images, (0, right, 0, below), mode="replicate")
        output = self.network(images)
        logits: Tensor = output["out"] if isinstance(output, dict) else output
        return logits[:, :, :height, :width] if below or right else logits

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the activations of an encoder of timm twice instead of keeping them.

        Raises:
            AttributeError: If timm knows no way for this encoder, or it is torchvision's.
        """
        self.network.get_submodule("encoder.model").set_grad_checkpointing(enable)  # type: ignore[operator]


def _before_norm(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    if norm.training and inputs[0].numel() == inputs[0].shape[1]:
        norm.training, norm.single_value = False, True  # type: ignore[assignment]


def _after_norm(norm: nn.Module, _inputs: tuple[Tensor], _output: Tensor) -> None:
    if norm.__dict__.pop("single_value", False):
        norm.training = True


def create_network(
    name: str,
    num_outputs: int,
    backbone_name: str | None = None,
    model_path: str | Path | None = None,
    pretrained: bool = False,
    *,
    output_bias: float | None = None,
    **settings: Any,
) -> nn.Module:
    """Build a network that scores every pixel.

    Args:
        name: One of ``NETWORKS``.
        num_outputs: Channels of the logits.
        backbone_name: The encoder of ``unet``, ``fpn`` and ``deeplabv3plus``: an alias of
            ``models.backbones`` or any timm model with maps at strides 4 to 32 (``resnet18``).
        model_path: A weights file: of the encoder as for ``create_model``; for ``fcn8_vgg16``
            torchvision's VGG16 or a released LCFCN checkpoint; for torchvision's networks their
            weights for COCO, without the head, or a ResNet for ImageNet. Tensors that do not fit
            are named in a warning.
        pretrained: Fetch published weights of the same kind.
        output_bias: Start of the last layer's bias, near which all logits then start; ``None``
            leaves the network's own (-2 for ``dilated``). Not for ``fcn8_vgg16``, whose logits
            start at 0.
        **settings: Further arguments of the encoder-decoders: ``decoder_...`` of
            segmentation-models-pytorch, all others go to ``timm.create_model``.

    Raises:
        ValueError: If a setting, a name or a file is unusable; the message is for people.
    """
    if name not in NETWORKS:
        raise ValueError(f"Unknown network {name!r}; choose one of {', '.join(NETWORKS)}.")
    if num_outputs < 1:
        raise ValueError(f"A network needs at least one output, not {num_outputs}.")
    if name in SMP:
        backbone_name = backbone_name or DEFAULT_BACKBONE
    elif settings:
        raise ValueError(f"The network {name} has no settings: leave out {', '.join(settings)}.")
    elif backbone_name is not None:
        warnings.warn(
            f"The network {name} has a backbone of its own: {backbone_name} is not used.",
            stacklevel=2,
        )
        backbone_name = None
    if name == "dilated" and (pretrained or model_path):
        raise ValueError("The network dilated starts untrained: leave out the weights.")
    if name == "fcn8_vgg16" and output_bias is not None:
        raise ValueError("The logits of fcn8_vgg16 start at 0: leave out output_bias.")

    network: FCN8VGG16 | Dilated | EncoderDecoder
    path = None if model_path is None else Path(model_path)
    if name == "fcn8_vgg16":
        network = _fcn8(num_outputs, path, pretrained)
    elif name == "dilated":
        network = Dilated(num_outputs)
    elif name in SMP:
        assert backbone_name is not None
        network = _encoder_decoder(name, num_outputs, backbone_name, path, pretrained, settings)
    else:
        network = _torchvision(name, num_outputs, path, pretrained)
    if output_bias is not None:
        nn.init.constant_(network.get_parameter(_LAST_BIAS[name]), output_bias)
        if isinstance(network, EncoderDecoder):
            # Else features of a fresh decoder outweigh it.
            weight = network.get_parameter(_LAST_BIAS[name].replace(".bias", ".weight"))
            weight.data.mul_(_LAST_WEIGHT)
    network.settings = {
        "name": name,
        "num_outputs": num_outputs,
        "backbone_name": backbone_name,
        "output_bias": output_bias,
        **settings,
    }
    return network


def _fcn8(num_outputs: int, path: Path | None, pretrained: bool) -> FCN8VGG16:
    if path is not None:
        state = unwrap(read_state_dict(path))
    elif pretrained:
        path, state = Path("VGG16"), _published("vgg16")
    else:
        return FCN8VGG16(num_outputs)
    network = FCN8VGG16(num_outputs, initialize=False)
    own, vgg16 = network.state_dict(), "features.0.weight" in state
    if vgg16:
        state = fcn8_from_vgg16(state)
    unfit = [key for key in own if key not in state or state[key].shape != own[key].shape]
    network.initialize({key.split(".")[0] for key in unfit}.intersection(HIDDEN))
    report = copy_weights(network, state, path)
    if vgg16:  # it has no counterpart of the scores
        missing = [key for key in report.missing if key.split(".")[0] in HIDDEN]
        report = dataclasses.replace(report, missing=missing)
    warn_of_differences(report, path)
    return network


def _encoder_decoder(
    name: str,
    num_outputs: int,
    backbone_name: str,
    path: Path | None,
    pretrained: bool,
    settings: dict[str, Any],
) -> EncoderDecoder:
    check_pyramid(backbone_name, _OUTPUT_STRIDE.get(name, 32))
    timm_settings = {
        key: value
        for key, value in settings.items()
        if key not in inspect.signature(SMP[name].__init__).parameters
    }
    fixed = {
        "encoder_name": f"tu-{timm_name(backbone_name)}",
        "encoder_weights": True if pretrained else None,
        "in_channels": 3,
        "classes": num_outputs,
        "activation": None,
        "aux_params": None,
    }
    if taken := sorted(fixed.keys() & settings.keys()):
        raise ValueError(f"The network {name} sets {', '.join(taken)} itself: leave that out.")
    with explained(backbone_name):
        try:  # Swin adapts to the image, if told not to insist on the published size
            network = SMP[name](**fixed, **{"strict_img_size": False, **settings})
        except TypeError:
            network = SMP[name](**fixed, **settings)
    if path is not None:
        whole = create_backbone(backbone_name, **timm_settings)
        warn_of_differences(load_encoder_weights(network.encoder.model, whole, path), path)
    wrapped = EncoderDecoder(network, stride=network.encoder.output_stride)
    _check_sizes(wrapped, name, backbone_name)
    return wrapped


@torch.no_grad()
def _check_sizes(network: EncoderDecoder, name: str, backbone_name: str) -> None:
    """Make sure that images need not have the size that an encoder was published for.

    Raises:
        ValueError: If they need to.
    """
    network.eval()
    height, width = network.stride, 3 * network.stride  # odd numbers of cells are the hardest
    image = torch.zeros(1, 3, height, width, device=next(network.parameters()).device)
    try:
        fits = network(image).shape[2:] == image.shape[2:]
        reason = "the logits have another size"
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        fits, reason = False, str(error).splitlines()[0] if str(error) else type(error).__name__
    network.train()
    if not fits:
        raise ValueError(
            f"The network {name} needs a backbone that takes images of any size, and with these "
            f"settings {backbone_name!r} refuses {height} x {width} pixels ({reason}); choose "
            f"another, such as {DEFAULT_BACKBONE}."
        )


def _torchvision(
    name: str, num_outputs: int, path: Path | None, pretrained: bool
) -> EncoderDecoder:
    build = getattr(torchvision.models.segmentation, name)
    network = build(weights=None, weights_backbone=None, num_classes=num_outputs, aux_loss=False)
    if path is not None:
        state = unwrap(read_state_dict(path))
    elif pretrained:
        path, state = Path(name), _published(name)
    if path is not None:
        prefix = "backbone."
        if any(key.startswith(prefix) for key in state):  # otherwise it is a ResNet's own file
            state = {
                key.removeprefix(prefix): value
                for key, value in state.items()
                if key.startswith(prefix)
            }
        warn_of_differences(copy_weights(network.backbone, state, path), path)
    return EncoderDecoder(network)


def _published(name: str) -> dict[str, Tensor]:
    """Fetch the weights that torchvision publishes.

    Raises:
        ValueError: If they cannot be reached.
    """
    with explained(name):
        state: dict[str, Tensor] = torchvision.models.get_model_weights(
            name
        ).DEFAULT.get_state_dict(progress=False)
    return state


def check_num_outputs(settings: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Compare the number of outputs that arguments of ``create_network`` give with its tensors.

    Before anything of that size is allocated: a damaged file may ask for a billion outputs.

    Raises:
        ValueError: If it differs.
    """
    name, bias = settings.get("name"), _LAST_BIAS.get(str(settings.get("name")), "")
    if bias in state and state[bias].shape != (settings.get("num_outputs"),):
        raise ValueError(
            f"by its settings the network {name} has {settings.get('num_outputs')} outputs, but "
            f"the shape of {bias} is {tuple(state[bias].shape)}."
        )
