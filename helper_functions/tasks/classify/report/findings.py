"""What the model is good and bad at, in sentences computed from its results."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from helper_functions.metrics.multilabel import precision_recall_f1
from helper_functions.results.report import Text
from helper_functions.tasks.classify.report.confusions import Pairs
from helper_functions.tasks.classify.report.results import Results

_NAMED = 3  # classes in a sentence
_RARE = 6  # classes at least, before rare and frequent ones are compared
_FAR = 5.0  # points of percent that are worth a word


def _ranking(results: Results) -> Iterator[str]:
    """Tell how far the order of the scores is from chance, and for which classes."""
    # All classes
    score, chance = results.metrics["mAP"], results.metrics["chance_mAP"]
    share = 100 * (score - chance) / max(100 - chance, 1e-9)
    if score <= chance + 1:
        judgment = "the model has learned next to nothing"
    else:
        judgment = f"{share:.0f} % of the way from chance to a perfect ranking"
    yield f"The mAP is {score:.1f}, where random scores reach {chance:.1f}: {judgment}."

    # The classes at both ends
    present, table = np.array(results.present), results.table
    if len(present) > 1:
        count = min(_NAMED, len(present) // 2)
        best, worst = (
            ", ".join(f"{results.classes[k]} ({table['AP'][k]:.1f})" for k in chosen)
            for chosen in (present[:count], present[-count:][::-1])
        )
        yield f"Best by AP: {best}. Weakest: {worst}."

    # Rare classes
    if len(present) >= _RARE:
        by_support = present[np.argsort(table["support"][present], kind="stable")]
        rare, frequent = by_support[: len(present) // 3], by_support[-(len(present) // 3) :]
        low, high = float(table["AP"][rare].mean()), float(table["AP"][frequent].mean())
        word = "worse" if low < high - _FAR else "better" if low > high + _FAR else "about as well"
        yield (
            f"Rare classes fare {word}: the rarest third (each in at most "
            f"{table['support'][rare].max():,} of the images) has a mean AP of {low:.1f}, the most "
            f"frequent third of {high:.1f}."
        )


def _decisions(results: Results, confusions: Pairs) -> Iterator[str]:
    """Tell whether labels are missed or invented, and which."""
    metrics, table, classes = results.metrics, results.table, results.classes
    if metrics["nothing_predicted"]:
        yield "No score exceeds its threshold, so nothing is predicted."
    else:
        # All labels, and what better thresholds would give
        precision, recall = metrics["P_O"], metrics["R_O"]
        more, less = ("misses", "invents") if recall < precision else ("invents", "misses")
        balance = f"{more} more labels than it {less}"
        if abs(precision - recall) <= _FAR:
            balance = "misses about as many labels as it invents"
        sentence = (
            f"At these thresholds it {balance}: it finds {recall:.0f} % of the labels, and "
            f"{precision:.0f} % of its labels are right."
        )
        thresholds = np.nan_to_num(results.best_thresholds, nan=1.0)
        tuned = precision_recall_f1(results.targets, results.scores, thresholds)["F_C"]
        if tuned > metrics["F_C"] + 1:
            sentence += (
                f" The best threshold of every class would raise F_C from {metrics['F_C']:.1f} to "
                f"{tuned:.1f} on these very images (--tune-thresholds f1)."
            )
        yield sentence

        # Classes that are never predicted
        silent = [k for k in results.present if not table["predicted"][k]]
        silent.sort(key=lambda k: -table["support"][k])
        if silent:
            names = ", ".join(classes[k] for k in silent[:_NAMED])
            such = f", such as {names}" if len(silent) > _NAMED else f": {names}"
            verb = "class is" if len(silent) == 1 else "classes are"
            yield f"{len(silent)} {verb} shown but never predicted{such}."

    for a, b, count in confusions.top(1):
        times = "once" if count == 1 else f"{count:,} times"
        yield (
            f"The most frequent confusion: {classes[a]} is missed and {classes[b]} predicted in "
            f"its place, {times}."
        )


def _calibration(results: Results) -> str:
    """Tell whether scores can be read as probabilities."""
    bins = results.reliability
    error = 100 * bins.error
    if error < 2:
        return f"Scores can be read as probabilities: their calibration error is {error:.1f} %."
    word = "high" if (bins.counts * (bins.scores - bins.frequencies)).sum() > 0 else "low"
    return (
        f"Scores are on average too {word}: their calibration error is {error:.1f} % "
        "(--temperature fit corrects part of it)."
    )


def _regions(results: Results) -> Iterator[str]:
    """Tell whether regions show the class that they predict, where masks know it."""
    if "region_purity" in results.metrics:
        purity, chance, majority = (
            results.metrics[f"region_purity{suffix}"] for suffix in ("", "_chance", "_majority")
        )
        word = "better" if purity > majority else "no better"
        yield (
            f"In {purity:.0f} % of the cells the predicted class is really there (chance: "
            f"{chance:.0f} %), {word} than if every cell took the image's top class "
            f"({majority:.0f} %)."
        )


def findings(results: Results, confusions: Pairs) -> Text:
    """Summarize a validation."""
    ranking, decisions = _ranking(results), _decisions(results, confusions)
    return Text("Findings", [*ranking, *decisions, _calibration(results), *_regions(results)])
