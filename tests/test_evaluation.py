from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from japagen.evaluation import bootstrap_difference, expected_calibration_error, score

LABELS = ["a", "b", "c"]
labels = st.sampled_from(LABELS)


@given(st.lists(st.tuples(labels, labels), min_size=1, max_size=40))
def test_scores_agree_with_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    true, predicted = zip(*pairs, strict=True)
    found = score(true, predicted, LABELS)
    expected = f1_score(true, predicted, labels=LABELS, average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(expected)
    assert found.accuracy == pytest.approx(accuracy_score(true, predicted))
    assert found.confusion == confusion_matrix(true, predicted, labels=LABELS).tolist()


def test_a_clear_gain_has_an_interval_above_zero() -> None:
    rng = np.random.default_rng(0)
    true = rng.choice(LABELS, 300).tolist()
    noisy = [t if rng.random() < 0.5 else "a" for t in true]
    gain = bootstrap_difference(true, [true], [noisy], LABELS, resamples=300)
    assert gain.low > 0
    assert gain.low <= gain.value <= gain.high
    assert gain.value == pytest.approx(
        1 - f1_score(true, noisy, labels=LABELS, average="macro", zero_division=0)
    )


def test_equal_predictions_have_no_gain() -> None:
    gain = bootstrap_difference(["a", "b"], [["a", "a"]], [["a", "a"]], LABELS, resamples=100)
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)


def test_seeds_are_averaged() -> None:
    true = ["a", "b"] * 20
    gain = bootstrap_difference(true, [true, ["a"] * 40], [["a"] * 40], ["a", "b"], resamples=100)
    assert gain.value == pytest.approx((1 + 1 / 3) / 2 - 1 / 3)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10)
    assert expected_calibration_error(
        probabilities, ["a"] * 6 + ["b"] * 4, ["a", "b"]
    ) == pytest.approx(0.3)
