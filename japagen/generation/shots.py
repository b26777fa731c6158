"""Few-shot examples: the gold that a prompt shows."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Literal

from japagen.config.task import Task
from japagen.data.dataset import LEAST_TO_HOLD_OUT, Dataset, Example, gold_blocks
from japagen.japanese.morphology import Tagger
from japagen.japanese.registers import OTHER
from japagen.japanese.style.converter import convert_style

_OTHER_STYLE = {"polite": "plain", "plain": "polite"}
# Shown for an anchor that no gold is near to.
_NEAREST = 2
# A set touches at most this share of its label's blocks: every text then has blocks on which it
# can be judged.
_MOST_TOUCHED = 0.75


class ShotSets:
    """Draws sets of few-shot examples for one label and register, each set only once.

    A set comes from as few of its label's blocks (`japagen.data.dataset`) as hold its shots. Blocks
    take turns, and each text of the wanted register wins its block a turn. Draws of one label
    and register do not depend on those of another, so that asking for more texts keeps the
    requests of a smaller plan.

    A set has the texts of the wanted register first, then those that the rules of
    `japagen.japanese.style.converter` put into it, as converted, then others. What a prompt shows
    outweighs what it says: a model that reads plain sentences writes plain ones.

    The label may be the name of a set of tags, whose shots then share at least one of them, or
    of an anchor, whose shots are those nearest to it. None draws from all labels.
    """

    def __init__(
        self,
        task: Task,
        gold: Dataset | None,
        label: str | None,
        register: str,
        tagger: Tagger | None = None,
    ) -> None:
        self._closeness = _closeness(task, gold, label)
        close = (e for e in gold or () if e.id in self._closeness)
        rows = sorted(close, key=lambda e: e.id)
        self._register = register
        self._tagger = tagger
        self._read: dict[str, Example | None] = {}
        self._random = random.Random(f"{task.seed}/shots/{label}/{register}")
        blocks = gold_blocks(Dataset.of(rows), task.seed)
        self._blocks: dict[int, list[Example]] = defaultdict(list)
        for example in rows:
            self._blocks[blocks[example.id]].append(example)
        self._most = len(self._blocks)
        if len(rows) >= LEAST_TO_HOLD_OUT:
            self._most = max(1, int(self._most * _MOST_TOUCHED))
        self._shots = task.generation.shots
        self._touched: Counter[int] = Counter()
        self._used: set[tuple[str, ...]] = set()

    def draw(self) -> list[Example]:
        """Draws a set of shots, in the order in which to show them."""
        for _ in range(20):
            blocks = self._choose_blocks()
            chosen = self._draw([e for block in blocks for e in self._blocks[block]])
            key = tuple(e.id for e in chosen)
            if key not in self._used:
                break
        # With very little gold every order may have been used; a repeat is then unavoidable.
        self._used.add(key)
        self._touched.update(blocks)
        return chosen

    def _choose_blocks(self) -> list[int]:
        order = sorted(self._blocks)
        self._random.shuffle(order)
        order.sort(key=lambda block: self._touched[block] - self._matching(block))
        chosen: list[int] = []
        held = 0
        for block in order[: self._most]:
            if held >= self._shots:
                break
            chosen.append(block)
            held += len(self._blocks[block])
        return chosen

    def _matching(self, block: int) -> int:
        return sum(map(self._is_wanted, self._blocks[block]))

    def _is_wanted(self, example: Example) -> bool:
        return example.register_seen is not None and example.register_seen.name == self._register

    def _draw(self, rows: list[Example]) -> list[Example]:
        count = min(self._shots, len(rows))
        self._random.shuffle(rows)
        rows.sort(key=lambda e: -self._closeness[e.id])
        same = [e for e in rows if self._is_wanted(e)][:count]
        found: list[Example] = []
        if len(same) < count:
            left = [e for e in rows if not self._is_wanted(e)]
            converted = [c for e in left if (c := self._converted(e))]
            known = {e.id for e in converted}
            others = [e for e in left if e.id not in known]
            filling = (converted + others)[: count - len(same)]
            found = filling[::-1]
        # A model copies the manner of what it read last.
        return sorted(found + same, key=lambda e: self._closeness[e.id])

    def _converted(self, example: Example) -> Example | None:
        """The example converted to the wanted register, where only endings have to change."""
        if example.id not in self._read:
            self._read[example.id] = self._convert(example)
        return self._read[example.id]

    def _convert(self, example: Example) -> Example | None:
        seen = example.register_seen.name if example.register_seen else OTHER
        if example.text_pair is not None or _OTHER_STYLE.get(seen) != self._register:
            return None
        to: Literal["polite", "plain"] = "polite" if self._register == "polite" else "plain"
        made = convert_style(example.text, to, self._tagger)
        if made.refused or made.text == example.text:
            return None
        return replace(example, text=made.text)


def _closeness(task: Task, gold: Dataset | None, label: str | None) -> dict[str, float]:
    """Maps the id of each gold example to its suitability as an example of the label."""
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
