from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.config.task import Task
from japagen.data.dataset import BLOCKS, LEAST_TO_HOLD_OUT, Dataset, Example, gold_blocks
from japagen.generation.shots import ShotSets
from japagen.japanese.registers import Register


def _task(shots: int, seed: int = 0) -> Task:
    return Task.parse(
        {"name": "t", "labels": ["あ", "い"], "generation": {"shots": shots}, "seed": seed}
    )


def _gold(count: int, polite: int = 0) -> Dataset:
    return Dataset.of(
        Example(
            f"文{n}",
            label,
            register_seen=Register.of("polite" if n < polite else "plain"),
        )
        for n in range(count)
        for label in ("あ", "い")
    )


def _sets(draws: int, gold: Dataset, shots: int, **how: Any) -> list[list[Example]]:
    sets = ShotSets(_task(shots, how.get("seed", 0)), gold, "あ", how.get("register", "polite"))
    return [sets.draw() for _ in range(draws)]


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 9), st.integers(0, 20))
def test_a_set_leaves_a_quarter_of_the_blocks_untouched(
    count: int, shots: int, seed: int, polite: int
) -> None:
    gold = _gold(count, polite)
    blocks = gold_blocks(gold, seed)
    number = min(BLOCKS, count)
    for chosen in _sets(5, gold, shots, seed=seed):
        touched = {blocks[e.id] for e in chosen}
        assert len({e.id for e in chosen}) == len(chosen) <= shots
        assert {e.label for e in chosen} == {"あ"}
        if count < LEAST_TO_HOLD_OUT:
            assert len(chosen) == min(shots, count)
        else:
            assert len(touched) <= number * 3 // 4
            assert len(chosen) == shots or len(touched) == number * 3 // 4


def test_no_more_blocks_are_touched_than_hold_the_shots() -> None:
    blocks = gold_blocks(_gold(16), 0)
    for chosen in _sets(20, _gold(16), 10):
        assert len(chosen) == 10
        assert len({blocks[e.id] for e in chosen}) == 5


def test_every_text_is_left_out_of_about_as_many_sets() -> None:
    sets = _sets(16, _gold(16), 10)
    shown = Counter(e.id for chosen in sets for e in chosen)
    assert len(shown) == 16
    assert max(shown.values()) - min(shown.values()) <= 1


def test_sets_are_not_repeated() -> None:
    keys = {tuple(e.id for e in chosen) for chosen in _sets(40, _gold(16), 10)}
    assert len(keys) == 40
    assert len({frozenset(key) for key in keys}) > 20


def test_the_wanted_register_is_preferred_and_stands_last() -> None:
    gold = _gold(16, polite=6)
    for register in ("polite", "plain"):
        for chosen in _sets(4, gold, 6, register=register):
            wanted = [
                e.register_seen is not None and e.register_seen.name == register for e in chosen
            ]
            assert wanted[-1]
            assert wanted[-4:] == sorted(wanted[-4:])
    share = sum(
        e.register_seen is not None and e.register_seen.name == "polite"
        for e in _sets(1, gold, 6)[0]
    )
    assert share >= 4


@pytest.mark.parametrize("seed", range(3))
def test_sets_do_not_depend_on_the_order_of_gold(seed: int) -> None:
    gold = _gold(12, polite=5)
    rows = list(gold)
    random.Random(seed).shuffle(rows)
    first, second = (
        [[e.id for e in s] for s in _sets(6, g, 5, seed=seed)] for g in (gold, Dataset.of(rows))
    )
    assert first == second
