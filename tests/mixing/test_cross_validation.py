from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.config.task import Task
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.generation.planner import RequestPlanner
from japagen.llm.prompts import builtin_prompts
from japagen.mixing.learning_curve import split_gold
from tests.mixing.planted import LABELS, gold_set, synthetic_set
from tests.scripted import ScriptedGenerator


@settings(max_examples=30)
@given(st.integers(1, 24), st.integers(0, 12), st.integers(0, 50))
def test_no_usable_text_descends_from_what_is_held_out(
    per_label: int, made: int, seed: int
) -> None:
    gold = gold_set(per_label)
    ids = np.array(gold.column("id"))
    synthetic = synthetic_set(gold, made, seed)
    shots = synthetic.column("shot_ids") if made else []
    for splits in split_gold(gold, synthetic, seed, 3):
        assert sorted(np.concatenate([s.held for s in splits]).tolist()) == list(range(len(gold)))
        for split in splits:
            held = set(ids[split.held].tolist())
            assert not held & set(ids[split.train].tolist())
            assert len(held) + len(split.train) == len(gold)
            usable = set(split.usable.tolist())
            for row, shown in enumerate(shots):
                assert (row in usable) == (not held & set(shown))


def test_the_shots_of_a_real_plan_leave_texts_for_every_fold() -> None:
    task = Task.parse({"name": "t", "labels": LABELS, "generation": {"per_label": 80}})
    gold = gold_set(16)
    shares = {label: {"polite": 0.5, "plain": 0.3, "casual": 0.2} for label in LABELS}
    plan = RequestPlanner(task, gold, builtin_prompts(), ScriptedGenerator().info).plan(shares)
    synthetic = Dataset.of(
        Example(f"文{n}", r.label, request_id=r.id, shot_ids=r.shot_ids) for n, r in enumerate(plan)
    )
    for splits in split_gold(gold, synthetic, task.seed, 2):
        usable = [len(split.usable) for split in splits]
        assert np.mean(usable) == 0.375 * len(synthetic)
        for split in splits:
            labels = synthetic.take(split.usable).label_counts()
            assert min(labels[label] for label in LABELS) >= 8


def test_rejected_texts_and_those_of_later_rounds_are_never_usable() -> None:
    gold = gold_set(8)
    rows = [
        Example("一", "赤", id="a", rejected=Rejection("too_short", 1, 2)),
        Example("二", "赤", id="b", round=1),
        Example("三", "赤", id="c"),
    ]
    for split in split_gold(gold, Dataset.of(rows), 0, 1)[0]:
        assert split.usable.tolist() == [2]


def test_repeats_hold_out_different_texts_together() -> None:
    gold = gold_set(16)
    pairings = {
        frozenset(frozenset(split.held.tolist()) for split in splits)
        for splits in split_gold(gold, Dataset.of([]), 0, 5)
    }
    assert len(pairings) == 5


def test_splits_do_not_depend_on_the_order_of_gold() -> None:
    gold = gold_set(10)
    rows = list(gold)
    random.Random(0).shuffle(rows)
    shuffled = Dataset.of(rows)

    def held(data: Dataset) -> list[list[set[str]]]:
        ids = data.column("id")
        return [
            [{ids[i] for i in split.held} for split in splits]
            for splits in split_gold(data, Dataset.of([]), 4, 2)
        ]

    assert held(gold) == held(shuffled)
