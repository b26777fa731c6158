from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.mixing.learning_curve import curves, worth_of
from tests.mixing.planted import planted

PLACES = [2, 4, 8, 16]
LOSSES = np.array([1.0, 0.8, 0.6, 0.4])


def test_good_text_is_worth_gold_and_bad_text_none() -> None:
    good = curves(planted("good"), 0).worth
    assert good.texts is None or good.texts > 0
    assert good.low is not None
    assert good.low > 0
    bad = curves(planted("random"), 0).worth
    assert bad.texts is not None
    assert bad.texts < 0
    assert bad.high is not None
    assert not bad.extrapolated


def test_curves_start_where_there_is_no_synthetic_text_and_fall_with_gold() -> None:
    found = curves(planted("good"), 0)
    assert [p.per_label for p in found.gold] == [2, 3, 4, 6, 8, 11, 14]
    assert found.gold[-1].loss < found.gold[0].loss
    assert found.synthetic[0].loss == found.gold[-1].loss
    assert found.synthetic[0].per_label == 0
    assert found.synthetic[-1].loss < found.synthetic[0].loss
    assert all(p.low <= p.loss <= p.high for p in (*found.gold, *found.synthetic))
    assert json.loads(json.dumps(asdict(found)))["worth"]["base"] == 14
    assert found == curves(planted("good"), 0)


@pytest.mark.parametrize(
    ("wanted", "texts"), [(1.2, -14), (0.8, -12), (0.5, 2**3.5 - 16), (0.4, 0), (0.3, 2**4.5 - 16)]
)
def test_a_curve_is_read_against_the_logarithm(wanted: float, texts: float) -> None:
    assert worth_of(PLACES, LOSSES, wanted) == pytest.approx(texts)


def test_a_curve_is_read_no_further_than_a_doubling_past_its_end() -> None:
    assert worth_of(PLACES, LOSSES, 0.21) == pytest.approx(16 * (2**0.95 - 1))
    assert worth_of(PLACES, LOSSES, 0.19) == float("inf")
    assert worth_of(PLACES, np.array([0.5, 0.5, 0.5, 0.5]), 0.4) == float("inf")


def test_a_loss_below_the_end_is_worth_something_though_the_curve_was_lower_before() -> None:
    bumpy = np.array([1.0, 0.6, 0.5, 0.55])
    assert worth_of(PLACES, bumpy, 0.54) > 0
    assert worth_of(PLACES, bumpy, 0.56) < 0


@given(st.lists(st.floats(0.1, 2), min_size=4, max_size=4), st.floats(0, 3), st.floats(0, 0.5))
def test_a_lower_loss_is_never_worth_less(losses: list[float], wanted: float, less: float) -> None:
    curve = np.array(losses)
    assert worth_of(PLACES, curve, wanted - less) >= worth_of(PLACES, curve, wanted) - 1e-6
