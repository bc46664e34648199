"""From scores to decisions: a temperature, a threshold for every class, and the file of both.

A label is predicted if its score exceeds the threshold of its class. Thresholds are tuned class by
class on labelled scores; they lie half-way between two scores that occur, so that rounding changes
no decision.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from helper_functions.metrics import calibration
from helper_functions.metrics.calibration import ScoreArray, TargetArray
from helper_functions.metrics.ranks import descending_order
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import write_text
from helper_functions.runtime.lookalikes import contrast, find_look_alike

THRESHOLDS_FILE = "thresholds.json"
NEVER = 1.0  # no probability exceeds it
_ADVICE = "give a thresholds.json that val.py wrote with --tune-thresholds or --temperature"


class Rule(NamedTuple):
    """What a threshold is tuned for."""

    name: str  # ``f1``, or ``precision``: the highest recall at a precision of ``floor`` or more
    floor: float = 0.0  # from 0 to 1; of no meaning for ``f1``

    def __str__(self) -> str:
        return self.name if self.name == "f1" else f"{self.name}={self.floor:g}"


def parse_rule(text: str) -> Rule:
    """Read ``f1`` or ``precision=0.9``.

    Raises:
        ValueError: For anything else.

    >>> parse_rule("precision=0.9")
    Rule(name='precision', floor=0.9)
    """
    name, _, floor = text.partition("=")
    if text == "f1":
        return Rule("f1")
    if name == "precision" and 0 < float(floor) <= 1:
        return Rule("precision", float(floor))
    raise ValueError(f"{text} is no rule for thresholds.")


def best_threshold(
    positives: npt.NDArray[np.bool_], scores: ScoreArray, rule: Rule, fallback: float
) -> float:
    """Find the threshold of one class that serves a rule best; of equals the highest.

    Args:
        positives: (N,) whether an image shows the class.
        scores: (N,) its probabilities.
        rule: What counts.
        fallback: Returned for a class that no image shows (or only with a score of 0).

    Returns:
        A threshold; ``NEVER`` if no threshold reaches the precision that the rule asks for.

    >>> scores = np.array([0.9, 0.6, 0.2], np.float32)
    >>> round(best_threshold(np.array([True, True, False]), scores, Rule("f1"), 0.5), 2)
    0.4
    """
    # Every cut of the ranking: of equal scores all or none are predicted, and a score of 0 never
    # is, as no threshold is below.
    order = descending_order(scores)
    ranked_scores = scores[order]
    following = np.append(ranked_scores[1:], np.float32(0))
    last = np.flatnonzero(ranked_scores > following)
    true_positives, predicted = np.cumsum(positives[order])[last], last + 1
    if not last.size or not true_positives[-1]:
        return fallback

    # The best cut
    if rule.name == "f1":
        value = 2 * true_positives / (predicted + np.count_nonzero(positives))
    else:
        allowed = (true_positives > 0) & (true_positives >= rule.floor * predicted)
        if not allowed.any():
            return NEVER
        value = np.where(allowed, true_positives, 0)
    best = last[np.argmax(value)]

    # Half-way between the two scores, unless float32 has nothing between them
    upper, lower = ranked_scores[best], following[best]
    middle = lower + (upper - lower) / np.float32(2)
    return float(middle if middle < upper else lower)


def tune_thresholds(
    targets: TargetArray, scores: ScoreArray, rule: Rule, fallback: float
) -> list[float]:
    """Find the threshold of every class by `best_threshold`; targets and scores are (N, K)."""
    columns = zip(targets.T == 1, scores.T, strict=True)
    return [
        best_threshold(positives, np.ascontiguousarray(column), rule, fallback)
        for positives, column in columns
    ]


class OperatingPoint(NamedTuple):
    """How logits become decisions."""

    threshold: float | list[float]  # one for all classes, or a list of one a class
    temperature: float = 1.0  # of the probabilities, see `calibration`

    def scale(self, scores: ScoreArray) -> ScoreArray:
        """Return the model's probabilities at the temperature."""
        return calibration.scale_scores(scores, self.temperature)

    def class_thresholds(self, num_classes: int) -> ScoreArray:
        """Return the threshold of every class, float32 (K,)."""
        return np.broadcast_to(np.asarray(self.threshold, np.float32), num_classes)


def tune(
    point: OperatingPoint, targets: TargetArray, scores: ScoreArray, rule: Rule | None, fit: bool
) -> OperatingPoint:
    """Fit a temperature, thresholds, or both in this order, to a labelled split.

    Args:
        point: The start; what is not fitted stays.
        targets: (N, K) 0 or 1.
        scores: (N, K) probabilities of the model, at temperature 1.
        rule: What thresholds are tuned for; ``None`` leaves them.
        fit: Whether to fit the temperature.
    """
    if fit:
        point = point._replace(temperature=calibration.fit_temperature(targets, scores))
    if rule is not None and not isinstance(point.threshold, list):
        scaled = point.scale(scores)
        point = point._replace(threshold=tune_thresholds(targets, scaled, rule, point.threshold))
    return point


def describe_point(point: OperatingPoint, rule: Rule | None) -> str:
    """Describe what was fitted, in a sentence or two."""
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
    """Write temperature and thresholds as JSON, after an origin: what they were fitted on."""
    values = np.broadcast_to(np.asarray(point.threshold, np.float64), len(classes)).tolist()
    thresholds = dict(zip(classes, values, strict=True))
    content = {**origin, "temperature": point.temperature, "thresholds": thresholds}
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _is_number(value: object, low: float, high: float) -> bool:
    # NaN, which json.loads reads, is within no bounds.
    return type(value) in (int, float) and low <= value <= high  # type: ignore[operator]


def read_point(path: Path, classes: Sequence[str]) -> OperatingPoint:
    """Read what `write_point` wrote, for the K classes that are to be decided on.

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
    again = "tune the thresholds again with this checkpoint"
    for name in thresholds.keys() - set(classes):
        if alike := find_look_alike(name, classes):
            shown, known = contrast(name, alike)
            raise UserError(
                f"{path} has a threshold for {shown}, which looks like the model's class {known} "
                f"and is another text; spell it as the model does."
            )
    if missing := [name for name in classes if name not in thresholds]:
        raise UserError(
            f"{path} lacks {len(missing)} of the model's {len(classes)} classes, such as "
            f"{missing[0]!r}; {again}."
        )
    if foreign := sorted(thresholds.keys() - set(classes)):
        raise UserError(
            f"{path} has a threshold for {foreign[0]!r}, which is no class of the model; {again}."
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
