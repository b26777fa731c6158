from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from japagen.data.labels import Floats, Ints, LabelSpace
from japagen.training.head import Head, Labelled, fit_head

WIDTH = 6


def _classes(number: int) -> LabelSpace:
    return LabelSpace("classification", tuple(map(str, range(number))))


def _probabilities(head: Head, points: Floats) -> Floats:
    return head.outputs(points, _classes(len(head.bias)))


def _labelled(
    labels: Ints, classes: int, mass: Floats | None = None, phrases: Ints | None = None
) -> Labelled:
    phrases = np.zeros(0, dtype=np.int64) if phrases is None else phrases
    return Labelled(
        rows=[{}] * len(labels),
        targets=np.eye(classes)[labels] if len(labels) else np.zeros((0, classes)),
        mass=np.ones(len(labels)) if mass is None else mass,
        phrases=[{}] * len(phrases),
        phrase_labels=phrases,
        space=_classes(classes),
    )


def _points(seed: int, labels: Ints) -> Floats:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=(len(labels), WIDTH)) + 3 + labels[:, None])


NONE = np.zeros((0, WIDTH))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_is_a_logistic_regression_on_centred_features_of_one_scale(classes: int) -> None:
    labels = np.arange(30) % classes
    points = _points(0, labels)
    head = fit_head(_labelled(labels, classes), points, NONE)
    centred = points - points.mean(axis=0)
    scaled = centred / np.sqrt((centred**2).sum(axis=1).mean())
    expected = LogisticRegression(max_iter=500).fit(scaled, labels).predict_proba(scaled)
    np.testing.assert_allclose(_probabilities(head, points), expected, atol=1e-3)


@given(st.integers(0, 99), st.floats(-50, 50), st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_where_the_features_lie_and_how_large_they_are_does_not_matter(
    seed: int, shift: float, size: float
) -> None:
    labels = np.arange(12) % 3
    points, phrases = _points(seed, labels), _points(seed + 1, np.arange(3))
    data = _labelled(labels, 3, phrases=np.arange(3))
    here = _probabilities(fit_head(data, points, phrases), points)
    moved = points * size + shift
    there = _probabilities(fit_head(data, moved, phrases * size - shift), moved)
    np.testing.assert_allclose(here, there, atol=5e-3)


def test_mass_counts_as_so_many_texts() -> None:
    labels = np.array([0, 0, 1, 1])
    points = _points(1, labels)
    heavy = fit_head(_labelled(labels, 2, np.array([2.0, 1.0, 1.0, 1.0])), points, NONE)
    twice = np.array([0, 0, 1, 2, 3])
    repeated = fit_head(_labelled(labels[twice], 2), points[twice], NONE)
    np.testing.assert_allclose(
        _probabilities(heavy, points), _probabilities(repeated, points), atol=1e-4
    )


def test_a_label_without_texts_is_known_by_its_description() -> None:
    phrases = 5 * np.eye(WIDTH)[:3]
    described = _labelled(np.zeros(0, dtype=np.int64), 3, phrases=np.arange(3))
    assert list(fit_head(described, NONE, phrases).logits(phrases).argmax(axis=1)) == [0, 1, 2]
    texts = _labelled(np.array([0, 0, 1, 1]), 3)
    points = np.concatenate([phrases[[0, 0, 1, 1]]])
    without = fit_head(texts, points, NONE)
    assert _probabilities(without, phrases)[2, 2] < 1e-6
    with_it = fit_head(_labelled(np.array([0, 0, 1, 1]), 3, phrases=np.arange(3)), points, phrases)
    assert with_it.logits(phrases)[2].argmax() == 2


def test_phrases_share_what_their_description_weighs() -> None:
    labels = np.array([0, 1])
    points, phrases = _points(2, labels), _points(3, np.array([0, 1]))
    one = fit_head(_labelled(labels, 2, phrases=np.array([0, 1])), points, phrases)
    again = fit_head(_labelled(labels, 2, phrases=np.array([0, 0, 1])), points, phrases[[0, 0, 1]])
    np.testing.assert_allclose(
        _probabilities(one, points), _probabilities(again, points), atol=1e-4
    )


def test_one_label_alone_is_certain() -> None:
    head = fit_head(_labelled(np.zeros(3, dtype=np.int64), 2), _points(0, np.zeros(3)), NONE)
    assert _probabilities(head, np.zeros((1, WIDTH)))[0, 0] == pytest.approx(1)


TAGS = LabelSpace("multi_label", ("a", "b", "c"))
SCALE = LabelSpace("regression", ("0", "10"))


def _of(space: LabelSpace, targets: Floats, phrases: Ints | None = None, **more: Any) -> Labelled:
    data = _labelled(np.zeros(len(targets), dtype=np.int64), 1, phrases=phrases)
    return replace(data, targets=targets, space=space, **more)


def test_the_head_of_numbers_is_a_ridge_regression() -> None:
    features = np.random.default_rng(0).normal(size=(40, WIDTH))
    targets = features[:, :1] * 2 + 5
    found = fit_head(_of(SCALE, targets), features, NONE).logits(features)
    centred = features - features.mean(axis=0)
    scaled = centred / np.sqrt((centred**2).sum(axis=1).mean())
    expected = Ridge(alpha=3).fit(scaled, targets[:, 0]).predict(scaled)
    np.testing.assert_allclose(found[:, 0], expected)
    alike = fit_head(_of(SCALE, np.full((40, 1), 7.0)), features, NONE)
    np.testing.assert_allclose(alike.logits(features), 7)


def test_the_ends_of_a_scale_are_known_by_their_descriptions() -> None:
    phrases = np.eye(WIDTH)[:2]
    points = np.random.default_rng(0).normal(size=(4, WIDTH))
    data = _of(SCALE, np.full((4, 1), 5.0), phrases=np.arange(2))
    low, high = fit_head(data, points, phrases).logits(points.mean(axis=0) + phrases)[:, 0]
    assert low < 5 < high


def test_a_tag_that_every_text_has_is_likely() -> None:
    features = np.random.default_rng(0).normal(size=(10, WIDTH))
    targets = np.zeros((10, 3))
    targets[:, 0] = 1
    targets[:5, 1] = 1
    head = fit_head(_of(TAGS, targets), features, NONE)
    assert head.bias[0] == -head.bias[2] == pytest.approx(np.log(10.5 / 0.5))
    assert not head.weight[[0, 2]].any()
    assert head.weight[1].any()


def test_a_rare_tag_is_as_likely_as_a_common_one() -> None:
    features = np.random.default_rng(0).normal(size=(12, WIDTH))
    targets = np.zeros((12, 3))
    targets[:2, 0] = targets[2:, 1] = 1
    head = fit_head(_of(TAGS, targets), features, NONE)
    np.testing.assert_allclose(head.logits(features)[:, 0], -head.logits(features)[:, 1], atol=1e-3)


def test_a_tag_without_texts_is_known_by_its_description() -> None:
    phrases = 5 * np.eye(WIDTH)[:3]
    data = _of(TAGS, np.array([[1.0, 0, 0], [0, 1, 0]]), phrases=np.arange(3))
    found = fit_head(data, phrases[:2], phrases).outputs(phrases, TAGS)
    assert list(found.argmax(axis=1)) == [0, 1, 2]


@pytest.mark.parametrize("kind", ["classification", "regression"])
@given(st.integers(0, 99), st.integers(0, WIDTH - 1), st.floats(0.1, 100))
@settings(max_examples=20, deadline=None)
def test_the_unit_of_a_pairs_feature_does_not_matter(
    kind: str, seed: int, feature: int, size: float
) -> None:
    labels = np.arange(12) % 3
    points = _points(seed, labels)
    space = SCALE if kind == "regression" else _classes(3)
    data = _of(space, space.codes(labels.tolist()), bi_encoder=True)
    moved = points.copy()
    moved[:, feature] *= size
    here = fit_head(data, points, NONE).logits(points)
    np.testing.assert_allclose(fit_head(data, moved, NONE).logits(moved), here, atol=0.1)
