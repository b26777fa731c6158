"""Holds a dataset to the registers it was asked for: keep, rewrite or reject what misses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from japagen.examples import REWRITTEN, Dataset, Example, Rejection
from japagen.japanese.registers import OTHER, Register

Action = Literal["keep", "rewrite"]


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What became of one text that was to be rewritten.

    Attributes:
        text: The new text; empty when refused.
        register: The register found in it.
        refused: Why there is no new text.
        generator: Who rewrote it: "rules" or a model's name.
        request_id: The request that did, if it was a model.
        prompt_id: That request's template.
        seed: That request's seed.
    """

    text: str = ""
    register: Register | None = None
    refused: str = ""
    generator: str = "rules"
    request_id: str | None = None
    prompt_id: str | None = None
    seed: int | None = None


Rewriter = Callable[[Sequence[tuple[Example, str]]], Sequence[Rewritten]]
"""Rewrites examples, each into the register named beside it, one result each."""


def control_registers(
    dataset: Dataset, actions: Sequence[Action], rules: Rewriter, model: Rewriter | None = None
) -> tuple[Dataset, Dataset | None]:
    """Keeps, rewrites or rejects the examples that are not in the register asked for.

    Each label and register has room for as many examples as were asked for in it. Examples in
    the register asked for take their places first; then every action is tried in turn on what
    is left, in the order of the dataset, so that the same answers give the same dataset. What
    no action can place is rejected.

    ``keep`` takes an example for what it is where its own register has room. ``rewrite`` asks
    the rules and then the model for the register that was asked for, and the rules for any
    other register with room.

    Args:
        dataset: Examples with the registers asked for and seen; rows without the first, and
            rejected rows, stay as they are.
        actions: What to do with a miss, in order.
        rules: Rewrites without a model.
        model: Rewrites with one; None for rules alone.

    Returns:
        The same rows in the same order, with ``rejected`` filled in, and the rewritten
        children of rejected rows (None when there are none).
    """
    control = _Control(list(dataset))
    for action in actions:
        if action == "keep":
            control.keep()
        else:
            control.rewrite(rules, _as_asked)
            if model is not None:
                control.rewrite(model, _as_asked)
            control.rewrite(rules, control.open_registers)
    return control.result(dataset)


class _Control:
    """The places taken so far, and the examples that have none."""

    def __init__(self, rows: list[Example]) -> None:
        self._rows = rows
        asked = [(_label(e), e.register_asked.name) for e in rows if e.register_asked]
        self._asked = Counter(asked)
        self._room = Counter(asked)
        self._children: dict[int, Example] = {}
        self._refused: dict[int, str] = {}
        self._pending: list[int] = []
        for index, row in enumerate(rows):
            if row.rejected is None and row.register_asked is not None:
                if _seen(row) == row.register_asked.name:
                    self._room[_label(row), _seen(row)] -= 1
                else:
                    self._pending.append(index)

    def _take(self, row: Example, register: str) -> bool:
        if self._room[_label(row), register] <= 0:
            return False
        self._room[_label(row), register] -= 1
        return True

    def open_registers(self, row: Example) -> list[str]:
        """Registers of the row's label with room, the emptiest first."""
        room = {name: n for (label, name), n in self._room.items() if label == _label(row)}
        return sorted((n for n in room if room[n] > 0), key=lambda n: -room[n])

    def keep(self) -> None:
        rows = self._rows
        self._pending = [i for i in self._pending if not self._take(rows[i], _seen(rows[i]))]

    def rewrite(self, rewriter: Rewriter, targets: Callable[[Example], list[str]]) -> None:
        """Rewrites what is pending, each into the first of its targets that has room."""
        sent: list[tuple[int, str]] = []
        for index in self._pending:
            row = self._rows[index]
            wanted = [t for t in targets(row) if t not in (OTHER, _seen(row))]
            target = next((t for t in wanted if self._take(row, t)), None)
            if target:
                sent.append((index, target))
        made = rewriter([(self._rows[i], target) for i, target in sent])
        for (index, target), found in zip(sent, made, strict=True):
            row = self._rows[index]
            if found.text:
                self._children[index] = _child(row, target, found)
            else:
                self._room[_label(row), target] += 1
                self._refused[index] = f"{target}: {found.refused}"
        self._pending = [i for i in self._pending if i not in self._children]

    def result(self, dataset: Dataset) -> tuple[Dataset, Dataset | None]:
        rejections = [row.rejected for row in self._rows]
        for index in (*self._pending, *self._children):
            rejections[index] = self._rejection(index, self._rows[index])
        children = [self._children[i] for i in sorted(self._children)]
        controlled = dataset.with_rejections(rejections)
        return controlled, Dataset.of(children) if children else None

    def _rejection(self, index: int, row: Example) -> Rejection:
        seen = _seen(row)
        asked = row.register_asked.name if row.register_asked else ""
        places = self._asked[_label(row), seen]
        detail = f"{asked} asked, {seen} seen"
        child = self._children.get(index)
        if child is not None:
            target = child.register_asked.name if child.register_asked else ""
            return Rejection("rewritten", 1, 0, f"{detail}; {target} in {child.id}")
        if index in self._refused:
            detail += f"; not rewritten as {self._refused[index]}"
        return Rejection("register", places + 1, places, detail)


def _label(row: Example) -> str:
    return str(row.label_asked)


def _as_asked(row: Example) -> list[str]:
    return [row.register_asked.name] if row.register_asked else []


def _seen(row: Example) -> str:
    return row.register_seen.name if row.register_seen else OTHER


def _child(parent: Example, target: str, found: Rewritten) -> Example:
    return replace(
        parent,
        text=found.text,
        id=f"{parent.id}-r",
        derived=REWRITTEN,
        parent_id=parent.id,
        register_asked=Register.of(target),
        register_seen=found.register,
        request_id=found.request_id or parent.request_id,
        generator=found.generator,
        prompt_id=found.prompt_id,
        seed=found.seed if found.seed is not None else parent.seed,
    )
