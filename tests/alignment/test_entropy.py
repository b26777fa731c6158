from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from japagen.alignment import entropy
from japagen.alignment.entropy import TOLERANCES, Moments, Problem, balance, effective_share


def problem(features: np.ndarray, mean: np.ndarray, size: float, **changes) -> Problem:
    n, p = features.shape
    deviation = np.maximum(features.std(axis=0), 1e-9)
    fields = {
        "features": sparse.csr_array(features),
        "slack": np.ones(p),
        "strata": np.zeros(n, dtype=np.int64),
        "shares": np.ones(1),
        "base": np.ones(n),
        "marginal": Moments(mean, deviation, size),
        "within": (),
    }
    return Problem(**(fields | changes))


def test_one_binary_feature_has_the_solution_in_closed_form() -> None:
    features = np.repeat([[1.0], [0.0]], [20, 80], axis=0)
    found = balance(problem(features, np.array([0.5]), 400.0), floor=0.0)
    weights = np.exp(found.scores)
    share = weights[:20].sum() / weights.sum()
    # The least change that satisfies the constraint stops at its edge.
    assert found.tolerance == 1.0
    assert share == pytest.approx(0.5 - 0.4 / np.sqrt(400), abs=1e-3)


def test_nothing_moves_when_the_target_is_already_met() -> None:
    features = np.random.default_rng(0).random((50, 6))
    found = balance(problem(features, features.mean(axis=0), 100.0), floor=0.3)
    assert found.scores == pytest.approx(np.zeros(50), abs=1e-6)
    assert found.tolerance == TOLERANCES[-1]


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([10.0, 50.0, 500.0]))
def test_the_constraints_hold_at_the_tolerance_found(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    features = rng.random((60, 8))
    mean = (features * rng.dirichlet(np.ones(60))[:, None]).sum(axis=0)
    task = problem(features, mean, size)
    found = balance(task, floor=0.3)
    weights = np.exp(found.scores)
    assert effective_share(weights) >= 0.3 - 1e-6
    if found.tolerance is not None:
        gap = np.abs(weights @ features / weights.sum() - mean)
        assert (gap <= 1.11 * found.tolerance * features.std(axis=0) / np.sqrt(size) + 1e-3).all()


def test_moments_within_a_stratum_leave_the_other_alone() -> None:
    features = np.tile([[1.0], [0.0]], (20, 1))
    strata = np.repeat([0, 1], 20)
    within = ((0, Moments(np.array([0.9]), np.array([0.3]), 1000.0)),)
    task = problem(
        features,
        np.array([0.5]),
        1.0,
        strata=strata,
        shares=np.array([0.5, 0.5]),
        within=within,
        marginal=None,
    )
    weights = np.exp(balance(task, floor=0.0).scores)
    assert weights[:20:2].sum() / weights[:20].sum() > 0.85
    assert np.ptp(weights[20:]) == pytest.approx(0.0)


def test_a_target_out_of_reach_is_left_out_and_an_extreme_one_is_tempered() -> None:
    constant = np.ones((10, 1))
    assert balance(problem(constant, np.array([0.2]), 100.0), 0.3).scores.tolist() == [0.0] * 10
    rare = np.repeat([[1.0], [0.0]], [2, 98], axis=0)
    found = balance(problem(rare, np.array([0.97]), 1e6), floor=0.5)
    assert found.tolerance is None
    assert found.temper[0] < 1
    assert effective_share(np.exp(found.scores)) == pytest.approx(0.5, abs=1e-3)


def test_the_tolerance_found_is_the_smallest_that_keeps_the_floor() -> None:
    features = np.repeat([[1.0], [0.0]], [20, 80], axis=0)
    task = problem(features, np.array([0.7]), 40.0)
    found = balance(task, floor=0.65)
    assert found.tolerance is not None
    assert found.tolerance not in TOLERANCES
    weights = np.exp(found.scores)
    assert found.temper.tolist() == [1.0]
    # An eighth of a step of the grid tighter, the floor would break.
    assert 0.65 <= effective_share(weights) < 0.7


def test_base_weights_are_what_the_solution_stays_close_to() -> None:
    features = np.repeat([[1.0], [0.0]], 10, axis=0)
    base = np.repeat([3.0, 1.0], 10)
    task = problem(features, np.array([0.75]), 100.0, base=base)
    assert balance(task, floor=0.0).scores == pytest.approx(np.zeros(20), abs=1e-6)


def test_effective_share_of_equal_and_single_weights() -> None:
    assert effective_share(np.ones(7)) == pytest.approx(1.0)
    assert effective_share(np.array([5.0, 0, 0, 0])) == pytest.approx(0.25)
    assert effective_share(np.zeros(3)) == 0.0


def test_many_rows_are_solved_on_a_sample_and_checked_on_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    features = rng.random((4_000, 5))
    mean = features[features[:, 0] > 0.6].mean(axis=0)
    task = problem(features, mean, 60.0)
    exact = balance(task, floor=0.1)
    monkeypatch.setattr(entropy, "SAMPLE_ROWS", 1_000)
    monkeypatch.setattr(entropy, "_LEAST_OF_STRATUM", 10)
    found = balance(task, floor=0.1)
    assert found.tolerance == exact.tolerance == 1.0
    weights = np.exp(found.scores)
    gap = np.abs(weights @ features / weights.sum() - mean)
    assert (gap <= 1.11 * features.std(axis=0) / np.sqrt(60.0) + 1e-3).all()
    assert found.scores == pytest.approx(exact.scores, abs=0.5)
