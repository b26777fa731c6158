from __future__ import annotations

import numpy as np
import pytest

from japagen.tuning import measures
from japagen.tuning.measures import Measure, Texts, unit

RNG = np.random.default_rng(0)


def cloud(label: int, count: int, shift: float = 0.0, spread: float = 0.3) -> np.ndarray:
    centre = np.zeros(8)
    centre[label] = 1.0
    centre[7] = shift
    return unit(centre + spread * RNG.normal(size=(count, 8)))


def texts(right: float = 0.8, kept: float = 1.0, count: int = 40, **how: float) -> Texts:
    labels = np.repeat([0, 1], count)
    return Texts(
        labels,
        np.arange(2 * count) // 8,
        np.arange(2 * count) % 10 < 10 * kept,
        np.full(2 * count, right),
        np.concatenate([cloud(k, count, **how) for k in (0, 1)]),
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_RESAMPLES", 100)


TARGETS = np.repeat([0, 1], 30)
MEASURE = Measure(np.concatenate([cloud(0, 30), cloud(1, 30)]), TARGETS, 0)


def test_texts_like_gold_are_at_no_distance_however_few_they_are() -> None:
    few = [MEASURE.score(texts(count=8)).distance for _ in range(40)]
    assert abs(float(np.mean(few))) < 0.02
    far = MEASURE.score(texts(shift=1.0))
    assert far.distance > 0.15
    alike = MEASURE.score(texts(spread=0.001))
    assert alike.distance > 0.15  # all of one kind are not like gold either


def test_what_the_filters_turn_down_agrees_with_nothing() -> None:
    whole, half = MEASURE.score(texts()), MEASURE.score(texts(kept=0.5))
    assert whole.agreement == pytest.approx(0.8)
    assert half.agreement == pytest.approx(0.4)
    nothing = MEASURE.score(texts(kept=0.0))
    assert (nothing.agreement, nothing.distance) == (0.0, 1.0)


def test_a_gain_is_told_from_chance() -> None:
    better = MEASURE.gain(texts(right=0.9), texts(right=0.5, shift=0.8))
    assert 0 < better["low"] < better["value"] < better["high"]
    none = [MEASURE.gain(texts(), texts()) for _ in range(12)]
    assert sum(gain["low"] < 0 < gain["high"] for gain in none) >= 9  # 95% of them, on average


def test_the_error_is_that_of_drawing_shot_sets_anew() -> None:
    rng = np.random.default_rng(0)
    per_set = np.repeat(rng.uniform(0, 1, 10), 8)  # texts of one prompt are right or wrong together
    found = texts()
    lumpy = Texts(found.labels, found.shot_sets, found.kept, per_set, found.vectors)
    alone = Texts(found.labels, np.arange(80), found.kept, per_set, found.vectors)
    assert MEASURE.score(lumpy).error > MEASURE.score(alone).error
