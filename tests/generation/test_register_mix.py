from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.config.task import Task
from japagen.data.dataset import Dataset, Example
from japagen.generation.planner import depends_on_label, register_shares
from japagen.japanese.registers import OTHER, PRESETS, Register


def _seen(rows: list[tuple[str, str]]) -> Dataset:
    return Dataset.of(
        Example(f"{n}番の文です。", label, split="train", register_seen=Register.of(name))
        for n, (label, name) in enumerate(rows)
    )


@given(
    st.lists(
        st.tuples(st.sampled_from(["配送", "返品"]), st.sampled_from([*PRESETS, OTHER])),
        max_size=60,
    ),
    st.booleans(),
)
def test_shares_are_distributions_of_every_label(rows: list[tuple[str, str]], shown: bool) -> None:
    task = Task.parse({"name": "t", "labels": ["配送", "返品"]})
    shares = register_shares(task, _seen(rows) if rows else None, shown=shown)
    assert list(shares) == ["配送", "返品"]
    for row in shares.values():
        assert sum(row.values()) == pytest.approx(1)
        assert set(row) <= {*PRESETS, OTHER}
        assert shown or OTHER not in row


def test_labels_get_their_own_shares_only_where_gold_shows_that_they_differ(task: Task) -> None:
    apart = _seen([("配送", "polite")] * 16 + [("返品", "casual")] * 16)
    shares = register_shares(task, apart)
    assert shares["配送"]["polite"] > 0.7
    assert shares["返品"]["casual"] > 0.7
    alike = _seen(
        [("配送", "polite"), ("返品", "polite"), ("配送", "casual"), ("返品", "casual")] * 5
    )
    shares = register_shares(task, alike)
    assert shares["配送"] == shares["返品"]


def test_a_register_not_seen_is_still_asked_for_and_mixed_ones_only_as_seen(task: Task) -> None:
    rows = [("配送", "polite"), ("返品", "polite")] * 8
    shares = register_shares(task, _seen(rows))["配送"]
    assert shares["honorific"] == pytest.approx(1 / 20)
    assert OTHER not in shares
    fragments = _seen([("配送", OTHER), ("返品", OTHER)] * 8)
    assert register_shares(task, fragments)["配送"][OTHER] == pytest.approx(16 / 20)
    assert register_shares(task, fragments, shown=False)["配送"] == {"polite": 1.0}


def test_unlabelled_text_counts_towards_the_common_shares(task: Task) -> None:
    gold = _seen([("配送", "polite"), ("返品", "polite")])
    unlabelled = _seen([("配送", "plain")] * 94)
    shares = register_shares(task, gold, unlabelled)
    assert shares["返品"]["plain"] == pytest.approx(95 / 100)


def test_named_shares_are_taken_as_they_are(task: Task) -> None:
    named = task.model_copy(update={"registers": {"polite": 0.7, "casual": 0.3, "plain": 0.0}})
    gold = _seen([("配送", "honorific")] * 20)
    assert register_shares(named, gold)["返品"] == {"polite": 0.7, "casual": 0.3}


def test_chance_differences_are_seldom_taken_for_a_dependence() -> None:
    rng = np.random.default_rng(0)
    tables = [rng.multinomial(16, [0.4, 0.3, 0.2, 0.1], size=3) for _ in range(60)]
    found = [depends_on_label(table.astype(float), seed) for seed, table in enumerate(tables)]
    assert sum(found) <= 8
    assert depends_on_label(np.array([[14.0, 2.0], [3.0, 13.0]]))
