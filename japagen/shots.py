"""Which gold examples a prompt shows."""

from __future__ import annotations

import random

from japagen.examples import Dataset, Example
from japagen.tasks import Task


class ShotSets:
    """Draws shot sets for one label and register, each set only once.

    Draws of one label and register do not depend on those of another, so that asking for more
    texts keeps the requests of a smaller plan.
    """

    def __init__(self, task: Task, gold: Dataset | None, label: str, register: str) -> None:
        rows = [e for e in gold or () if e.label == label]
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
        # Two of another register keep the content varied where one register has few texts.
        room = max(self._count - 2, (self._count + 1) // 2)
        matching = same[:room]
        filling = (others + same[room:])[: self._count - len(matching)]
        # A model copies the manner of what it read last.
        return filling + matching
