from __future__ import annotations

import math

import numpy as np
import pytest

from japagen.config.curation import GradientPrivacy
from japagen.gradmm.target import noise_multiplier, private_target
from tests.gradmm.test_target import NAMES, planted

pytest.importorskip("dp_accounting")


def test_the_accountant_is_tighter_than_the_classical_bound() -> None:
    classical = math.sqrt(2 * math.log(1.25 / 1e-5)) / 1.0
    assert 0.5 * classical < noise_multiplier(1.0, 1e-5) < classical
    assert noise_multiplier(8.0, 1e-5) < noise_multiplier(1.0, 1e-5)


def _goals(gold: np.ndarray, labels: np.ndarray, epsilon: float, seed: int) -> np.ndarray:
    public = planted(60, 5)
    settings = GradientPrivacy(epsilon=epsilon, delta=1e-5, clip=0.5)
    return private_target(gold, labels, *public, NAMES, settings, seed=seed).goals


def test_one_gold_text_moves_the_sum_by_no_more_than_twice_the_clip() -> None:
    gold, labels = planted(12, 0)
    other = gold.copy()
    other[0] = -100 * gold[0]
    # The same seed draws the same noise, so that the difference is that of the text.
    moved = (_goals(gold, labels, 1.0, 7) - _goals(other, labels, 1.0, 7)) * 4
    assert np.linalg.norm(moved) <= 2 * 0.5 + 1e-9
    assert np.linalg.norm(moved) > 0.1


def test_noise_has_the_size_that_the_accountant_asks_for() -> None:
    gold, labels = planted(12, 0)
    drawn = np.stack([_goals(gold, labels, 1.0, seed) for seed in range(20)])
    wanted = 2 * 0.5 * noise_multiplier(1.0, 1e-5) / 4
    assert drawn.std(axis=0).mean() == pytest.approx(wanted, rel=0.05)


def test_nothing_but_the_noised_gradients_depends_on_gold() -> None:
    public = planted(60, 5)
    found = [
        private_target(*planted(12, seed), *public, NAMES, GradientPrivacy(epsilon=1.0))
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(found[0].heads, found[1].heads)
    np.testing.assert_array_equal(found[0].scaling.centre, found[1].scaling.centre)
    assert found[0].scaling.scale == found[1].scaling.scale


def test_unseeded_noise_is_drawn_anew() -> None:
    gold, labels = planted(12, 0)
    settings = GradientPrivacy(epsilon=1.0)
    first, second = (
        private_target(gold, labels, *planted(60, 5), NAMES, settings).goals for _ in range(2)
    )
    assert not np.allclose(first, second)
