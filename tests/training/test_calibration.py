from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.data.labels import Floats, Ints, LabelSpace
from japagen.training.calibration import (
    FOLDS,
    calibrate,
    fit_temperature,
    fold_of,
    out_of_fold_logits,
)
from japagen.training.classifier import threshold_for
from japagen.training.head import Head, Labelled, fit_head

TWO = LabelSpace("classification", ("a", "b"))


@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    noise = rng.gumbel(size=logits.shape)
    labels = (logits / temperature + noise).argmax(axis=1)
    assert fit_temperature(
        logits, np.eye(3)[labels], LabelSpace("classification", ("a", "b", "c"))
    ) == pytest.approx(temperature, rel=0.15)


def test_a_few_lucky_texts_do_not_call_for_certainty() -> None:
    logits = np.eye(2)[[0, 1, 0, 1]]
    assert 0.1 < fit_temperature(logits, logits, TWO) < 1


def test_numbers_are_stretched_to_where_gold_lies() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 2))
    head = Head(np.array([[0.2, 0.0]]), np.array([3.0]))
    true = 5 + features[:, :1] + rng.normal(size=(200, 1)) / 5
    space = LabelSpace("regression", ("0", "10"))
    found, judged = calibrate(head, head.logits(features), true, space)
    assert not judged
    # What least squares could ask for is bounded: 5 is more than 4.
    assert found.weight[0, 0] == 4 * head.weight[0, 0]
    near = head.logits(features) * 3
    found, _ = calibrate(Head(head.weight * 3, head.bias * 3), near, true, space)
    np.testing.assert_allclose(found.logits(features), true, atol=0.8)
    backwards, _ = calibrate(head, -head.logits(features), true, space)
    assert backwards.weight[0, 0] > 0


def test_tags_are_calibrated_without_another_decision() -> None:
    rng = np.random.default_rng(0)
    space = LabelSpace("multi_label", ("a", "b"), may_be_empty=True)
    features = rng.normal(size=(3000, 2)) * 2
    head = Head(np.eye(2) * 3, np.zeros(2))
    true = (features + rng.logistic(size=features.shape) > 0).astype(float)
    found, judged = calibrate(head, head.logits(features), true, space)
    np.testing.assert_allclose(found.weight, np.eye(2), atol=0.15)
    before, after = (space.decide(h.outputs(features, space)) for h in (head, found))
    np.testing.assert_array_equal(before, after)
    right = np.mean([r for _, r in judged])
    assert right == pytest.approx((after == true).all(axis=1).mean())
    assert all(0.5 <= sure <= 1 for sure, _ in judged)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 9))
def test_each_label_is_spread_over_the_folds(labels: list[int], seed: int) -> None:
    folds = fold_of(np.array(labels), seed)
    for label in set(labels):
        sizes = np.bincount(folds[np.array(labels) == label], minlength=FOLDS)
        assert sizes.max() - sizes.min() <= 1


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcdef")), min_size=1), st.integers(0, 9)
)
def test_repetitions_of_a_text_share_a_fold(rows: list[tuple[int, str]], seed: int) -> None:
    labels, texts = np.array([label for label, _ in rows]), [text for _, text in rows]
    folds = fold_of(labels, seed, texts=texts)
    assert all(len({f for f, t in zip(folds, texts, strict=True) if t == x}) == 1 for x in texts)


def test_a_text_is_judged_without_what_descends_from_it() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(10) % 2
    features = rng.normal(size=(14, 4))
    data = Labelled(
        rows=[{"input_ids": [i]} for i in range(14)],
        targets=np.eye(2)[[*labels, 0, 1, 0, 1]],
        mass=np.ones(14),
        phrases=[],
        phrase_labels=np.zeros(0, dtype=np.int64),
        space=TWO,
    )
    ids = [str(i) for i in range(10)]
    shots = [["0", "1"], ["5"], None, ["9"]]
    none = np.zeros((0, 4))

    def judge(rows: Ints, others: Ints) -> Floats:
        assert (rows < 10).sum() == 8
        return fit_head(data.take(rows), features[rows], none).logits(features[others])

    judged, found = out_of_fold_logits(data, ids, shots, judge, 0)
    folds = fold_of(labels, 0)
    assert judged.tolist() == list(range(10))
    for row in range(10):
        held = {i for i in range(10) if folds[i] == folds[row]}
        keep = [i for i in range(10) if i not in held]
        keep += [10 + j for j, s in enumerate(shots) if not held & {int(x) for x in s or ()}]
        head = fit_head(data.take(np.array(keep)), features[keep], none)
        np.testing.assert_allclose(found[row], head.logits(features[row : row + 1])[0])
    judged, part = out_of_fold_logits(data, ids, shots, judge, 0, most=2)
    assert judged.tolist() == np.flatnonzero(folds < 2).tolist()
    np.testing.assert_array_equal(part, found[judged])


@given(
    st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=1, max_size=40),
    st.floats(0.05, 1),
)
def test_the_threshold_is_the_least_that_is_good_enough(
    judged: list[tuple[int, bool]], precision: float
) -> None:
    confidence = [c / 10 for c, _ in judged]
    right = [r for _, r in judged]

    def share(threshold: float) -> float:
        above = [r for c, r in zip(confidence, right, strict=True) if c >= threshold]
        return sum(above) / len(above)

    good = [c for c in confidence if share(c) >= precision - 1e-12]
    assert threshold_for(precision, confidence, right) == (min(good) if good else None)
