from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.data.dataset import Dataset, Example, gold_blocks
from japagen.gradmm.target import (
    TARGETS,
    GradientTarget,
    deal_texts,
    descend,
    extended_shots,
    gold_targets,
    mean_gradients,
    residuals,
)

NAMES = 2


def _made(
    counts: tuple[int, ...], seed: int = 0
) -> tuple[Dataset, list[GradientTarget], np.ndarray]:
    labels = np.repeat(np.arange(len(counts)), counts)
    gold = Dataset.of(
        Example(f"文{i}", str(label), id=f"g{i}") for i, label in enumerate(labels.tolist())
    )
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(gold), 5)) + labels[:, None]
    texts = rng.normal(size=(20, 5)) + np.arange(20)[:, None] % 2
    subsets = gold_targets(gold, vectors, labels, texts, np.arange(20) % 2, NAMES, seed=seed)
    return gold, subsets, vectors


def _texts(shots: Sequence[Sequence[str]]) -> Dataset:
    """Texts whose prompts have shown some gold."""
    return Dataset.of(
        Example(f"作{i}", "0", id=f"s{i}", shot_ids=tuple(each)) for i, each in enumerate(shots)
    )


@settings(max_examples=30)
@given(st.tuples(st.integers(4, 20), st.integers(4, 20)), st.integers(0, 3))
def test_each_target_leaves_out_whole_blocks_and_all_gold_is_left_out_by_some(
    counts: tuple[int, int], seed: int
) -> None:
    gold, subsets, _ = _made(counts, seed)
    blocks = gold_blocks(gold, seed)
    ids = set(gold.column("id"))
    assert len(subsets) == TARGETS
    for label in range(NAMES):
        own = {id_ for id_, name in zip(gold.column("id"), gold.labels, strict=True)
               if name == str(label)}  # fmt: skip
        for subset in subsets:
            has = set(subset.ids[label])
            lacks = own - has
            assert has
            assert has <= own
            # No block is split: a fold that holds out one can use the text or cannot.
            assert not {blocks[i] for i in has} & {blocks[i] for i in lacks}
            assert 2 * len(lacks) <= len(own)
        assert set.union(*(own - set(s.ids[label]) for s in subsets)) == own
    assert ids == set(blocks)


def test_a_label_with_little_gold_is_matched_to_all_of_it() -> None:
    _, subsets, _ = _made((3, 8))
    assert all(len(subset.ids[0]) == 3 for subset in subsets)


def test_a_goal_depends_on_nothing_but_the_gold_of_its_label_that_the_target_has() -> None:
    gold, subsets, vectors = _made((8, 8))
    labels = np.repeat([0, 1], 8)
    for number, subset in enumerate(subsets):
        has = np.isin(gold.column("id"), subset.ids[1])
        changed = vectors.copy()
        changed[~has] = 7.0
        texts = np.random.default_rng(0).normal(size=(20, 5))
        again = gold_targets(gold, changed, labels, texts, np.arange(20) % 2, NAMES)[number]
        same = gold_targets(gold, vectors, labels, texts, np.arange(20) % 2, NAMES)[number]
        np.testing.assert_array_equal(again.heads, same.heads)
        np.testing.assert_array_equal(again.goals[:, 1], same.goals[:, 1])
        changed[has] += 1.0
        moved = gold_targets(gold, changed, labels, texts, np.arange(20) % 2, NAMES)[number]
        assert not np.allclose(moved.goals[:, 1], same.goals[:, 1])


def test_a_goal_is_the_mean_gradient_at_heads_trained_on_the_texts() -> None:
    _, subsets, vectors = _made((8, 8))
    target, labels = subsets[0], np.repeat([0, 1], 8)
    features = target.scaling(vectors)
    whole = mean_gradients(residuals(target.heads, features, labels), features, labels)
    mean = np.mean([s.goals for s in subsets], axis=0)
    # Every text is left out once, so that the mean of the targets is gold's.
    np.testing.assert_allclose(mean, whole, atol=1e-12)
    assert target.heads.shape == (4, NAMES, 6)
    assert descend(np.ones((2, 6)), np.array([0, 1]), 2).shape == (4, 2, 6)


@settings(max_examples=30)
@given(st.integers(0, 5), st.lists(st.sets(st.integers(0, 15), max_size=8), max_size=30))
def test_texts_go_where_their_prompts_have_shown_least(seed: int, shown: list[set[int]]) -> None:
    gold, subsets, _ = _made((16, 16))
    shots = [[f"g{i}" for i in sorted(each)] for each in shown]
    texts, labels = _texts(shots), np.zeros(len(shots), dtype=np.int64)
    dealt = deal_texts(texts, labels, subsets, seed)
    own = {f"g{i}" for i in range(16)}
    for row, number in enumerate(dealt):
        costs = [len(set(shots[row]) & (own - set(s.ids[0]))) for s in subsets]
        assert costs[number] == min(costs)
    order = np.random.default_rng(seed).permutation(len(shots))
    again = deal_texts(texts.take(order), labels, subsets, seed)
    np.testing.assert_array_equal(again, dealt[order])
    assert len(gold) == 32


def test_texts_that_have_been_shown_nothing_are_dealt_evenly_and_stay_where_they_are() -> None:
    _, subsets, _ = _made((16, 16))
    labels = np.repeat([0, 1], 11)
    dealt = deal_texts(_texts([()] * 22), labels, subsets, 3)
    for label in (0, 1):
        counts = np.bincount(dealt[labels == label], minlength=TARGETS)
        assert counts.max() - counts.min() <= 1
    # What was matched once descends from its target, and is dealt to it again.
    shots = [subsets[n].ids[label] for n, label in zip(dealt, labels, strict=True)]
    np.testing.assert_array_equal(deal_texts(_texts(shots), labels, subsets, 8), dealt)


@pytest.mark.parametrize(
    ("shots", "request_id", "wanted"),
    [
        (["a"], None, ["a", "b"]),
        ([], "r", ["a", "b"]),
        (["b"], "r", ["b", "a"]),
        ([], None, []),
    ],
)
def test_what_is_known_of_a_text_grows_and_what_is_not_stays_unknown(
    shots: list[str], request_id: str | None, wanted: list[str]
) -> None:
    assert extended_shots(shots, request_id, ["a", "b"]) == wanted
