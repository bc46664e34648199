"""Weights of others for a backbone: the one module of this package that opens files."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.legacy import to_timm_names, unwrap


@dataclass(frozen=True)
class LoadReport:
    """Names of the tensors that were not copied into the backbone."""

    missing: list[str]  # of the backbone, not in the file: left at their initial value
    unused: list[str]  # of the file, without a place in the backbone (such as its classifier)
    mismatched: list[str]  # in both, but of different shape: left at their initial value


def read_state_dict(path: Path) -> dict[str, Any]:
    """Read the outermost dictionary of a file of tensors, never running code from it.

    Args:
        path: ``.safetensors``, or a file of ``torch.save`` (loaded with ``weights_only=True``).

    Raises:
        ValueError: If the file is missing, damaged, holds more than plain data, or no dictionary.
    """
    if not path.is_file():
        raise ValueError(f"The file {path} does not exist.")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load reports damage with half a dozen exception types; to a person they are one.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path} cannot be read as plain tensors; it is damaged or holds code: {reason}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors.")
    return content


def load_backbone_weights(backbone: nn.Module, path: Path) -> LoadReport:
    """Copy the weights of a file into a backbone, as far as names and shapes agree.

    Args:
        backbone: A timm model.
        path: Official TResNet ``.pth``, torchvision or timm state dict, or ``.safetensors``.

    Raises:
        ValueError: If the file cannot be read or none of its tensors fits.
    """
    return copy_weights(backbone, to_timm_names(unwrap(read_state_dict(path)), backbone), path)


def load_encoder_weights(encoder: nn.Module, backbone: nn.Module, path: Path) -> LoadReport:
    """Copy the weights of a file into the part of a backbone that gives maps.

    Args:
        encoder: A timm model built with ``features_only``, which renames the tensors.
        backbone: The same model as a whole, whose names the file has; it stays unchanged.
        path: As for ``load_backbone_weights``.

    Raises:
        ValueError: If the file cannot be read or none of its tensors fits.
    """

    def key(name: str) -> str:  # features_only makes layers_0 of layers.0, or puts model. before it
        return name.removeprefix("model.").replace(".", "_")

    state = to_timm_names(unwrap(read_state_dict(path)), backbone)
    names = {key(name): name for name in encoder.state_dict()}
    return copy_weights(
        encoder, {names.get(key(name), name): value for name, value in state.items()}, path
    )


def copy_weights(module: nn.Module, state: dict[str, Tensor], path: Path) -> LoadReport:
    """Copy tensors into a module, as far as names and shapes agree.

    Args:
        module: What to fill.
        state: The tensors, under the module's names.
        path: The file that they come from, for the message.

    Raises:
        ValueError: If none of the tensors fits.
    """
    own = module.state_dict()
    shared = [name for name in own if name in state]
    loaded = [name for name in shared if own[name].shape == state[name].shape]
    if not any(own[name].ndim > 1 for name in loaded):
        raise ValueError(
            f"None of the {len(state)} tensors in {path} fits the backbone "
            f"{type(module).__name__}; is it a file for another architecture?"
        )
    module.load_state_dict({name: state[name] for name in loaded}, strict=False)
    return LoadReport(
        missing=[name for name in own if name not in state and "num_batches" not in name],
        unused=[name for name in state if name not in own],
        mismatched=[name for name in shared if own[name].shape != state[name].shape],
    )


def warn_of_differences(report: LoadReport, path: Path) -> None:
    """Name in warnings the tensors that a file and a backbone do not share."""
    if absent := report.missing + report.mismatched:
        lacks = f"{path} lacks {len(absent)} of the backbone's tensors"
        names = ", ".join(absent)
        warnings.warn(f"{lacks}, which keep their initial values: {names}.", stacklevel=3)
    if report.unused:
        unused = f"{len(report.unused)} tensors of {path}"
        names = ", ".join(report.unused)
        warnings.warn(f"{unused} have no counterpart in the backbone: {names}.", stacklevel=3)
