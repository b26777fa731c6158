from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.config.curation import GradientPrivacy, Selection
from japagen.data.dataset import Dataset, Example
from japagen.gradmm.target import GradientTarget, choose, residuals, select_by_gradient
from tests.gradmm.test_target import NAMES, cosines, planted, target_of


def _chosen(target: GradientTarget, vectors: np.ndarray, labels: np.ndarray, n: int) -> np.ndarray:
    """The rows that are chosen of all labels."""
    rows = [np.flatnonzero(labels == label) for label in range(NAMES)]
    return np.concatenate(
        [mine[choose(target, vectors[mine], k, n)] for k, mine in enumerate(rows)]
    )


@given(size=st.integers(0, 12), wanted=st.integers(0, 15), gold=st.integers(1, 9))
def test_so_many_are_chosen_once(size: int, wanted: int, gold: int) -> None:
    vectors = np.random.default_rng(size).normal(size=(size, 8))
    target = target_of(*planted(gold, 0), planted(9, 1))
    for label in range(NAMES):
        rows = choose(target, vectors, label, wanted)
        assert len(set(rows.tolist())) == len(rows) == min(size, wanted)


def test_texts_with_the_right_label_are_found() -> None:
    vectors, true = planted(240, 1)
    asked = true.copy()
    asked[::2] = (true[::2] + 1) % NAMES  # half of the labels are wrong
    rows = _chosen(target_of(*planted(48, 0), planted(48, 3)), vectors, asked, 15)
    assert np.mean(true[rows] == asked[rows]) > 0.9


def test_the_chosen_match_better_than_most_random_sets() -> None:
    vectors, labels = planted(120, 1)
    target = target_of(*planted(48, 0), (vectors, labels))
    rows = _chosen(target, vectors, labels, 10)
    chosen = np.nanmean(cosines(target, vectors[rows], labels[rows]))
    rng = np.random.default_rng(0)
    others = []
    for _ in range(40):
        drawn = [rng.choice(np.flatnonzero(labels == k), 10, replace=False) for k in range(NAMES)]
        part = np.concatenate(drawn)
        others.append(np.nanmean(cosines(target, vectors[part], labels[part])))
    assert chosen > np.quantile(others, 0.9)


def test_each_step_takes_the_text_after_which_the_mean_is_nearest() -> None:
    vectors, labels = planted(60, 1)
    target = target_of(*planted(24, 0), (vectors, labels))
    mine = np.flatnonzero(labels == 1)
    features, own = target.scaling(vectors[mine]), labels[mine]
    left, goals = residuals(target.heads, features, own), target.goals[:, 1]
    # As the formula has it: every gradient as a vector, each checkpoint over its goal's length.
    scale = np.sqrt((goals**2).sum(axis=(1, 2)))[:, None, None]
    goal = (goals / scale).ravel()
    every = [(left[:, i, :, None] * features[i] / scale).ravel() for i in range(len(mine))]
    chosen: list[int] = []
    for _ in range(6):
        distances = [
            np.inf
            if i in chosen
            else np.linalg.norm(np.mean([every[j] for j in [*chosen, i]], axis=0) - goal)
            for i in range(len(mine))
        ]
        chosen.append(int(np.argmin(distances)))
    assert choose(target, vectors[mine], 1, 6).tolist() == chosen


def test_the_order_of_texts_does_not_matter() -> None:
    vectors, labels = planted(60, 1)
    target = target_of(*planted(24, 0), (vectors, labels))
    order = np.random.default_rng(0).permutation(60)
    one = _chosen(target, vectors, labels, 7)
    other = _chosen(target, vectors[order], labels[order], 7)
    assert sorted(order[other]) == sorted(one)


@pytest.mark.parametrize("private", [False, True])
def test_so_many_of_each_label_descend_from_the_gold_they_were_chosen_by(private: bool) -> None:
    if private:
        pytest.importorskip("dp_accounting")
    (gold_vectors, true), (vectors, asked) = planted(48, 0), planted(90, 1)
    gold = Dataset.of(Example(f"例{i}", str(k), id=f"g{i}") for i, k in enumerate(true))
    examples = Dataset.of(
        Example(f"文{i}", str(k), id=f"s{i}", request_id="r") for i, k in enumerate(asked)
    )
    settings = Selection(per_label=7, privacy=GradientPrivacy(epsilon=8) if private else None)
    names = [str(k) for k in range(NAMES)]
    found = select_by_gradient(examples, gold, vectors, gold_vectors, names, settings=settings)
    rows = np.flatnonzero(found.kept_mask)
    assert np.bincount(asked[rows], minlength=NAMES).tolist() == [7] * NAMES
    for row in rows:
        ids = found[int(row)].shot_ids
        assert len(ids) == (0 if private else 12)
        assert all(true[int(id_[1:])] == asked[row] for id_ in ids)
    nothing = select_by_gradient(
        examples.take([]), gold, vectors[:0], gold_vectors, names, settings=settings
    )
    assert not len(nothing)
