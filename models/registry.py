"""Architectures by name, so that a checkpoint of any task can be built again.

Every model that is built here carries the attributes ``architecture`` and ``settings``, plain data
that ``build`` makes an equal model of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from models.inplace_abn import DEFAULT, INPLACE_ABN, to_batch_norm
from models.networks import check_num_outputs, create_network
from models.volunet import check_head_sizes, create_model

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "volunet": create_model,
    "network": create_network,
}


def build(architecture: str, settings: dict[str, Any]) -> nn.Module:
    """Build a model, untrained unless its settings name weights.

    Args:
        architecture: One of ``ARCHITECTURES``.
        settings: Keyword arguments of the architecture's function.

    Raises:
        ValueError: For an unknown architecture or an unusable setting.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"Unknown architecture {architecture!r}; choose one of {', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES[architecture](**settings)


def build_for_inference(
    architecture: str, settings: dict[str, Any], state: dict[str, Tensor]
) -> nn.Module:
    """Build a trained model in evaluation mode.

    Always with ordinary batch norm: a model trained with in-place ABN needs no package here.

    Args:
        architecture: One of ``ARCHITECTURES``.
        settings: As ``model.settings`` had them.
        state: Its state dict.

    Raises:
        ValueError: If settings and tensors do not belong together; the message is one line.
    """
    has_abn = settings.get("norm") == INPLACE_ABN
    try:
        if architecture == "volunet":
            check_head_sizes(settings, state)
        elif architecture == "network":
            check_num_outputs(settings, state)
        model = build(architecture, {**settings, "norm": DEFAULT} if has_abn else settings)
        model.load_state_dict(to_batch_norm(state, model) if has_abn else state)
    except (ValueError, TypeError, RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else "too little memory"
        raise ValueError(reason) from error
    return model.eval()
