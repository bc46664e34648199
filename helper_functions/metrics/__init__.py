"""Metrics: arrays in, numbers out."""

from helper_functions.metrics.multilabel import (
    average_precision,
    mean_average_precision,
    precision_recall_f1,
)

__all__ = ["average_precision", "mean_average_precision", "precision_recall_f1"]
