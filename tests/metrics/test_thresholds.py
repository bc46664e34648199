"""Tuned thresholds and fitted temperatures, against scikit-learn, SciPy and PyTorch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import Script, assert_refused, data_flags
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    f1_score,
    log_loss,
    precision_recall_curve,
    precision_score,
    recall_score,
)

from helper_functions.checkpoints.checkpoint import save_checkpoint
from helper_functions.metrics.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    fit_temperature,
    logits_of,
    reliability,
    scale_scores,
)
from helper_functions.metrics.thresholds import (
    NEVER,
    OperatingPoint,
    Rule,
    best_threshold,
    parse_rule,
    read_point,
    tune,
    tune_thresholds,
    write_point,
)
from helper_functions.runtime.errors import UserError
from models import create_model


def _case(
    seed: int, number: int = 60, classes: int = 7, digits: int = 8
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Targets, and scores that know something of them; few digits make ties."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((number, classes)) < 0.3).astype(np.uint8)
    targets[:3] = 1
    scores = 1 / (1 + np.exp(-rng.normal(1.5 * targets - 1, 1.2)))
    return targets, scores.round(digits).clip(10.0**-digits, 1).astype(np.float32)


@pytest.mark.parametrize("digits", [8, 1])
@pytest.mark.parametrize("seed", range(5))
def test_f1_thresholds_reach_what_scikit_learn_finds(seed: int, digits: int) -> None:
    targets, scores = _case(seed, digits=digits)
    thresholds = np.array(tune_thresholds(targets, scores, Rule("f1"), 0.5), np.float32)
    for k, threshold in enumerate(thresholds):
        precision, recall, _ = precision_recall_curve(targets[:, k], scores[:, k])
        with np.errstate(invalid="ignore"):
            best = np.nanmax(2 * precision * recall / (precision + recall))
        assert f1_score(targets[:, k], scores[:, k] > threshold) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("digits", [8, 1])
@pytest.mark.parametrize("floor", [0.5, 0.8, 0.9, 1.0])
def test_precision_thresholds_keep_the_floor_at_the_best_recall(floor: float, digits: int) -> None:
    reached = 0
    for seed in range(5):
        targets, scores = _case(seed, digits=digits)
        rule = Rule("precision", floor)
        thresholds = np.array(tune_thresholds(targets, scores, rule, 0.5), np.float32)
        for k, threshold in enumerate(thresholds):
            precision, recall, _ = precision_recall_curve(targets[:, k], scores[:, k])
            allowed = recall[(precision >= floor) & (recall > 0)]
            decisions = scores[:, k] > threshold
            if not allowed.size:
                assert threshold == NEVER
                assert not decisions.any()
                continue
            reached += 1
            assert precision_score(targets[:, k], decisions) >= floor
            found = recall_score(targets[:, k], decisions)
            assert found == pytest.approx(allowed.max(), abs=1e-12)
    assert reached


def test_a_threshold_lies_between_scores_however_close() -> None:
    close = np.nextafter(np.float32(0.7), np.float32(1))
    for scores in ([0.2, 0.7, close], [0.0, 0.0, 1e-45], [0.1, 0.2, 0.9]):
        values = np.array(scores, np.float32)
        threshold = best_threshold(np.array([False, False, True]), values, Rule("f1"), 0.5)
        assert (values > np.float32(threshold)).tolist() == [False, False, True]
    values = np.array([0.1, 0.2, 0.9], np.float32)
    third = best_threshold(np.array([False, False, True]), values, Rule("f1"), 0.5)
    assert third == pytest.approx(0.55)


def test_classes_without_an_image_keep_the_fallback() -> None:
    targets, scores = _case(0)
    targets[:, 2] = 0
    scores[:, 4] = 0
    for rule in (Rule("f1"), Rule("precision", 0.9)):
        thresholds = tune_thresholds(targets, scores, rule, 0.42)
        assert thresholds[2] == thresholds[4] == 0.42
        assert 0.42 not in thresholds[:2]


@pytest.mark.parametrize(
    ("text", "rule"), [("f1", Rule("f1")), ("precision=0.9", Rule("precision", 0.9))]
)
def test_rules_are_read_and_written(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule
    assert str(rule) == text


@pytest.mark.parametrize("text", ["f2", "f1=1", "precision", "precision=0", "precision=1.1", ""])
def test_other_rules_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_rule(text)


# Temperature


@pytest.mark.parametrize("stretch", [0.3, 1.0, 2.5, 4.0, 8.0])
def test_the_temperature_is_the_one_scipy_finds(stretch: float) -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(-1, 1.5, (200, 9))
    targets = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    scores = torch.tensor(stretch * logits, dtype=torch.float32).sigmoid().numpy()

    def loss(temperature: float) -> float:
        scaled = torch.tensor(stretch * logits / temperature, dtype=torch.float64)
        labels = torch.tensor(targets, dtype=torch.float64)
        return torch.nn.functional.binary_cross_entropy_with_logits(scaled, labels).item()

    best = minimize_scalar(
        loss, bounds=(MIN_TEMPERATURE, MAX_TEMPERATURE), options={"xatol": 1e-9}
    ).x
    found = fit_temperature(targets, scores)
    # Near 1, float32 probabilities know their logits only so well, and above 17 not at all.
    assert found == pytest.approx(best, rel={8.0: 5e-3, 4.0: 1e-4}.get(stretch, 1e-5))
    scaled = scale_scores(scores, found).ravel()
    assert log_loss(targets.ravel(), scaled) == pytest.approx(loss(best), rel=2e-3)
    assert abs(found - stretch) < 0.2 * stretch


def test_a_temperature_without_a_minimum_ends_at_the_bounds() -> None:
    targets = np.array([[1, 0], [0, 1]], np.uint8)
    right = np.where(targets == 1, 0.8, 0.3).astype(np.float32)
    assert fit_temperature(targets, right) == pytest.approx(MIN_TEMPERATURE)
    assert fit_temperature(1 - targets, right) == pytest.approx(MAX_TEMPERATURE)
    assert fit_temperature(targets, np.full((2, 2), 0.5, np.float32)) == 1


def test_scaling_is_that_of_logits() -> None:
    logits = torch.linspace(-80, 12, 1001)[:, None]
    scaled = scale_scores(logits.sigmoid().numpy(), 1.7)
    expected = (logits.double() / 1.7).sigmoid().numpy()
    np.testing.assert_allclose(scaled, expected, rtol=2e-4)
    assert (np.diff(scaled[:, 0]) > 0).all()
    assert scale_scores(scaled, 1.0) is scaled
    ends = scale_scores(np.array([[0.0, 1.0]], np.float32), 0.5)
    assert np.isfinite(ends).all()
    assert logits_of(np.array([0.5], np.float32)).item() == 0


def test_scaling_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, scores = _case(1, number=50)
    whole = scale_scores(scores, 2.0), fit_temperature(targets, scores)
    bins = reliability(targets, scores)
    monkeypatch.setattr("helper_functions.metrics.calibration._BLOCK", 16)
    np.testing.assert_array_equal(scale_scores(scores, 2.0), whole[0])
    assert fit_temperature(targets, scores) == pytest.approx(whole[1], rel=1e-8)
    np.testing.assert_allclose(reliability(targets, scores).scores, bins.scores)


@pytest.mark.parametrize("bins", [5, 15])
def test_reliability_is_scikit_learns(bins: int) -> None:
    targets, scores = _case(2, number=300)
    found = reliability(targets, scores, bins)
    true, predicted = calibration_curve(targets.ravel(), scores.ravel(), n_bins=bins)
    some = found.counts > 0
    np.testing.assert_allclose(found.frequencies[some], true, rtol=1e-6)
    np.testing.assert_allclose(found.scores[some], predicted, rtol=1e-6)
    counts = np.histogram(scores, bins, (0, 1))[0]
    np.testing.assert_array_equal(found.counts, counts)
    error = (counts[some] * abs(true - predicted)).sum() / scores.size
    assert found.error == pytest.approx(error, rel=1e-6)


def test_first_the_temperature_then_the_thresholds() -> None:
    targets, scores = _case(4)
    plain = tune(OperatingPoint(0.5), targets, scores, Rule("f1"), False)
    both = tune(OperatingPoint(0.5), targets, scores, Rule("f1"), True)
    assert plain.temperature == 1
    assert both.temperature == fit_temperature(targets, scores) != 1
    # The order of the scores stays, and so do the decisions.
    np.testing.assert_array_equal(
        both.scale(scores) > both.class_thresholds(7),
        plain.scale(scores) > plain.class_thresholds(7),
    )
    only = tune(OperatingPoint(0.3), targets, scores, None, True)
    assert (only.threshold, only.temperature) == (0.3, both.temperature)


# The file


def test_the_file_returns_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    point = OperatingPoint([0.1, 1 / 3], 1.25)
    write_point(path, point, ["crab", "anemone"], {"rule": "f1"})
    assert json.loads(path.read_text())["rule"] == "f1"
    assert read_point(path, ["crab", "anemone"]) == point
    assert read_point(path, ["anemone", "crab"]).threshold == [1 / 3, 0.1]
    write_point(path, OperatingPoint(0.4), ["crab", "anemone"], {})
    assert read_point(path, ["crab", "anemone"]) == OperatingPoint([0.4, 0.4])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"thresholds\.json cannot be read \(.*No such file"),
        ('{"thresholds": ', r"cannot be read \(.*give a thresholds\.json that val\.py wrote"),
        ("[" * 100_000, r"cannot be read"),
        ("[0.5]", r"holds no thresholds; give"),
        ('{"thresholds": [0.5]}', r"holds no thresholds; give"),
        ('{"thresholds": {"crab": 0.5}}', r"lacks 1 of the model's 2 classes, such as 'anemone'"),
        (
            '{"thresholds": {"crab": 0.5, "anemone": 0.5, "eel": 0.5}}',
            r"has a threshold for 'eel', which is no class of the model; tune",
        ),
        ('{"thresholds": {"crab": 1.5, "anemone": 0.5}}', r"has 1\.5 as the threshold of 'crab'"),
        ('{"thresholds": {"crab": NaN, "anemone": 0.5}}', r"has nan as the threshold of 'crab'"),
        ('{"thresholds": {"crab": "0", "anemone": 0}}', r"has '0' as the threshold of 'crab'"),
        ('{"thresholds": {"crab": true, "anemone": 0}}', r"has True as the threshold of 'crab'"),
        (
            '{"thresholds": {"crab": 0.5, "anemone": 0.5}, "temperature": 0}',
            r"has 0 as temperature; it must be a number above 0",
        ),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, content: str | None, sentence: str) -> None:
    path = tmp_path / "thresholds.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=sentence) as error:
        read_point(path, ["crab", "anemone"])
    assert "\n" not in str(error.value)


# Through val.py


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that knows nothing, but scores images differently."""
    torch.manual_seed(0)
    model = create_model("resnet10t", 3, subsampling=True, sub_h=2, sub_w=2, min_superpixels=2)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.mul_(20)
    path = tmp_path_factory.mktemp("thresholds") / "model.ckpt"
    info: dict[str, Any] = {
        "task": "classification",
        "classes": ["blue", "green", "red"],
        "image_size": 64,
        "mean": None,
        "std": None,
    }
    content = {"settings": model.settings, "model": model.eval().state_dict(), "info": info}
    save_checkpoint(path, {**content, "args": {}})
    return path


Val = Callable[..., Any]


@pytest.fixture
def run_val(run_here: Script, checkpoint: Path, tiny_set: Path, tmp_path: Path) -> Val:
    """Runs ``val.py`` on the tiny set and returns the outcome."""

    def run(name: str, *flags: object, labelled: bool = True) -> Any:
        data = data_flags(tiny_set) if labelled else ("--img_dir", tiny_set / "images")
        fixed = ("--device", "cpu", "-j", 0, "--ckpt-path", checkpoint)
        return run_here("val.py", *data, *fixed, "--output", tmp_path / name, *flags)

    return run


def _metrics(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def _scores(folder: Path) -> npt.NDArray[np.float64]:
    return np.loadtxt(folder / "predictions.csv", delimiter=",", skiprows=1, usecols=(1, 2, 3))


def test_thresholds_are_tuned_stored_and_applied(run_val: Val, tmp_path: Path) -> None:
    assert run_val("plain").status == 0
    done = run_val("tuned", "--tune-thresholds", "f1", "--temperature", "fit")
    assert done.status == 0, done.errors
    plain, tuned = _metrics(tmp_path / "plain"), _metrics(tmp_path / "tuned")
    assert tuned["F_C"] > plain["F_C"]
    assert tuned["mAP"] == pytest.approx(plain["mAP"])
    assert not (tmp_path / "plain" / "thresholds.json").exists()
    stored = json.loads((tmp_path / "tuned" / "thresholds.json").read_text())
    assert stored["rule"] == "f1"
    assert stored["split"] == "val"
    assert list(stored["thresholds"].values()) == tuned["threshold"]
    assert stored["temperature"] == tuned["temperature"] != 1
    assert f"The temperature is {stored['temperature']:.4g}." in done.printed
    assert "at own thresholds" in done.printed

    file = tmp_path / "tuned" / "thresholds.json"
    assert run_val("applied", "--thresholds", file).status == 0
    assert _metrics(tmp_path / "applied") == tuned

    folder = run_val("folder", "--thresholds", file, labelled=False)
    assert folder.status == 0, folder.errors
    logits = logits_of(_scores(tmp_path / "plain")) / stored["temperature"]
    np.testing.assert_allclose(
        _scores(tmp_path / "tuned"), 1 / (1 + np.exp(-logits)), rtol=1e-4, atol=1e-7
    )
    limits = list(stored["thresholds"].values())
    lines = (tmp_path / "folder" / "predictions.csv").read_text().splitlines()[1:]
    for line, printed in zip(lines[:10], folder.printed.splitlines(), strict=False):
        name, *scores = line.split(",")
        above = [k for k in range(3) if float(scores[k]) > limits[k]]
        ranked = sorted(above, key=lambda k: -float(scores[k]))
        expected = [f"{['blue', 'green', 'red'][k]} {float(scores[k]):.2f}" for k in ranked]
        assert printed == f"{name}: {', '.join(expected) or 'nothing above its threshold'}"


def test_a_fixed_temperature_softens_scores(run_val: Val, tmp_path: Path) -> None:
    assert run_val("plain").status == 0
    assert run_val("soft", "--temperature", 3).status == 0
    plain, soft = _scores(tmp_path / "plain"), _scores(tmp_path / "soft")
    assert (abs(soft - 0.5) <= abs(plain - 0.5)).all()
    assert _metrics(tmp_path / "soft")["temperature"] == 3
    assert math.isclose(_metrics(tmp_path / "soft")["mAP"], _metrics(tmp_path / "plain")["mAP"])
    assert not (tmp_path / "soft" / "thresholds.json").exists()


def test_a_precision_floor_is_kept(run_val: Val, tmp_path: Path) -> None:
    done = run_val("floor", "--tune-thresholds", "precision=0.9")
    assert done.status == 0, done.errors
    table = (tmp_path / "floor" / "per_class.csv").read_text().splitlines()[1:]
    for line in table:
        fields = line.split(",")
        assert float(fields[3]) >= 90 or fields[6] == "0"


def test_flags_that_contradict_are_refused(run_val: Val, tmp_path: Path) -> None:
    file = tmp_path / "thresholds.json"
    write_point(file, OperatingPoint(0.5), ["blue", "green", "pink"], {})
    refused = run_val("out", "--thresholds", file)
    assert_refused(refused, "lacks 1 of the model's 3 classes, such as 'red'", tmp_path / "out")
    for flags in (("--tune-thresholds", "f1"), ("--temperature", "fit")):
        unlabelled = run_val("out", *flags, labelled=False)
        assert_refused(unlabelled, "needs labels: give --csv_path as well", tmp_path / "out")
        both = run_val("out", "--thresholds", file, *flags)
        assert_refused(both, "--thresholds brings thresholds and temperature", tmp_path / "out")
    for flags in (("--tune-thresholds", "f3"), ("--temperature", "cold"), ("--temperature", "0")):
        assert_refused(run_val("out", *flags), f"argument {flags[0]}: ", tmp_path / "out")


def test_a_class_that_only_looks_the_same_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps({"thresholds": {"cafe\u0301": 0.5}}))
    with pytest.raises(UserError, match=r"for 'cafe\\u0301', .* class 'caf\\xe9' and is another"):
        read_point(path, ["caf\xe9"])
