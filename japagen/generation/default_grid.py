"""How the texts of a task vary where the task file does not say: who writes, and how.

The attributes of each kind of text are data (``attributes.yaml`` beside the templates). They say
nothing of what a text is about, so they go with every text, whatever else it is to name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from japagen.examples import Dataset
from japagen.generation.attributes import combinations
from japagen.prompts import PromptLibrary
from japagen.tasks.tasks import Task

_OTHER = "other"
LENGTH = "長さ"
"""The attribute that gold decides where prompts show it."""
# Places in gold, in order of length, that stand for the others.
_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)

Settings = tuple[tuple[str, str], ...]
"""Name and value of each attribute that says something of one text."""


def kind_of_text(task: Task, kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """The kind of a task's texts.

    It is the first one that has a word in the task's ``text_type``; if none has, in its
    ``domain``; if none has, in its ``description``; else ``other``.

    Args:
        task: The task.
        kinds: Kind to its ``words``, as `PromptLibrary.attributes` has them.
    """
    for said in (task.text_type, task.domain, task.description):
        for name, kind in kinds.items():
            if any(word in said for word in kind["words"]):
                return name
    return _OTHER


def default_grid(
    task: Task, prompts: PromptLibrary, gold: Dataset | None
) -> dict[str, dict[str, int]]:
    """Attribute to its values, each with how often it is drawn against the others.

    Args:
        task: The task.
        prompts: Where the kinds of text are described.
        gold: What prompts show; its lengths take the place of the usual ones. None if nothing.
    """
    kinds = prompts.attributes
    given = kinds[kind_of_text(task, kinds)]["attributes"]
    grid = {
        name: dict(values) if isinstance(values, dict) else dict.fromkeys(values, 1)
        for name, values in given.items()
    }
    if gold is not None and len(gold) and LENGTH in grid:
        grid[LENGTH] = dict.fromkeys(_lengths([len(text) for text in gold.texts]), 1)
    return {name: values for name, values in grid.items() if values}


def _lengths(found: Sequence[int]) -> list[str]:
    """Lengths that are as usual in gold as each other, in round figures."""
    ordered = sorted(found)
    exact = [ordered[round(share * (len(ordered) - 1))] for share in _QUANTILES]
    rounded = [max(5, 5 * round(n / 5)) if n < 60 else 10 * round(n / 10) for n in exact]
    return [f"{n}字ほど" for n in dict.fromkeys(rounded)]


def drawn_settings(grid: Mapping[str, Mapping[str, int]], seed: int) -> Iterator[Settings]:
    """Settings of one text after the other, without end; without attributes, empty ones.

    Over any number of texts each value is drawn about as often as its number says, and each pair
    of values likewise.

    Args:
        grid: Attribute to its values and how often each is drawn.
        seed: Of the order.
    """
    if not grid:
        yield from repeat(())
    places = {
        name: [value for value, number in values.items() for _ in range(number)]
        for name, values in grid.items()
    }
    for combination in combinations(places, seed):
        yield tuple((name, value) for name, value in combination if value)
