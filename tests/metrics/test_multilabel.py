"""Metrics against the original's numbers, scikit-learn, and loops written out."""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from helper_functions.metrics import multilabel as metrics

GOLDEN = Path(__file__).parents[1] / "golden"
GOLDEN_CASES: list[dict[str, Any]] = json.loads((GOLDEN / "metrics.json").read_text())
CASES_WITHOUT_TIES = [case for case in GOLDEN_CASES if not case["ties"]]
CASES_WITH_TIES = [case for case in GOLDEN_CASES if case["ties"]]
RATES = ("P_C", "R_C", "F_C", "P_O", "R_O", "F_O")

Array = npt.NDArray[Any]


def case_name(case: dict[str, Any]) -> str:
    return str(case["name"])


def golden_arrays(case: dict[str, Any]) -> tuple[Array, Array]:
    with np.load(GOLDEN / "metrics.npz") as arrays:
        return arrays[f"{case['name']}_targets"], arrays[f"{case['name']}_scores"]


def set_metrics(*arguments: Any) -> dict[str, Any]:
    """The metrics of a whole set."""
    return metrics.multilabel_metrics(*arguments)[0]


def class_table(*arguments: Any) -> dict[str, Array]:
    """The metrics of every class."""
    return metrics.multilabel_metrics(*arguments)[1]


def distinct_scores(num_images: int, num_classes: int, seed: int) -> Array:
    """Scores (N, K) float32 in (0, 1) without ties in any class."""
    generator = np.random.default_rng(seed)
    ranks = np.tile(np.arange(1, num_images + 1), (num_classes, 1))
    return (generator.permuted(ranks, axis=1).T / (num_images + 1)).astype(np.float32)


def random_targets(num_images: int, num_classes: int, seed: int) -> Array:
    """Targets (N, K) int64: class 0 absent, class 1 in every image, the others at random."""
    generator = np.random.default_rng(seed)
    shares = np.linspace(0.05, 0.8, num_classes)
    targets = (generator.random((num_images, num_classes)) < shares).astype(np.int64)
    targets[:, 0], targets[:, 1], targets[0, 2:] = 0, 1, 1
    return targets


def average_precision_by_loops(scores: Array, targets: Array) -> float:
    """The paper's definition, spelt out; stable because Python's sort is."""
    images = sorted(range(len(scores)), key=lambda image: -float(scores[image]))
    positives, precision_sum = 0, 0.0
    for rank, image in enumerate(images, start=1):
        if targets[image] == 1:
            positives += 1
            precision_sum += positives / rank
    return precision_sum / (positives + 1e-8)


def extreme_average_precisions(scores: Array, targets: Array) -> tuple[float, float]:
    """Worst and best average precision over the orders of images with equal scores."""
    positives_last, positives_first = np.argsort(targets), np.argsort(-targets)
    return (
        average_precision_by_loops(scores[positives_last], targets[positives_last]),
        average_precision_by_loops(scores[positives_first], targets[positives_first]),
    )


# ---- the original's numbers


def test_golden_file_has_both_kinds_of_cases() -> None:
    assert len(CASES_WITHOUT_TIES) == 6
    assert len(CASES_WITH_TIES) == 2


@pytest.mark.parametrize("case", CASES_WITHOUT_TIES, ids=case_name)
def test_average_precision_equals_the_original(case: dict[str, Any]) -> None:
    targets, scores = golden_arrays(case)
    np.testing.assert_allclose(
        metrics.average_precision_per_class(targets, scores), case["AP"], rtol=1e-6, atol=0
    )
    assert metrics.mean_average_precision(targets, scores) == pytest.approx(case["mAP"], rel=1e-6)


@pytest.mark.parametrize("case", CASES_WITH_TIES, ids=case_name)
def test_average_precision_with_ties_lies_between_worst_and_best_order(
    case: dict[str, Any],
) -> None:
    targets, scores = golden_arrays(case)
    extremes = [
        extreme_average_precisions(*columns) for columns in zip(scores.T, targets.T, strict=True)
    ]
    worst, best = np.array(extremes).T
    assert (worst < best).any()
    for values in (metrics.average_precision_per_class(targets, scores), np.array(case["AP"])):
        assert (values >= worst - 1e-9).all()
        assert (values <= best + 1e-9).all()
    map_percent = metrics.mean_average_precision(targets, scores)
    assert 100 * worst.mean() <= map_percent <= 100 * best.mean()


@pytest.mark.parametrize("case", GOLDEN_CASES, ids=case_name)
def test_precision_recall_f1_equal_the_original(case: dict[str, Any]) -> None:
    targets, scores = golden_arrays(case)
    assert case["at"]
    for threshold, expected in case["at"].items():
        result = metrics.precision_recall_f1(targets, scores, float(threshold))
        assert {name: result[name] for name in RATES} == pytest.approx(
            {name: expected[name] or 0.0 for name in RATES}, abs=1e-4
        )


# ---- average precision


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
def test_average_precision_equals_loops(levels: int) -> None:
    generator = np.random.default_rng(levels)
    targets = random_targets(70, 35, seed=levels)  # more classes than one block of columns
    scores = (generator.integers(0, levels, targets.shape) / levels).astype(np.float32)
    expected = [
        average_precision_by_loops(*columns) for columns in zip(scores.T, targets.T, strict=True)
    ]
    np.testing.assert_allclose(
        metrics.average_precision_per_class(targets, scores), expected, rtol=1e-12
    )


@pytest.mark.parametrize("num_classes", [1, 31, 32, 33, 64, 65])
def test_per_class_equals_the_scalar_function_exactly(num_classes: int) -> None:
    targets = random_targets(50, max(num_classes, 3), seed=3)[:, -num_classes:]
    scores = np.random.default_rng(4).random(targets.shape).round(1)  # with ties
    expected = [
        metrics.average_precision(*columns) for columns in zip(scores.T, targets.T, strict=True)
    ]
    assert metrics.average_precision_per_class(targets, scores).tolist() == expected


def test_average_precision_equals_scikit_learn_without_ties() -> None:
    targets, scores = random_targets(200, 12, seed=5), distinct_scores(200, 12, seed=6)
    expected = [average_precision_score(targets[:, k], scores[:, k]) for k in range(1, 12)]
    result = metrics.average_precision_per_class(targets, scores)
    np.testing.assert_allclose(result[1:], expected, rtol=1e-6)
    assert result[0] == 0


def test_ties_keep_the_input_order() -> None:
    tied = [0.5, 0.5, 0.5]
    assert metrics.average_precision(tied, [1, 0, 0]) == pytest.approx(1, rel=1e-7)
    assert metrics.average_precision(tied, [0, 0, 1]) == pytest.approx(1 / 3, rel=1e-7)


def test_the_number_of_positives_gets_the_epsilon_of_the_paper() -> None:
    assert metrics.average_precision([0.3], [1]) == 1 / (1 + 1e-8)


def test_a_class_without_positives_scores_zero_and_counts() -> None:
    targets, scores = np.array([[1, 0], [0, 0]]), np.array([[0.9, 0.9], [0.1, 0.1]])
    assert metrics.average_precision(scores[:, 1], targets[:, 1]) == 0.0
    assert metrics.mean_average_precision(targets, scores) == pytest.approx(50, rel=1e-7)


def test_scores_are_compared_in_float32() -> None:
    scores = np.array([0.5, 0.5 + 1e-12])  # the second leads in float64 only
    assert metrics.average_precision(scores, [1, 0]) == pytest.approx(1, rel=1e-7)
    result = metrics.precision_recall_f1([[1], [1]], scores[:, None], threshold=0.5)
    assert result["R_O"] == 0.0


def test_input_is_left_unchanged() -> None:
    targets, scores = random_targets(20, 4, seed=1), distinct_scores(20, 4, seed=2)
    targets_before, scores_before = targets.copy(), scores.copy()
    set_metrics(targets, scores)
    np.testing.assert_array_equal(targets, targets_before)
    np.testing.assert_array_equal(scores, scores_before)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float16, np.float32])
def test_targets_of_any_type_give_the_same(dtype: type) -> None:
    targets, scores = random_targets(40, 5, seed=1), distinct_scores(40, 5, seed=2)
    assert set_metrics(targets.astype(dtype), scores) == set_metrics(targets, scores)


def test_half_precision_scores_equal_their_float32_values() -> None:
    targets, half = random_targets(40, 5, seed=1), distinct_scores(40, 5, seed=2).astype(np.float16)
    assert set_metrics(targets, half) == set_metrics(targets, half.astype(np.float32))
    # float16(0.3) is 0.30004883: above 0.3 in float32, equal to it if compared in float16.
    score = np.array([[0.3]], np.float16)
    assert metrics.precision_recall_f1([[1]], score, threshold=0.3)["R_O"] == 100.0


def test_torch_tensors_are_accepted() -> None:
    targets, scores = random_targets(40, 5, seed=1), distinct_scores(40, 5, seed=2)
    for torch_scores in (torch.from_numpy(scores), torch.from_numpy(scores).half()):
        assert set_metrics(torch.from_numpy(targets), torch_scores) == set_metrics(
            targets, torch_scores.float().numpy()
        )


# ---- precision, recall and F1


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_precision_recall_f1_equal_scikit_learn(threshold: float) -> None:
    targets, scores = random_targets(80, 9, seed=8), distinct_scores(80, 9, seed=9)
    result = metrics.precision_recall_f1(targets, scores, threshold)
    decisions = scores > np.float32(threshold)
    for average, letter in (("macro", "C"), ("micro", "O")):
        expected = precision_recall_fscore_support(
            targets, decisions, average=average, zero_division=0
        )
        for name, value in zip("PRF", expected[:3], strict=True):
            assert result[f"{name}_{letter}"] == pytest.approx(100 * value, abs=1e-9)


def test_cf1_is_the_harmonic_mean_of_the_macro_values_and_not_f_c() -> None:
    # Class 0: tp 1, predicted 2, support 1. Class 1: tp 1, predicted 1, support 2.
    targets, scores = [[1, 1], [0, 1], [0, 0]], [[0.9, 0.9], [0.8, 0.1], [0.1, 0.2]]
    result = metrics.precision_recall_f1(targets, scores)
    assert result == pytest.approx(
        {
            "P_C": 75,
            "R_C": 75,
            "F_C": 200 / 3,
            "P_O": 200 / 3,
            "R_O": 200 / 3,
            "F_O": 200 / 3,
            "CF1": 75,
        }
    )


def test_nothing_predicted_gives_zeros() -> None:
    result = metrics.precision_recall_f1([[1, 0]], [[0.2, 0.1]])
    assert result == dict.fromkeys((*RATES, "CF1"), 0.0)


def test_a_score_at_the_threshold_is_not_predicted() -> None:
    at_threshold = np.array([[0.3]], np.float32)  # above 0.3 in float64, equal in float32
    assert metrics.precision_recall_f1([[1]], at_threshold, threshold=0.3)["R_O"] == 0.0
    above = np.nextafter(at_threshold, np.float32(1))
    assert metrics.precision_recall_f1([[1]], above, threshold=0.3)["R_O"] == 100.0


def test_every_class_has_its_own_threshold() -> None:
    targets, scores = random_targets(60, 4, seed=1), distinct_scores(60, 4, seed=2)
    thresholds = np.array([0.1, 0.4, 0.6, 0.8])
    table = class_table(targets, scores, thresholds)
    for k, threshold in enumerate(thresholds):
        alone = class_table(targets[:, [k]], scores[:, [k]], threshold)
        assert {name: column[k] for name, column in table.items()} == {
            name: column[0] for name, column in alone.items()
        }
    assert len(set(table["predicted"].tolist())) == 4
    assert metrics.precision_recall_f1(targets, scores, np.full(4, 0.4)) == (
        metrics.precision_recall_f1(targets, scores, 0.4)
    )


def test_class_table_equals_scikit_learn() -> None:
    targets, scores = random_targets(80, 6, seed=3), distinct_scores(80, 6, seed=4)
    table = class_table(targets, scores, 0.4)
    precision, recall, f1, support = precision_recall_fscore_support(
        targets, scores > 0.4, average=None, zero_division=0
    )
    np.testing.assert_allclose(table["precision"], 100 * precision)
    np.testing.assert_allclose(table["recall"], 100 * recall)
    np.testing.assert_allclose(table["F1"], 100 * f1)
    np.testing.assert_array_equal(table["support"], support)
    np.testing.assert_array_equal(table["predicted"], (scores > 0.4).sum(axis=0))
    np.testing.assert_array_equal(
        table["AP"], 100 * metrics.average_precision_per_class(targets, scores)
    )


def test_the_summary_follows_from_the_table() -> None:
    targets, scores = random_targets(80, 6, seed=3), distinct_scores(80, 6, seed=4)
    table = class_table(targets, scores)
    result = metrics.precision_recall_f1(targets, scores)
    for column, name in (("precision", "P_C"), ("recall", "R_C"), ("F1", "F_C")):
        assert result[name] == table[column].mean()


# ---- all metrics of a set


def test_multilabel_metrics_hold_those_of_the_other_functions() -> None:
    targets, scores = random_targets(90, 7, seed=5), distinct_scores(90, 7, seed=6)
    result = set_metrics(targets, scores, 0.3)
    ap = metrics.average_precision_per_class(targets, scores)
    rates = metrics.precision_recall_f1(targets, scores, 0.3)
    assert {name: result[name] for name in rates} == rates
    assert result["mAP"] == metrics.mean_average_precision(targets, scores)
    assert result["mAP_present"] == pytest.approx(100 * ap[1:].mean())
    assert result["per_class_AP"] == (100 * ap).tolist()
    assert (result["threshold"], result["num_images"], result["absent_classes"]) == (0.3, 90, 1)
    assert result["nothing_predicted"] is False


def test_map_sklearn_is_scikit_learns_value_over_present_classes() -> None:
    targets = random_targets(90, 7, seed=5)
    scores = distinct_scores(90, 7, seed=6).round(1)
    expected = np.mean([average_precision_score(targets[:, k], scores[:, k]) for k in range(1, 7)])
    result = set_metrics(targets, scores)
    assert result["mAP_sklearn"] == pytest.approx(100 * expected)
    assert abs(result["mAP_sklearn"] - result["mAP_present"]) > 1e-3  # the ties matter


@pytest.mark.parametrize("threshold", [0.5, np.array([0.1, 0.2, 0.3, 0.4])])
def test_multilabel_metrics_can_be_written_as_json(threshold: float | Array) -> None:
    result = set_metrics(random_targets(30, 4, seed=1), distinct_scores(30, 4, seed=2), threshold)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["threshold"] == (
        threshold if isinstance(threshold, float) else threshold.tolist()
    )


def test_multilabel_metrics_tell_that_nothing_is_predicted() -> None:
    targets, scores = np.array([[1, 0], [0, 0]]), np.array([[0.4, 0.2], [0.1, 0.5]])
    assert set_metrics(targets, scores)["nothing_predicted"] is True
    assert set_metrics(targets, scores, 0.49)["nothing_predicted"] is False


def test_multilabel_metrics_without_any_positive_are_all_zeros(
    recwarn: pytest.WarningsRecorder,
) -> None:
    result = set_metrics(np.zeros((3, 2)), np.full((3, 2), 0.9))
    zeros = (*RATES, "CF1", "mAP", "mAP_present", "mAP_sklearn")
    assert {name: result[name] for name in zeros} == dict.fromkeys(zeros, 0.0)
    assert result["absent_classes"] == 2
    assert not recwarn.list


# ---- baselines


def test_frequency_baseline_is_the_prevalence() -> None:
    targets = random_targets(60, 5, seed=7)
    result = metrics.baselines(targets, draws=1)
    assert result["frequency_mAP"] == pytest.approx(100 * targets.mean())


def expected_chance_map(targets: Array) -> float:
    """Mean over classes of the expectation of AP over all orders of the images, in percent.

    The image at rank r is positive with probability P / N; each of the r - 1 before it then with
    (P - 1) / (N - 1), so E[AP] = sum over r of (1 + (r - 1) (P - 1) / (N - 1)) / (r N).
    """
    num_images = len(targets)
    ranks = np.arange(1, num_images + 1)
    expected = [
        ((1 + (ranks - 1) * (support - 1) / (num_images - 1)) / ranks).mean() if support else 0
        for support in targets.sum(axis=0)
    ]
    return float(100 * np.mean(expected))


def test_chance_baseline_has_the_expectation_of_random_rankings() -> None:
    targets = random_targets(25, 6, seed=8)
    expected = expected_chance_map(targets)
    result = metrics.baselines(targets, draws=1500)
    assert result["chance_mAP"] == pytest.approx(expected, abs=0.5)
    generator = np.random.default_rng(1)
    with_scores = [
        metrics.mean_average_precision(targets, generator.random(targets.shape))
        for _ in range(1500)
    ]
    assert np.mean(with_scores) == pytest.approx(expected, abs=0.5)
    assert expected > 100 * targets.mean() + 2  # chance lies above the prevalence in a small set


def test_chance_baseline_follows_seed_and_draws() -> None:
    targets = random_targets(30, 4, seed=9)

    def chance(draws: int, seed: int) -> float:
        return metrics.baselines(targets, draws, seed)["chance_mAP"]

    values = [chance(5, seed=0), chance(5, seed=1), chance(6, seed=0)]
    assert chance(5, seed=0) == values[0]
    assert all(left != right for left, right in pairwise(sorted(values)))


# ---- wrong input

TARGETS = np.array([[1, 0], [0, 1]])
SCORES = np.array([[0.1, 0.2], [0.3, 0.4]])


def with_value(array: Array, value: float) -> Array:
    """The array as float64 with the value at index (1, 0)."""
    changed = array.astype(np.float64)
    changed[1, 0] = value
    return changed


WRONG_INPUT: dict[str, tuple[Array, Array, str]] = {
    "shapes": (
        TARGETS,
        SCORES[:, :1],
        "Targets and scores must have the same shape, but the targets have (2, 2) and the scores "
        "have (2, 1).",
    ),
    "axes": (
        TARGETS[..., None],
        SCORES[..., None],
        "Targets and scores must have shape (images, classes), but they have (2, 2, 1).",
    ),
    "no images": (
        TARGETS[:0],
        SCORES[:0],
        "At least one image and one class are needed, but the targets have shape (0, 2).",
    ),
    "no classes": (
        TARGETS[:, :0],
        SCORES[:, :0],
        "At least one image and one class are needed, but the targets have shape (2, 0).",
    ),
    "soft targets": (
        with_value(TARGETS, 0.5),
        SCORES,
        "Every target must be 0 or 1, but the value at index (1, 0) is 0.5.",
    ),
    "negative targets": (
        with_value(TARGETS, -1),
        SCORES,
        "Every target must be 0 or 1, but the value at index (1, 0) is -1.0.",
    ),
    "NaN targets": (
        with_value(TARGETS, np.nan),
        SCORES,
        "Every target must be 0 or 1, but the value at index (1, 0) is nan.",
    ),
    "NaN scores": (
        TARGETS,
        with_value(SCORES, np.nan),
        "Every score must be a finite float32 number, but the value at index (1, 0) is nan.",
    ),
    "infinite scores": (
        TARGETS,
        with_value(SCORES, -np.inf),
        "Every score must be a finite float32 number, but the value at index (1, 0) is -inf.",
    ),
    "scores beyond float32": (
        TARGETS,
        with_value(SCORES, 1e300),
        "Every score must be a finite float32 number, but the value at index (1, 0) is 1e+300.",
    ),
}


@pytest.mark.parametrize(
    "function",
    [
        metrics.average_precision_per_class,
        metrics.mean_average_precision,
        metrics.precision_recall_f1,
        metrics.multilabel_metrics,
    ],
)
@pytest.mark.parametrize("name", WRONG_INPUT)
def test_wrong_input_is_named(function: Any, name: str, recwarn: pytest.WarningsRecorder) -> None:
    targets, scores, sentence = WRONG_INPUT[name]
    with pytest.raises(ValueError) as error:
        function(targets, scores)
    assert str(error.value) == sentence
    assert not recwarn.list


def test_average_precision_of_one_class_names_wrong_input() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(images,\), but they have \(2, 2\)\.$"):
        metrics.average_precision(SCORES, TARGETS)
    with pytest.raises(ValueError, match=r"the value at index \(1,\) is 2\.$"):
        metrics.average_precision([0.1, 0.2], [0, 2])
    with pytest.raises(ValueError, match=r"the targets have shape \(0,\)\.$"):
        metrics.average_precision([], [])


@pytest.mark.parametrize("function", [metrics.precision_recall_f1, metrics.multilabel_metrics])
@pytest.mark.parametrize(
    ("threshold", "sentence"),
    [
        (
            np.full(3, 0.5),
            "The threshold must be one number or one per class (2), but it has shape (3,).",
        ),
        (
            np.full((2, 1), 0.5),
            "The threshold must be one number or one per class (2), but it has shape (2, 1).",
        ),
        (np.array([0.5, np.nan]), "The threshold must be a number, but it is not-a-number (NaN)."),
    ],
)
def test_wrong_thresholds_are_named(function: Any, threshold: Array, sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        function(TARGETS, SCORES, threshold)
    assert str(error.value) == sentence


def test_baselines_name_wrong_input() -> None:
    with pytest.raises(
        ValueError, match=r"^The number of draws must be at least 1, but it is 0\.$"
    ):
        metrics.baselines(TARGETS, draws=0)
    with pytest.raises(ValueError, match=r"^Every target must be 0 or 1, but .* is 2\.$"):
        metrics.baselines(2 * TARGETS)
    with pytest.raises(ValueError, match=r"^At least one image and one class are needed"):
        metrics.baselines(TARGETS[:0])


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
def test_mean_of_scikit_learns_definition_equals_scikit_learn_with_ties(levels: int) -> None:
    targets = random_targets(70, 35, seed=levels)
    scores = np.random.default_rng(levels).integers(0, levels, targets.shape) / levels - 0.2
    expected = [average_precision_score(targets[:, k], scores[:, k]) for k in range(1, 35)]
    assert set_metrics(targets, scores)["mAP_sklearn"] == pytest.approx(
        100 * np.mean(expected), rel=1e-12
    )


def test_frequency_baseline_is_scikit_learns_value_of_constant_scores() -> None:
    targets = random_targets(50, 6, seed=3)
    expected = [average_precision_score(targets[:, k], np.ones(50)) for k in range(1, 6)]
    result = metrics.baselines(targets, draws=1)["frequency_mAP"]
    assert result == pytest.approx(100 * sum(expected) / 6)


def test_wrong_values_are_found_in_any_block_of_rows() -> None:
    rows = metrics._ROWS_PER_BLOCK + 5
    targets, scores = np.zeros((rows, 2)), np.zeros((rows, 2))
    scores[rows - 2, 1] = np.nan
    sentence = rf"the value at index \({rows - 2}, 1\) is nan\.$"
    with pytest.raises(ValueError, match=sentence):
        set_metrics(targets, scores)
    targets[rows - 2, 1] = np.nan
    with pytest.raises(ValueError, match=rf"^Every target .*{sentence}"):
        set_metrics(targets, scores)


def test_memory_does_not_grow_with_the_set() -> None:
    targets, scores = random_targets(16_000, 200, seed=1), distinct_scores(16_000, 200, seed=2)
    small_targets = targets.astype(np.uint8)
    tracemalloc.start()
    metrics.multilabel_metrics(small_targets, scores)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < scores.nbytes
