"""Which gold examples a prompt shows."""

from __future__ import annotations

import random

from japagen.examples import Dataset, Example
from japagen.tasks import Task

# Shown for an anchor that no gold is near to.
_NEAREST = 2


class ShotSets:
    """Draws shot sets for one label and register, each set only once.

    The label may be the name of a set of tags, whose shots then share at least one of them, or
    of an anchor, whose shots are those nearest to it. None draws from all labels.

    Draws of one label and register do not depend on those of another, so that asking for more
    texts keeps the requests of a smaller plan.
    """

    def __init__(self, task: Task, gold: Dataset | None, label: str | None, register: str) -> None:
        close = _closeness(task, gold, label)
        rows = [e for e in gold or () if e.id in close]
        self._closeness = close
        self._same = [e for e in rows if e.register_seen and e.register_seen.name == register]
        self._others = [e for e in rows if e not in self._same]
        self._count = min(task.generation.shots, len(rows))
        self._random = random.Random(f"{task.seed}/shots/{label}/{register}")
        self._used: set[tuple[str, ...]] = set()

    def draw(self) -> list[Example]:
        """Draws a set of shots, in the order in which to show them."""
        for _ in range(20):
            chosen = self._draw()
            key = tuple(e.id for e in chosen)
            if key not in self._used:
                break
        # With very little gold every order may have been used; a repeat is then unavoidable.
        self._used.add(key)
        return chosen

    def _draw(self) -> list[Example]:
        same, others = list(self._same), list(self._others)
        self._random.shuffle(same)
        self._random.shuffle(others)
        for rows in (same, others):
            rows.sort(key=lambda e: -self._closeness[e.id])
        # Two of another register keep the content varied where one register has few texts.
        room = max(self._count - 2, (self._count + 1) // 2)
        matching = same[:room]
        filling = (others + same[room:])[: self._count - len(matching)]
        # A model copies the manner of what it read last.
        return sorted(filling + matching, key=lambda e: self._closeness[e.id])


def _closeness(task: Task, gold: Dataset | None, label: str | None) -> dict[str, float]:
    """Id of each gold example that may be shown to how good an example of the label it is."""
    if gold is None:
        return {}
    if label is None:
        # A text that several pairs begin with is shown once.
        return dict.fromkeys({e.text: e.id for e in gold}.values(), 1.0)
    space = task.label_space(gold)
    rows = list(zip(gold.column("id"), gold.labels, strict=True))
    found = {row: space.closeness(value, label) for row, value in rows}
    close = {row: value for row, value in found.items() if value > 0}
    if not close and task.kind == "regression":
        nearest = sorted(rows, key=lambda row: abs(row[1] - float(label)))
        close = {row: 1.0 for row, _ in nearest[:_NEAREST]}
    exact = {row: value for row, value in close.items() if value == 1}
    return exact if len(exact) >= task.generation.shots else close
