"""Which settings are tried, and how a budget of requests is shared among them."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from japagen.errors import JapagenError
from japagen.examples import Dataset
from japagen.tasks.matching_settings import STRATEGY
from japagen.tasks.tasks import Task

Changes = dict[str, Any]
"""Dotted keys of the task to values; empty for the task as it stands."""

INSTRUCTIONS = (
    "",
    "読んだ人が迷わず分類できるように、決め手になる内容を具体的に書く。",
    "いつ、どこで、何があったのかが分かる具体的な状況を一つ思い浮かべて書く。",
    "書き手の立場や事情、書き出し、長さを実例とそろえず、毎回変える。",
)
_SPACE: dict[str, tuple[Any, ...]] = {
    "generation.shots": (4, 6, 10, 14),
    "generation.temperature": (0.6, 0.8, 1.0, 1.2),
    "generation.min_p": (0.02, 0.05, 0.1),
    "generation.instruction": INSTRUCTIONS,
}
_MOST_ARMS = 16
# Texts of each label that an arm must have before it may be dropped.
LEAST = 4


def space_of(
    task: Task, gold: Dataset, vary: Mapping[str, Any] | None = None
) -> dict[str, tuple[Any, ...]]:
    """Keys and the values that each may take.

    Args:
        task: As it stands.
        gold: Bounds the shots.
        vary: Keys to lists of values, in place of or besides the built-in ones; an empty list
            leaves a key as it is.

    Raises:
        JapagenError: If a value is no list, or a value or key does not fit the task.
    """
    most = min(Counter(map(str, gold.labels)).values())
    space = dict(_SPACE)
    shots = (n for n in space["generation.shots"] if n <= most)
    space["generation.shots"] = tuple(shots)
    for key, values in (vary or {}).items():
        if not isinstance(values, list):
            raise JapagenError(
                f"Expected a list of values for {key}, found {values!r}.",
                "For example: --vary generation.temperature=[0.6,0.8]",
            )
        if not key.startswith("generation.") or key in ("generation.budget", "generation.rounds"):
            raise JapagenError(
                f"Expected keys of generation to vary, found {key}.",
                f"For example: {', '.join(_SPACE)}, generation.strategy, generation.prompts",
            )
        if key == "generation.strategy" and STRATEGY in values:
            raise JapagenError(
                f"Expected strategies that ask differently, found {STRATEGY}, which asks as "
                "few_shot does.",
                "Leave it out, and set it in the task file that tuning writes.",
            )
        for value in values:
            varied(task, {key: value})
        space[key] = tuple(values)
    return {key: values for key, values in space.items() if values}


def varied(task: Task, changes: Changes) -> Task:
    """The task with some keys of generation changed.

    Raises:
        JapagenError: If the task does not know a key or takes no such value.
    """
    raw = task.model_dump(mode="json")
    raw["generation"] |= {key.removeprefix("generation."): v for key, v in changes.items()}
    return Task.parse(raw, f"the task with {changes}")


def draw_arms(
    task: Task, space: Mapping[str, Sequence[Any]], count: int, seed: int
) -> list[Changes]:
    """The task as it stands, and ``count - 1`` others drawn from all combinations.

    Args:
        task: As it stands.
        space: Keys and their values.
        count: How many at most.
        seed: Of the draw.
    """
    now = {key: getattr(task.generation, key.removeprefix("generation.")) for key in space}
    rows = (dict(zip(space, row, strict=True)) for row in itertools.product(*space.values()))
    others = [changes for row in rows if (changes := _changed(row, now))]
    drawn = random.Random(f"{seed}/tune").sample(others, min(count - 1, len(others)))
    return [{}, *drawn]


def _changed(row: Changes, now: Mapping[str, Any]) -> Changes:
    return {key: value for key, value in row.items() if value != now[key]}


def plan_rungs(
    budget: int, labels: int, arms: int | None = None
) -> tuple[list[tuple[int, int]], int]:
    """Successive halving (Jamieson & Talwalkar 2016): equal budgets, ever fewer arms.

    A third of the budget is kept for the last comparison, of the winner and the task as it
    stands.

    Args:
        budget: Requests in all.
        labels: How many labels there are.
        arms: How many settings to try; as many as the budget holds, at most 16, when None.

    Returns:
        For each rung the arms and the requests of one arm for each label, and the requests of
        each of the two in the last comparison for each label.

    Raises:
        JapagenError: If the budget does not hold even two.
    """
    last = budget // 3
    found = None
    for count in [arms] if arms else range(_MOST_ARMS, 1, -1):
        sizes = _sizes(count)
        each = [(budget - last) // len(sizes) // size // labels for size in sizes]
        if each[0] >= LEAST:
            found = list(zip(sizes, each, strict=True))
            break
    if found is None or last // 2 // labels < LEAST:
        least = next(n for n in itertools.count(1) if _holds(n, labels, arms or 2))
        raise JapagenError(
            f"Expected a budget of at least {least} requests for {arms or 2} settings of "
            f"{labels} labels, found {budget}.",
            f"Give --budget {least} or more" + (", or fewer --trials." if arms else "."),
        )
    return found, last // 2 // labels


def _holds(budget: int, labels: int, arms: int) -> bool:
    last = budget // 3
    first = (budget - last) // len(_sizes(arms)) // arms // labels
    return first >= LEAST and last // 2 // labels >= LEAST


def _sizes(arms: int) -> list[int]:
    """How many arms each rung has, until one is left."""
    sizes = [arms]
    while sizes[-1] > 2:
        sizes.append(math.ceil(sizes[-1] / 2))
    return sizes
