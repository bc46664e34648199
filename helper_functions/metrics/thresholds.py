"""From scores to decisions: a temperature, a threshold for every class, and the file of both.

A label is predicted if its score exceeds the threshold of its class. Thresholds are tuned class by
class on labelled scores; they lie half-way between two scores that occur, so that rounding moves no
decision.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from helper_functions.metrics.calibration import (
    ScoreArray,
    TargetArray,
    fit_temperature,
    scale_scores,
)
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import write_text

THRESHOLDS_FILE = "thresholds.json"
NEVER = 1.0  # no probability exceeds it
_ADVICE = "give a thresholds.json that val.py wrote with --tune-thresholds or --temperature"


class Rule(NamedTuple):
    """What a threshold is tuned for.

    Attributes:
        name: ``f1``, or ``precision``: the highest recall at a precision of ``floor`` or more.
        floor: From 0 to 1; of no meaning for ``f1``.
    """

    name: str
    floor: float = 0.0

    def __str__(self) -> str:
        return self.name if self.name == "f1" else f"{self.name}={self.floor:g}"


def parse_rule(text: str) -> Rule:
    """Read ``f1`` or ``precision=0.9``.

    Raises:
        ValueError: For anything else.
    """
    name, _, floor = text.partition("=")
    if text == "f1":
        return Rule("f1")
    if name == "precision" and 0 < float(floor) <= 1:
        return Rule("precision", float(floor))
    raise ValueError(f"{text} is no rule for thresholds.")


def _cuts(
    positives: npt.NDArray[np.bool_], scores: ScoreArray
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], ScoreArray]:
    """Every way to divide the N scores of a class: first the highest alone, last all above 0.

    Returns:
        True positives and predicted labels at each cut, and the threshold that makes it.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ranked = ranked[ranked > 0]  # a score of 0 is never predicted, as no threshold is below
    following = np.append(ranked[1:], np.float32(0))
    last = np.flatnonzero(ranked > following)  # of equal scores all or none are predicted
    upper, lower = ranked[last], following[last]
    middle = lower + (upper - lower) / np.float32(2)
    thresholds = np.where(middle < upper, middle, lower)
    found = np.cumsum(positives[order])[last]
    cuts: tuple[Any, Any, Any] = (found, last + 1, thresholds.astype(np.float32))
    return cuts


def best_threshold(
    positives: npt.NDArray[np.bool_], scores: ScoreArray, rule: Rule, fallback: float
) -> float:
    """The threshold of one class that serves a rule best; of equals the highest.

    Args:
        positives: (N,) whether a picture shows the class.
        scores: (N,) its probabilities.
        rule: What counts.
        fallback: Returned for a class that no picture shows (or only with a score of 0).

    Returns:
        A threshold; ``NEVER`` if no threshold reaches the precision that the rule asks for.
    """
    found, predicted, thresholds = _cuts(positives, scores)
    if not found.size or not found[-1]:
        return fallback
    if rule.name == "f1":
        value = 2 * found / (predicted + np.count_nonzero(positives))
    else:
        value = np.where((found > 0) & (found >= rule.floor * predicted), found, 0)
        if not value.any():
            return NEVER
    return float(thresholds[np.argmax(value)])


def tune_thresholds(
    targets: TargetArray, scores: ScoreArray, rule: Rule, fallback: float
) -> list[float]:
    """The best threshold of every class, see ``best_threshold``.

    Args:
        targets: (N, K) 0 or 1.
        scores: (N, K) probabilities.
        rule: What counts.
        fallback: For classes that no picture shows.
    """
    columns = zip(targets.T == 1, scores.T, strict=True)
    return [
        best_threshold(positives, np.ascontiguousarray(column), rule, fallback)
        for positives, column in columns
    ]


class OperatingPoint(NamedTuple):
    """How logits become decisions.

    Attributes:
        threshold: One for all classes, or a list of one a class.
        temperature: Of the probabilities, see ``calibration``.
    """

    threshold: float | list[float]
    temperature: float = 1.0

    def scale(self, scores: ScoreArray) -> ScoreArray:
        """The model's probabilities at the temperature."""
        return scale_scores(scores, self.temperature)

    def limits(self, num_classes: int) -> ScoreArray:
        """The threshold of every class, float32 (K,)."""
        return np.broadcast_to(np.asarray(self.threshold, np.float32), num_classes)


def tune(
    point: OperatingPoint,
    targets: TargetArray,
    scores: ScoreArray,
    rule: Rule | None,
    fit: bool,
) -> OperatingPoint:
    """Fit what is asked for to a labelled split: first the temperature, then the thresholds.

    Args:
        point: Where to start; keeps what is not fitted.
        targets: (N, K) 0 or 1.
        scores: (N, K) probabilities of the model, at temperature 1.
        rule: What thresholds are tuned for; ``None`` leaves them.
        fit: Whether to fit the temperature.
    """
    if fit:
        point = point._replace(temperature=fit_temperature(targets, scores))
    if rule is not None and not isinstance(point.threshold, list):
        scaled = point.scale(scores)
        point = point._replace(threshold=tune_thresholds(targets, scaled, rule, point.threshold))
    return point


def describe_point(point: OperatingPoint, rule: Rule | None) -> str:
    """What was fitted, in a sentence or two."""
    sentences = [f"The temperature is {point.temperature:.4g}."]
    if isinstance(point.threshold, list):
        low, high = min(point.threshold), max(point.threshold)
        sentences.append(f"Every class has its threshold by {rule}, from {low:.3g} to {high:.3g}.")
        never = sum(threshold == NEVER for threshold in point.threshold)
        if never and rule is not None and rule.name == "precision":
            sentences.append(
                f"{never} classes reach a precision of {rule.floor:g} at no threshold and are "
                "never predicted."
            )
    return " ".join(sentences)


def write_point(
    path: Path, point: OperatingPoint, classes: Sequence[str], origin: dict[str, Any]
) -> None:
    """Write temperature and thresholds as JSON.

    Args:
        path: The file.
        point: What to write.
        classes: K names.
        origin: Further entries: what the numbers were fitted on.
    """
    limits = np.broadcast_to(np.asarray(point.threshold, np.float64), len(classes)).tolist()
    content = {
        **origin,
        "temperature": point.temperature,
        "thresholds": dict(zip(classes, limits, strict=True)),
    }
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _is_number(value: object, low: float, high: float) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
    )


def read_point(path: Path, classes: Sequence[str]) -> OperatingPoint:
    """Read what ``write_point`` wrote.

    Args:
        path: The file.
        classes: The K classes that are to be decided on, each of which needs a threshold.

    Raises:
        UserError: If the file cannot be read, or lacks a class, or names one that is none, or a
            number in it is out of range.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); {_ADVICE}.") from error
    thresholds = content.get("thresholds") if isinstance(content, dict) else None
    if not isinstance(thresholds, dict):
        raise UserError(f"{path} holds no thresholds; {_ADVICE}.")
    lacking = [name for name in classes if name not in thresholds]
    if lacking:
        raise UserError(
            f"{path} lacks {len(lacking)} of the model's {len(classes)} classes, such as "
            f"{lacking[0]!r}; tune the thresholds anew with this checkpoint."
        )
    foreign = sorted(thresholds.keys() - set(classes))
    if foreign:
        raise UserError(
            f"{path} has a threshold for {foreign[0]!r}, which is no class of the model; tune the "
            "thresholds anew with this checkpoint."
        )
    for name in classes:
        if not _is_number(thresholds[name], 0, 1):
            raise UserError(
                f"{path} has {thresholds[name]!r} as the threshold of {name!r}; it must be a "
                "number from 0 to 1."
            )
    temperature = content.get("temperature", 1.0)
    if not _is_number(temperature, 1e-6, 1e6):
        raise UserError(
            f"{path} has {temperature!r} as temperature; it must be a number above 0, and 1 "
            "changes nothing."
        )
    return OperatingPoint([float(thresholds[name]) for name in classes], float(temperature))
