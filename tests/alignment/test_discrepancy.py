from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.alignment.diagnostics import mean_discrepancies


def _found(x: np.ndarray, y: np.ndarray, *weights: np.ndarray, seed: int = 0):
    given = weights or (np.ones(len(x)),)
    return mean_discrepancies(x, y, given, np.ones(len(y)), np.random.default_rng(seed))


def test_it_is_the_unbiased_estimate() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(5, 3))
    both = np.concatenate([x, y])
    squared = ((both[:, None] - both[None, :]) ** 2).sum(axis=2)
    kernel = np.exp(-squared / (2 * np.median(squared[np.triu_indices(12, 1)])))
    xx = sum(kernel[i, j] for i in range(7) for j in range(7) if i != j) / (7 * 6)
    yy = sum(kernel[i, j] for i in range(7, 12) for j in range(7, 12) if i != j) / (5 * 4)
    expected = xx + yy - 2 * kernel[:7, 7:].mean()
    assert _found(x, y)[0].value == pytest.approx(expected)


def test_it_is_zero_on_average_for_one_distribution_and_above_for_a_shifted_one() -> None:
    alike, shifted = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(60, 4)), rng.normal(size=(40, 4))
        alike.append(_found(x, y)[0])
        shifted.append(_found(x + 1.0, y)[0])
    values = np.array([d.value for d in alike])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert sum(d.low <= 0 <= d.high for d in alike) >= 27
    assert all(d.low > 0 for d in shifted)


def test_weights_that_undo_a_shift_bring_it_down() -> None:
    rng = np.random.default_rng(1)
    kind = np.repeat([0, 1], [80, 20])
    x = rng.normal(size=(100, 3)) + 3 * kind[:, None]
    y = rng.normal(size=(100, 3)) + 3 * np.repeat([0, 1], 50)[:, None]
    before, after = _found(x, y, np.ones(100), np.where(kind, 2.5, 0.625))
    assert before.low > 0
    assert abs(after.value) < before.value / 5


@settings(max_examples=25)
@given(st.integers(2, 12), st.integers(0, 1000), st.floats(0.1, 50))
def test_scale_of_weights_and_order_of_rows_do_not_matter(n: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    x, y, w = rng.normal(size=(n, 2)), rng.normal(size=(n + 1, 2)), rng.uniform(0.1, 2, n)
    order = rng.permutation(n)
    first, second = _found(x, y, w, scale * w)
    assert first.value == pytest.approx(second.value)
    assert first.low <= first.value <= first.high
    assert _found(x[order], y, w[order])[0].value == pytest.approx(first.value)


def test_too_few_rows_of_weight_have_none() -> None:
    x = np.zeros((3, 2))
    assert _found(x, x, np.array([1.0, 0.0, 0.0])) is None


def test_rows_all_alike_are_at_no_distance() -> None:
    assert _found(np.ones((5, 2)), np.ones((4, 2)))[0].value == pytest.approx(0)
