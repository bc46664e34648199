"""Checkpoints: plain tensors in plain dictionaries, and as a folder for a model hub."""

from helper_functions.checkpoints.checkpoint import Checkpoint, load_model, read_checkpoint

__all__ = ["Checkpoint", "load_model", "read_checkpoint"]
