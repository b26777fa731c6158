from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.errors import JapagenError
from japagen.running.data import load_data
from japagen.tasks.tasks import Task
from japagen.tuning.space import LEAST, draw_arms, plan_rungs, space_of, varied


@given(st.integers(1, 5000), st.integers(2, 12), st.none() | st.integers(2, 16))
def test_no_search_asks_for_more_than_its_budget(
    budget: int, labels: int, arms: int | None
) -> None:
    try:
        rungs, last = plan_rungs(budget, labels, arms)
    except JapagenError as error:
        least = int(error.hint.split("--budget ")[1].split()[0])
        assert least > budget
        plan_rungs(least, labels, arms)
        return
    assert sum(count * each for count, each in rungs) * labels + 2 * last * labels <= budget
    counts = [count for count, _ in rungs]
    assert counts[-1] <= 2
    assert counts == sorted(counts, reverse=True)
    assert rungs[0][1] >= LEAST
    assert last >= LEAST
    assert arms in (None, counts[0])


def test_arms_are_drawn_from_what_fits(task: Task) -> None:
    gold = load_data(task).gold
    assert gold is not None
    space = space_of(task, gold)
    assert max(space["generation.shots"]) <= len(gold) // 2
    arms = draw_arms(task, space, 9, 0)
    assert arms[0] == {}
    assert len({str(arm) for arm in arms}) == len(arms) == 9
    assert arms == draw_arms(task, space, 9, 0) != draw_arms(task, space, 9, 1)
    for arm in arms:
        assert varied(task, arm).labels == task.labels
    only = space_of(task, gold, {key: [] for key in space} | {"generation.strategy": ["zero_shot"]})
    assert draw_arms(task, only, 9, 0) == [{}, {"generation.strategy": "zero_shot"}]


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ({"generation.shots": 4}, "Expected a list of values"),
        ({"generation.shots": [0]}, "greater than or equal to 1"),
        ({"generation.shotz": [4]}, "shotz"),
        ({"training.epochs": [4]}, "Expected keys of generation"),
        ({"generation.strategy": ["gradient_matching"]}, "which asks as few_shot does"),
    ],
)
def test_what_cannot_be_varied_is_refused(task: Task, vary: dict[str, Any], message: str) -> None:
    gold = load_data(task).gold
    assert gold is not None
    with pytest.raises(JapagenError, match=message):
        space_of(task, gold, vary)
