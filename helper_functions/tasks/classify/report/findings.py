"""What the model is good and bad at, in sentences computed from its results."""

from __future__ import annotations

import numpy as np

from helper_functions.metrics.multilabel import precision_recall_f1
from helper_functions.results.report import Text
from helper_functions.tasks.classify.report.confusions import Pairs
from helper_functions.tasks.classify.report.results import Results

_NAMED = 3  # classes in a sentence
_RARE = 6  # classes at least, before rare and frequent ones are compared
_FAR = 5.0  # points of percent that are worth a word


def _overall(results: Results) -> str:
    """How far the model is from chance."""
    score, chance = results.metrics["mAP"], results.metrics["chance_mAP"]
    compared = f"where random scores reach {chance:.1f}"
    if score <= chance + 1:
        return f"The mAP is {score:.1f}, {compared}: the model has learned next to nothing."
    share = 100 * (score - chance) / max(100 - chance, 1e-9)
    return (
        f"The mAP is {score:.1f}, {compared}: {share:.0f} % of the way from chance to a perfect "
        "ranking."
    )


def _extremes(results: Results) -> str:
    """The classes at both ends."""
    present = results.present
    if len(present) < 2:
        return ""
    count = min(_NAMED, len(present) // 2)
    best, worst = (
        ", ".join(f"{results.classes[k]} ({results.table['AP'][k]:.1f})" for k in chosen)
        for chosen in (present[:count], present[-count:][::-1])
    )
    return f"Best by AP: {best}. Weakest: {worst}."


def _rarity(results: Results) -> str:
    """Whether rare classes fare worse."""
    present = np.array(results.present)
    if len(present) < _RARE:
        return ""
    support, ap = results.table["support"][present], results.table["AP"][present]
    order = np.argsort(support, kind="stable")
    third = len(order) // 3
    rare, frequent = order[:third], order[-third:]
    low, high = float(ap[rare].mean()), float(ap[frequent].mean())
    word = "worse" if low < high - _FAR else "better" if low > high + _FAR else "about as well"
    return (
        f"Rare classes fare {word}: the rarest third (each in at most {support[rare].max():,} of "
        f"the images) has a mean AP of {low:.1f}, the most frequent third of {high:.1f}."
    )


def _decisions(results: Results) -> str:
    """Whether it misses or invents labels, and what better thresholds would give."""
    metrics = results.metrics
    if metrics["nothing_predicted"]:
        return "No score exceeds its threshold, so nothing is predicted."
    precision, recall = metrics["P_O"], metrics["R_O"]
    shares = f"it finds {recall:.0f} % of the labels, and {precision:.0f} % of its labels are right"
    if abs(precision - recall) <= _FAR:
        balance = "At these thresholds it misses about as many labels as it invents"
    else:
        more, less = ("misses", "invents") if recall < precision else ("invents", "misses")
        balance = f"At these thresholds it {more} more labels than it {less}"
    thresholds = np.nan_to_num(results.best_thresholds, nan=1.0)
    tuned = precision_recall_f1(results.targets, results.scores, thresholds)["F_C"]
    gain = ""
    if tuned > metrics["F_C"] + 1:
        gain = (
            f" The best threshold of every class would raise F_C from {metrics['F_C']:.1f} to "
            f"{tuned:.1f} on these very images (--tune-thresholds f1)."
        )
    return f"{balance}: {shares}.{gain}"


def _never_predicted(results: Results) -> str:
    """Classes that are shown, but never predicted."""
    table = results.table
    silent = [k for k in results.present if not table["predicted"][k]]
    if not silent or results.metrics["nothing_predicted"]:
        return ""
    silent.sort(key=lambda k: -table["support"][k])
    names = ", ".join(results.classes[k] for k in silent[:_NAMED])
    such = f", such as {names}" if len(silent) > _NAMED else f": {names}"
    verb = "class is" if len(silent) == 1 else "classes are"
    return f"{len(silent)} {verb} shown but never predicted{such}."


def _confusion(results: Results, confusions: Pairs) -> str:
    """The most frequent confusion."""
    pairs = confusions.top(1)
    if not pairs:
        return ""
    a, b, count = pairs[0]
    names = results.classes
    times = "once" if count == 1 else f"{count:,} times"
    return (
        f"The most frequent confusion: {names[a]} is missed and {names[b]} predicted in its "
        f"place, {times}."
    )


def _calibration(results: Results) -> str:
    """Whether scores can be read as probabilities."""
    bins = results.reliability
    share = bins.counts / bins.counts.sum()
    lean = float((share * (bins.scores - bins.frequencies)).sum())
    error = 100 * bins.error
    if error < 2:
        return f"Scores can be read as probabilities: their calibration error is {error:.1f} %."
    word = "too high" if lean > 0 else "too low"
    return (
        f"Scores are on average {word}: their calibration error is {error:.1f} % "
        "(--temperature fit corrects part of it)."
    )


def _regions(results: Results) -> str:
    """Whether regions show the class that they predict."""
    metrics = results.metrics
    if "region_purity" not in metrics:
        return ""
    purity, chance = metrics["region_purity"], metrics["region_purity_chance"]
    majority = metrics["region_purity_majority"]
    word = "better" if purity > majority else "no better"
    return (
        f"In {purity:.0f} % of the cells the predicted class is really there (chance: {chance:.0f} "
        f"%), {word} than if every cell took the image's top class ({majority:.0f} %)."
    )


def findings(results: Results, confusions: Pairs) -> Text:
    """Summarize a validation."""
    sentences = (
        _overall(results),
        _extremes(results),
        _rarity(results),
        _decisions(results),
        _never_predicted(results),
        _confusion(results, confusions),
        _calibration(results),
        _regions(results),
    )
    return Text("Findings", [sentence for sentence in sentences if sentence])
