from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.gradients.selection import Method, choose
from japagen.gradients.target import gradient_target
from tests.gradients.test_target import NAMES, planted

METHODS: tuple[Method, ...] = ("greedy", "matching_pursuit")


@given(
    sizes=st.lists(st.integers(0, 12), min_size=NAMES, max_size=NAMES),
    gold=st.integers(1, 9),
    per_label=st.integers(1, 15),
    method=st.sampled_from(METHODS),
    diversity=st.sampled_from([0.0, 0.5]),
)
def test_so_many_of_each_label_are_chosen_once(
    sizes: list[int], gold: int, per_label: int, method: Method, diversity: float
) -> None:
    labels = np.repeat(np.arange(NAMES), sizes)
    vectors = np.random.default_rng(sum(sizes)).normal(size=(len(labels), 8))
    target = gradient_target(*planted(gold, 0), vectors, NAMES)
    found = choose(target, vectors, labels, per_label, method=method, diversity=diversity)
    assert len(set(found.rows.tolist())) == len(found.rows)
    counts = np.bincount(labels[found.rows], minlength=NAMES)
    assert counts.tolist() == [min(size, per_label) for size in sizes]
    assert (found.weights >= 0).all()
    for label in np.unique(labels):
        assert found.weights[labels[found.rows] == label].mean() == pytest.approx(1)


@pytest.mark.parametrize("method", METHODS)
def test_texts_with_the_right_label_are_found(method: Method) -> None:
    vectors, true = planted(240, 1)
    asked = true.copy()
    asked[::2] = (true[::2] + 1) % NAMES  # half of the labels are wrong
    target = gradient_target(*planted(48, 0), vectors, NAMES)
    found = choose(target, vectors, asked, 15, method=method)
    right = np.average(true[found.rows] == asked[found.rows], weights=found.weights)
    assert right > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_the_chosen_match_better_than_most_random_sets(method: Method) -> None:
    vectors, labels = planted(120, 1)
    target = gradient_target(*planted(48, 0), vectors, NAMES)
    found = choose(target, vectors, labels, 10, method=method)
    chosen = np.nanmean(target.cosines(vectors[found.rows], labels[found.rows]))
    rng = np.random.default_rng(0)
    others = []
    for _ in range(40):
        rows = [rng.choice(np.flatnonzero(labels == k), 10, replace=False) for k in range(NAMES)]
        part = np.concatenate(rows)
        others.append(np.nanmean(target.cosines(vectors[part], labels[part])))
    assert chosen > np.quantile(others, 0.9)


def test_diversity_keeps_copies_apart() -> None:
    vectors, labels = planted(30, 1)
    doubled = np.concatenate([vectors, vectors])
    target = gradient_target(*planted(48, 0), doubled, NAMES)
    both = np.concatenate([labels, labels])
    plain = choose(target, doubled, both, 8)
    apart = choose(target, doubled, both, 8, diversity=5.0)
    assert len(set((apart.rows % 30).tolist())) == len(apart.rows)
    assert len(set((plain.rows % 30).tolist())) < len(plain.rows)


def test_the_order_of_texts_does_not_matter() -> None:
    vectors, labels = planted(60, 1)
    target = gradient_target(*planted(24, 0), vectors, NAMES)
    order = np.random.default_rng(0).permutation(60)
    for method in METHODS:
        one = choose(target, vectors, labels, 7, method=method)
        other = choose(target, vectors[order], labels[order], 7, method=method)
        assert sorted(order[other.rows]) == sorted(one.rows)
