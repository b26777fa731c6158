"""Weights pulled half way, within bounds, and never lifted for what is off topic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.alignment.bounds import bound_weights

_WEIGHTS = st.one_of(st.just(0.0), st.floats(1e-6, 1e6))
_ROWS = st.lists(
    st.tuples(_WEIGHTS, st.sampled_from(["配送", "返品"]), st.booleans()), min_size=1, max_size=40
)


@given(_ROWS, st.floats(0, 1), st.booleans())
def test_totals_and_bounds_are_kept_for_any_weights(
    rows: list[tuple[float, str, bool]], strength: float, topical: bool
) -> None:
    weights = np.array([row[0] for row in rows])
    names = [row[1] for row in rows]
    off_topic = np.array([row[2] for row in rows]) if topical else None
    found = bound_weights(weights, names, strength=strength, off_topic=off_topic)
    assert ((found > 0) == (weights > 0)).all()
    for name in set(names):
        own = np.array([n == name for n in names]) & (weights > 0)
        if not own.any():
            continue
        assert found[own].sum() == pytest.approx(weights[own].sum(), rel=1e-6)
        relative = found[own] / weights[own].mean()
        assert (relative >= 0.5 - 1e-6).all()
        assert (relative <= 2 + 1e-6).all()
        if off_topic is not None:
            assert (relative[off_topic[own]] <= 1 + 1e-6).all()
        else:
            # Who weighed more weighs no less.
            order = np.argsort(weights[own])
            assert (np.diff(relative[order]) >= -1e-9).all()


WEIGHTS = np.array([0.8, 1.0, 1.2, 0.1, 2.9])
LABELS = ["配送"] * 3 + ["返品"] * 2


def test_without_strength_texts_of_a_label_weigh_alike() -> None:
    found = bound_weights(WEIGHTS, LABELS, strength=0)
    np.testing.assert_allclose(found, [1, 1, 1, 1.5, 1.5])


def test_with_all_strength_weights_stay_as_they_are_within_the_bounds() -> None:
    found = bound_weights(WEIGHTS, LABELS, strength=1)
    np.testing.assert_allclose(found[:3], WEIGHTS[:3])
    np.testing.assert_allclose(found[3:], [0.75, 2.25], rtol=1e-6)


def test_half_the_strength_is_the_square_root() -> None:
    found = bound_weights(np.array([1.0, 1.44]), ["配送"] * 2, strength=0.5)
    assert found[1] / found[0] == pytest.approx(1.2)


def test_one_heavy_text_does_not_pass_the_bound_when_the_total_is_restored() -> None:
    weights = np.array([0.01] * 20 + [10.0])
    found = bound_weights(weights, ["配送"] * 21, strength=1)
    assert found.max() == pytest.approx(2 * weights.mean())
    assert found.sum() == pytest.approx(weights.sum())


def test_what_is_off_topic_is_not_lifted() -> None:
    weights = np.array([0.5, 0.5, 2.0, 2.0])
    off_topic = np.array([False, True, False, True])
    found = bound_weights(weights, ["配送"] * 4, strength=1, off_topic=off_topic)
    assert found[3] == pytest.approx(weights.mean())
    assert found[2] > weights.mean()
    assert found[1] < weights.mean()
    every = bound_weights(weights, ["配送"] * 4, strength=1, off_topic=np.ones(4, dtype=bool))
    np.testing.assert_allclose(every, weights.mean(), rtol=1e-6)


def test_there_may_be_no_texts() -> None:
    assert bound_weights(np.zeros(0), [], strength=0.5).shape == (0,)
