"""A model as a folder of ``model.safetensors`` and ``config.json``, as the Hugging Face hub has it.

The configuration follows timm's layout: ``architecture``, ``num_classes``, ``num_features``,
``label_names``, ``model_args`` (the arguments of ``models.build``) and ``pretrained_cfg`` (size,
mean and standard deviation of the images). ``info`` is this program's own: what its task needs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import write_atomically, write_text
from models import ARCHITECTURES
from models.pretrained import read_state_dict

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_BLACK, _UNIT = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]


def write_hub_folder(folder: Path, model: nn.Module, info: dict[str, Any]) -> None:
    """Write a model and its configuration.

    Args:
        folder: An existing folder.
        model: The model; its ``settings`` go into the configuration.
        info: As in a checkpoint.
    """
    size = info["image_size"]
    settings: Any = model.settings
    config = {
        "architecture": model.architecture,
        "num_classes": settings.get("num_classes"),
        "num_features": getattr(getattr(model, "backbone", None), "num_features", None),
        "global_pool": "avg",
        "label_names": info.get("classes"),
        "model_args": settings,
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "fixed_input_size": size is not None,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": info["mean"] or _BLACK,
            "std": info["std"] or _UNIT,
            "num_classes": settings.get("num_classes"),
        },
        "info": info,
    }
    tensors = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    content = save(tensors, metadata={"format": "pt"})  # which readers of the hub ask for
    write_atomically(folder / WEIGHTS, lambda file: file.write(content))
    write_text(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def read_hub_folder(folder: Path) -> dict[str, Any]:
    """Return the parts of a checkpoint, ``settings``, ``model`` and ``info``, from such a folder.

    Raises:
        UserError: If a file is missing, damaged or of another program.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); a folder for --ckpt-path holds {CONFIG} "
            f"and {WEIGHTS}, as val.py --export folder writes them."
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(config, dict) or config.get("architecture") not in ARCHITECTURES:
        known = " or ".join(ARCHITECTURES)
        raise UserError(f"{path} does not describe a {known}; was it written by val.py?")
    try:
        info = config["info"] if "info" in config else _info_of_version_0_1(config)
        settings = dict(config["model_args"])
        task = info["task"]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{path} lacks a part or has it in another form: {error}.") from error
    if not isinstance(task, str):
        raise UserError(f"{path} names the task {task!r}, which is no name.")
    try:
        state = read_state_dict(folder / WEIGHTS)
    except ValueError as error:
        raise UserError(str(error)) from error
    parts = {"settings": settings, "model": state, "info": info}
    return {"architecture": config["architecture"], **parts}


def _info_of_version_0_1(config: dict[str, Any]) -> dict[str, Any]:
    pretrained, reading = config["pretrained_cfg"], config["reading"]
    return {
        "task": "classify",
        "classes": config["label_names"],
        "image_size": pretrained["input_size"][-1],
        "mean": pretrained["mean"],
        "std": pretrained["std"],
        "bands": reading["bands"],
        "value_range": reading["value_range"],
    }
