"""In-place activated batch norm for TResNet (Rota Bulò et al., CVPR 2018, arXiv 1712.02616).

Batch norm and activation overwrite their input and compute it again in the backward pass, so one
map is kept in place of two. To be invertible, in-place ABN scales by |weight| + eps. TResNet was
published with it after every convolution. The layers come from the optional package
``inplace-abn``; ordinary batch norm computes the same.
"""

from __future__ import annotations

import torch
from timm.layers import BatchNormAct2d, ConvNormAct
from timm.models.tresnet import TResNet
from torch import Tensor, nn

DEFAULT, INPLACE_ABN = "default", "inplace-abn"
NORMS = (DEFAULT, INPLACE_ABN)

# models/README.md gives the same two. The wheel that pip keeps fits one build of PyTorch only.
BUILD_COMMANDS = (
    'pip install torch "setuptools>=70.1" setuptools_scm',
    "pip install --no-build-isolation --no-cache-dir -r requirements-inplace-abn.txt",
)


def _inplace_abn_layer() -> type[nn.Module]:
    """Return the layer of the optional package."""
    try:
        from inplace_abn import InPlaceABN
    except ImportError as error:  # absent, or built for another PyTorch
        raise ValueError(
            f"norm {INPLACE_ABN!r} needs the package inplace-abn, which cannot be imported here "
            f"({error}); build it with `{BUILD_COMMANDS[0]}` and then `{BUILD_COMMANDS[1]}`."
        ) from error
    layer: type[nn.Module] = InPlaceABN
    return layer


@torch.no_grad()
def _converted(conv: nn.Conv2d, bn: BatchNormAct2d, layer: type[nn.Module]) -> nn.Module:
    """Return an in-place ABN that does to the convolution's output what a batch norm does."""
    activation: dict[str, str | float] = {"activation": "identity"}
    if isinstance(bn.act, nn.LeakyReLU):
        activation = {"activation": "leaky_relu", "activation_param": bn.act.negative_slope}
    abn = layer(bn.num_features, eps=bn.eps, momentum=bn.momentum, **activation).to(bn.weight)
    # A negative gain is out of reach, but batch norm is odd: turn the filter and the mean instead.
    sign = torch.where(bn.weight < 0, -1.0, 1.0).to(bn.weight)
    conv.weight.mul_(sign[:, None, None, None])
    state = bn.state_dict()
    state["weight"] = (bn.weight.abs() - bn.eps).clamp(min=0)
    state["running_mean"] = bn.running_mean * sign
    abn.load_state_dict(state)
    return abn.train(bn.training)


def use_inplace_abn(backbone: nn.Module) -> None:
    """Replace all batch norms of a TResNet by in-place ABN that computes the same.

    All of them follow a convolution without bias, and in the published network all of them were
    in-place ABN, activated or not. Gains below eps become eps; so do the gains of 0 that the last
    layer of a new residual block starts with, as in the published network.

    Args:
        backbone: A TResNet of timm, changed in place; its state dict keeps its names.

    Raises:
        ValueError: If it is no TResNet, or the package is not installed.
    """
    if not isinstance(backbone, TResNet):
        raise ValueError(
            f"norm {INPLACE_ABN!r} is for TResNet backbones such as tresnet_m and tresnet_l, and "
            f"this one is a {type(backbone).__name__}; choose norm {DEFAULT!r}."
        )
    layer = _inplace_abn_layer()
    for block in backbone.modules():
        if isinstance(block, ConvNormAct):
            block.bn = _converted(block.conv, block.bn, layer)


def to_batch_norm(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Turn the state dict of a model with in-place ABN into that of its twin with batch norm."""
    eps = {
        f"{name}.weight": module.eps
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    return {
        name: value.abs() + eps[name] if name in eps else value for name, value in state.items()
    }
