"""Multi-label classification with VoLUNet."""

from helper_functions.tasks.classify.task import Classify

__all__ = ["Classify"]
