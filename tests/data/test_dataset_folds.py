from __future__ import annotations

import random
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from japagen.data.dataset import BLOCKS, Dataset, Example, assign_folds, gold_blocks


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(0, 99))
def test_blocks_are_even_and_do_not_depend_on_the_order_of_rows(
    counts: list[int], seed: int
) -> None:
    rows = [Example(f"文{n}", str(k)) for k, count in enumerate(counts) for n in range(count)]
    blocks = gold_blocks(Dataset.of(rows), seed)
    for label, count in enumerate(counts):
        ids = [e.id for e in Dataset.of(rows) if e.label == str(label)]
        sizes = Counter(blocks[i] for i in ids)
        assert set(sizes) == set(range(min(BLOCKS, count)))
        assert max(sizes.values()) - min(sizes.values()) <= 1
    random.Random(seed).shuffle(rows)
    assert gold_blocks(Dataset.of(rows), seed) == blocks


def test_repetitions_of_a_text_share_a_block() -> None:
    rows = [Example("同じ文", "あ"), Example("同じ文", "あ")]
    rows += [Example(f"文{n}", "あ") for n in range(20)]
    blocks = gold_blocks(Dataset.of(rows), 0)
    ids = Dataset.of(rows).column("id")
    assert blocks[ids[0]] == blocks[ids[1]]


def test_another_seed_deals_anew() -> None:
    gold = Dataset.of(Example(f"文{n}", "あ") for n in range(16))
    assert gold_blocks(gold, 0) != gold_blocks(gold, 1)


def test_adding_a_label_leaves_the_blocks_of_the_others() -> None:
    rows = [Example(f"文{n}", "あ") for n in range(16)]
    more = [*rows, *(Example(f"句{n}", "い") for n in range(5))]
    before = gold_blocks(Dataset.of(rows), 3)
    after = gold_blocks(Dataset.of(more), 3)
    assert {i: after[i] for i in before} == before


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 6))
def test_every_label_is_dealt_evenly(targets: list[int], count: int) -> None:
    folds = assign_folds(np.array(targets), count, 0)
    for label in set(targets):
        dealt = np.bincount(folds[np.array(targets) == label], minlength=count)
        assert dealt.max() - dealt.min() <= 1
