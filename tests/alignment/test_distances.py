from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from japagen.alignment import diagnostics
from japagen.alignment.diagnostics import divergence, jensen_shannon, two_sample_auc, word_shifts

counts = st.lists(st.integers(0, 50), min_size=4, max_size=4).filter(lambda v: sum(v) > 0)


@given(counts, counts)
def test_jensen_shannon_is_symmetric_bounded_and_zero_for_equal(p: list[int], q: list[int]) -> None:
    a, b = np.array(p, dtype=float), np.array(q, dtype=float)
    assert jensen_shannon(a, b) == pytest.approx(jensen_shannon(b, a))
    assert 0 <= jensen_shannon(a, b) <= 1
    assert jensen_shannon(a, 3 * a) == pytest.approx(0.0, abs=1e-12)


def test_jensen_shannon_in_bits() -> None:
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1.0)
    half = jensen_shannon(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    assert half == pytest.approx(0.5 * np.log2(4 / 3) + 0.25 * np.log2(2 / 3) + 0.25)


def test_the_interval_holds_the_value_and_shrinks_with_rows() -> None:
    rng = np.random.default_rng(0)

    def width(n: int) -> float:
        rows = sparse.csr_array(rng.multinomial(10, [0.5, 0.3, 0.2], n).astype(float))
        other = sparse.csr_array(rng.multinomial(10, [0.2, 0.3, 0.5], n).astype(float))
        found = divergence(rows, other, np.ones(n), np.ones(n), np.random.default_rng(1))
        assert found.low <= found.value <= found.high
        return found.high - found.low

    assert width(1000) < 0.5 * width(50)


def test_the_classifier_tells_different_samples_apart_and_weights_can_hide_it() -> None:
    rng = np.random.default_rng(0)
    source = sparse.csr_array((rng.random((400, 1)) < 0.8).astype(float))
    target = sparse.csr_array((rng.random((400, 1)) < 0.2).astype(float))
    ones = np.ones(400)
    before = two_sample_auc(source, target, ones, ones, np.random.default_rng(1))
    assert before is not None
    assert before == pytest.approx(0.8, abs=0.05)
    weights = np.where(source.toarray().ravel() == 1, 0.25, 4.0)
    after = two_sample_auc(source, target, weights, ones, np.random.default_rng(1))
    assert after is not None
    assert abs(after - 0.5) < 0.06
    assert two_sample_auc(source[:3], target, ones[:3], ones, np.random.default_rng(1)) is None


def test_words_are_ranked_by_what_they_add_to_the_divergence() -> None:
    source = sparse.csr_array(np.array([[8.0, 1.0, 1.0, 5.0], [8.0, 1.0, 0.0, 5.0]]))
    target = sparse.csr_array(np.array([[2.0, 9.0, 2.0, 5.0]]))
    over, under = word_shifts(
        source, target, (np.ones(2), np.ones(2)), np.ones(1), ["頻", "稀", "無", "同"]
    )
    assert over[0].word == "頻"
    assert [shift.word for shift in under][:2] == ["稀", "無"]
    assert over[0].log_ratio_before > 0 > under[0].log_ratio_before
    assert over[0].log_ratio_after == over[0].log_ratio_before


def test_groups_of_rows_vary_as_much_as_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    source = sparse.csr_array(rng.poisson(0.3, (1_200, 30)))
    target = sparse.csr_array(rng.poisson(0.4, (300, 30)))
    ones = np.ones(1_200), np.ones(300)
    grouped = divergence(source, target, *ones, np.random.default_rng(1))
    monkeypatch.setattr(diagnostics, "_GROUPS", 2_000)
    each = divergence(source, target, *ones, np.random.default_rng(1))
    assert grouped.value == each.value
    assert grouped.high - grouped.low == pytest.approx(each.high - each.low, rel=0.35)
