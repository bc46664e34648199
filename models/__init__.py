"""Networks: tensors in, tensors out, unaware of command lines and data sets."""

from models.networks import NETWORKS, create_network
from models.registry import ARCHITECTURES, build, build_for_inference
from models.volunet import RegionScores, TrainingOutput, VoLUNet, VoLUNetConfig, create_model

__all__ = [
    "ARCHITECTURES",
    "NETWORKS",
    "RegionScores",
    "TrainingOutput",
    "VoLUNet",
    "VoLUNetConfig",
    "build",
    "build_for_inference",
    "create_model",
    "create_network",
]
