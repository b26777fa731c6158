from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, matthews_corrcoef

from japagen.data.dataset import Label
from japagen.data.labels import LabelSpace
from japagen.data.registry import METRICS
from japagen.data.scores import ModelScores
from japagen.evaluation.metrics import (
    bootstrap_difference,
    bootstrap_score,
    calibration_bins,
    coverage_curve,
    expected_calibration_error,
    score,
)

LABELS = ["a", "b", "c"]
CLASSES = LabelSpace("classification", tuple(LABELS))
TAGS = LabelSpace("multi_label", tuple(LABELS), may_be_empty=True)
SCALE = LabelSpace("regression", ("0", "1", "2", "5"))
labels = st.sampled_from(LABELS)
sets = st.lists(labels, unique=True).map(sorted)
numbers = st.sampled_from([0.0, 0.4, 1.0, 2.6, 3.0, 5.0])


def _scored(pairs: list[tuple[Any, Any]], space: LabelSpace) -> dict[str, Any]:
    true, predicted = zip(*pairs, strict=True)
    return score(true, space.codes(predicted), space)


@given(st.lists(st.tuples(labels, labels), min_size=1, max_size=40))
def test_scores_of_classes_agree_with_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    true, predicted = zip(*pairs, strict=True)
    found = _scored(pairs, CLASSES)
    expected = f1_score(true, predicted, labels=LABELS, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert found["matthews"] == pytest.approx(matthews_corrcoef(true, predicted))
    assert found["confusion"] == confusion_matrix(true, predicted, labels=LABELS).tolist()
    assert found["per_label"]["a"]["support"] == true.count("a")


@given(st.lists(st.tuples(sets, sets), min_size=1, max_size=30))
def test_scores_of_tags_agree_with_scikit_learn(pairs: list[tuple[Any, Any]]) -> None:
    true, predicted = (TAGS.codes(side) for side in zip(*pairs, strict=True))
    found = _scored(pairs, TAGS)
    for average in ("macro", "micro"):
        expected = f1_score(true, predicted, average=average, zero_division=0)
        assert found[f"{average}_f1"] == pytest.approx(expected)
    assert found["exact_match"] == pytest.approx(accuracy_score(true, predicted))
    assert "confusion" not in found


@given(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=30))
def test_scores_of_numbers_agree_with_scipy(pairs: list[tuple[float, float]]) -> None:
    true, predicted = zip(*pairs, strict=True)
    found = _scored(pairs, SCALE)
    constant = len(set(true)) == 1 or len(set(predicted)) == 1
    for name, correlation in (("pearson", pearsonr), ("spearman", spearmanr)):
        expected = 0.0 if constant else correlation(true, predicted)[0]
        assert found[name] == pytest.approx(expected, abs=1e-9)
    errors = np.abs(np.subtract(true, predicted))
    assert found["mean_absolute_error"] == pytest.approx(errors.mean())


@given(st.lists(st.tuples(numbers, numbers), min_size=4, max_size=12), st.integers(0, 99))
def test_a_draw_of_weights_is_a_sample_with_repeats(
    pairs: list[tuple[float, float]], seed: int
) -> None:
    codes = SCALE.codes([p[0] for p in pairs]), SCALE.codes([p[1] for p in pairs])
    drawn = np.random.default_rng(seed).integers(0, len(pairs), len(pairs))
    weights = np.bincount(drawn, minlength=len(pairs)).astype(float)[None, :]
    once = np.ones((1, len(pairs)))
    for name in ("spearman", "pearson"):
        found = METRICS[name](weights, *codes)[0]
        assert found == pytest.approx(
            METRICS[name](once, *(side[drawn] for side in codes))[0], abs=1e-9
        )


def _gain(true: list[Label], a: list[list[Label]], b: list[list[Label]], space: LabelSpace) -> Any:
    sides = [[space.codes(run) for run in side] for side in (a, b)]
    metric = "spearman" if space.kind == "regression" else "macro_f1"
    return bootstrap_difference(space.codes(true), *sides, metric, resamples=300)


def test_a_clear_gain_has_an_interval_above_zero() -> None:
    rng = np.random.default_rng(0)
    true = rng.choice(LABELS, 300).tolist()
    noisy = [t if rng.random() < 0.5 else "a" for t in true]
    gain = _gain(true, [true], [noisy], CLASSES)
    assert gain.low > 0
    assert gain.low <= gain.value <= gain.high
    assert gain.value == pytest.approx(
        1 - f1_score(true, noisy, labels=LABELS, average="macro", zero_division=0)
    )


def test_a_gain_in_rank_correlation_has_an_interval_too() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 5, 200)
    close, far = (np.clip(true + rng.normal(0, sd, 200), 0, 5).tolist() for sd in (0.5, 3))
    gain = _gain(true.tolist(), [close], [far], SCALE)
    assert gain.value == pytest.approx(spearmanr(true, close)[0] - spearmanr(true, far)[0])
    assert 0 < gain.low < gain.value < gain.high
    own = bootstrap_score(SCALE.codes(true.tolist()), [SCALE.codes(close)], "spearman")
    assert own.low < spearmanr(true, close)[0] < own.high


def test_equal_predictions_have_no_gain() -> None:
    gain = _gain(["a", "b"], [["a", "a"]], [["a", "a"]], CLASSES)
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)


def test_seeds_are_averaged() -> None:
    true: list[Label] = ["a", "b"] * 20
    two = LabelSpace("classification", ("a", "b"))
    gain = _gain(true, [true, ["a"] * 40], [["a"] * 40], two)
    assert gain.value == pytest.approx((1 + 1 / 3) / 2 - 1 / 3)


def test_many_texts_are_resampled_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    true = CLASSES.codes(["a", "b", "c", "a"] * 10)
    guess = CLASSES.codes(["a", "b", "a", "a"] * 10)
    whole = bootstrap_score(true, [guess], "accuracy", resamples=100)
    monkeypatch.setattr("japagen.evaluation.metrics._BLOCK", 7 * 40)
    assert bootstrap_score(true, [guess], "accuracy", resamples=100) == whole


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10)
    assert expected_calibration_error(
        probabilities, ["a"] * 6 + ["b"] * 4, ["a", "b"]
    ) == pytest.approx(0.3)


def test_bins_of_confidence_hold_every_text_once() -> None:
    probabilities = np.array([[0.95, 0.05], [0.55, 0.45], [0.5, 0.5], [0.0, 1.0]])
    found = calibration_bins(probabilities, ["a", "b", "a", "b"], ["a", "b"])
    assert [row.texts for row in found] == [2, 2]
    assert [row.accuracy for row in found] == [0.5, 1.0]
    assert [row.confidence for row in found] == pytest.approx([0.525, 0.975])
    assert calibration_bins(np.zeros((0, 2)), [], ["a", "b"]) == []


def test_the_surest_are_answered_first_and_equals_together() -> None:
    confidence = [0.9, 0.6, 0.8, 0.8]
    probabilities = np.array([[value, 1 - value] for value in confidence])
    found = coverage_curve(probabilities, ["a", "b", "a", "b"], ["a", "b"])
    assert [(row.share, row.confidence) for row in found] == [(0.25, 0.9), (0.75, 0.8), (1.0, 0.6)]
    assert [row.accuracy for row in found] == pytest.approx([1.0, 2 / 3, 0.5])
    assert coverage_curve(np.zeros((0, 2)), [], ["a", "b"]) == []


def test_the_most_texts_that_are_right_often_enough() -> None:
    # Accuracy falls, and rises again: the larger share counts.
    rows = [(0.2, 1.0), (0.4, 0.8), (0.6, 0.9), (1.0, 0.7)]
    coverage = [{"share": s, "accuracy": a, "confidence": 1 - s} for s, a in rows]
    model = ModelScores.model_validate({"coverage": coverage})
    answered = model.answered(0.9)
    assert answered is not None
    assert answered.share == 0.6
    assert model.answered(1.1) is None
