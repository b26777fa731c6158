"""How far texts cover what the task wants of them: concepts, rare and boundary cases, balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from japagen.examples import Dataset
from japagen.generators.base import Request
from japagen.japanese.mentions import Terms
from japagen.japanese.morphology import Tagger
from japagen.knowledge import Kind, Knowledge
from japagen.tasks import Task, balance_shares


@dataclass(frozen=True, slots=True)
class Covered:
    """How often a label's texts do what the user wants of them.

    Attributes:
        kind: ``concept``, ``rare`` or ``boundary``.
        item: What is wanted.
        wanted: Share of the label's texts that should do it.
        asked: Requests that named it.
        answered: Kept texts among them.
        met: Texts among those in which it is found; None for what cannot be looked for (cases).
        found: Kept texts of the label in which it is found or, for cases, that were asked for it.
        share: The same as a share of the label's kept texts.
    """

    kind: Kind
    item: str
    wanted: float
    asked: int
    answered: int
    met: int | None
    found: int
    share: float


@dataclass(frozen=True, slots=True)
class Balanced:
    """How often a label's texts show one value of an attribute.

    Attributes:
        attribute: Such as 性別.
        value: Such as 女性.
        wanted: Share among the texts that show any value.
        found: Kept texts of the label that show it.
        share: Share among those that show any; None where none does.
    """

    attribute: str
    value: str
    wanted: float
    found: int
    share: float | None


@dataclass(frozen=True)
class LabelCoverage:
    """What the kept texts of one label cover.

    Attributes:
        kept: How many there are.
        covered: Concepts and cases, in the task's order.
        balanced: Values of attributes, in the task's order.
    """

    kept: int
    covered: tuple[Covered, ...]
    balanced: tuple[Balanced, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {
            "kept": self.kept,
            "covered": [asdict(c) for c in self.covered],
            "balanced": [asdict(b) for b in self.balanced],
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> LabelCoverage:
        """Inverse of `to_dict`."""
        return cls(
            row["kept"],
            tuple(Covered(**c) for c in row["covered"]),
            tuple(Balanced(**b) for b in row["balanced"]),
        )


Knowledges = Mapping[str, tuple[Knowledge, ...]]


def named_in(requests: Sequence[Request]) -> dict[str, tuple[Knowledge, ...]]:
    """Request id to what the request named."""
    return {r.id: tuple(map(Knowledge.parse, r.knowledge)) for r in requests}


def wants_coverage(task: Task) -> bool:
    """Whether a task says what its texts are to cover."""
    return bool(task.balance) or any(task.wanted_shares(label) for label in task.labels)


def measure_coverage(
    task: Task, dataset: Dataset, named: Knowledges, tagger: Tagger
) -> dict[str, LabelCoverage]:
    """Looks for what the task wants in the kept texts of each label.

    Args:
        task: The task.
        dataset: Synthetic texts; a rewritten one counts for the request of its original.
        named: Request id to what the request named; empty for texts from a file.
        tagger: The morphological analyser.
    """
    rows: dict[str, list[tuple[str, str]]] = {label: [] for label in task.labels}
    asked: dict[str, Counter[Knowledge]] = {label: Counter() for label in task.labels}
    columns = ("label", "text", "request_id", "parent_id", "rejected")
    for label, text, request, parent, rejected in zip(*map(dataset.column, columns), strict=True):
        if not parent:
            asked[label].update(named.get(request, ()))
        if not rejected:
            # A rewritten text has a request of its own.
            origin = parent.removeprefix("s-") if parent else request
            rows[label].append((text, origin or ""))
    return {
        label: _of_label(task, label, rows[label], asked[label], named, tagger)
        for label in task.labels
    }


def _of_label(
    task: Task,
    label: str,
    rows: Sequence[tuple[str, str]],
    asked: Counter[Knowledge],
    named: Knowledges,
    tagger: Tagger,
) -> LabelCoverage:
    wanted = task.wanted_shares(label)
    values = [(a, v, given) for a, each in task.balance.items() for v, given in each.items()]
    terms = [k.item for k in wanted if k.kind == "concept"]
    terms += [word for _, _, given in values for word in given.words]
    index = Terms(terms, tagger)
    found = [(index.found(text) if terms else frozenset(), named.get(r, ())) for text, r in rows]
    covered = tuple(_covered(known, share, found, asked) for known, share in wanted.items())
    showing = {
        (a, v): {i for i, (seen, _) in enumerate(found) if seen & set(given.words)}
        for a, v, given in values
    }
    balanced = []
    for attribute, each in task.balance.items():
        total = sum(len(showing[attribute, value]) for value in each)
        for value, share in balance_shares(each).items():
            n = len(showing[attribute, value])
            balanced.append(Balanced(attribute, value, share, n, n / total if total else None))
    return LabelCoverage(len(rows), covered, tuple(balanced))


def _covered(
    known: Knowledge,
    wanted: float,
    found: Sequence[tuple[frozenset[str], tuple[Knowledge, ...]]],
    asked: Counter[Knowledge],
) -> Covered:
    answered = [seen for seen, names in found if known in names]
    if known.kind == "concept":
        met = sum(known.item in seen for seen in answered)
        number = sum(known.item in seen for seen, _ in found)
    else:
        met, number = None, len(answered)
    share = number / len(found) if found else 0.0
    return Covered(known.kind, known.item, wanted, asked[known], len(answered), met, number, share)


def due(coverage: LabelCoverage, size: int) -> dict[Knowledge, float]:
    """Requests of the next round that each wanted thing is still due, by a label's coverage.

    A concept that is found as often as wanted, whoever asked for it, is due nothing. Of an
    attribute, the values that are too rare are due what brings them up to the most frequent one.

    Args:
        coverage: What the label's texts so far cover.
        size: Requests of the next round.
    """
    total = coverage.kept + size
    wants = {
        Knowledge(c.kind, c.item): max(0.0, c.wanted * total - c.found) for c in coverage.covered
    }
    return {known: number for known, number in wants.items() if number > 0}


def skews(coverage: LabelCoverage) -> dict[tuple[str, str], float]:
    """Texts that each value of an attribute lacks, by a label's coverage."""
    lacking = {}
    for attribute in dict.fromkeys(b.attribute for b in coverage.balanced):
        values = [b for b in coverage.balanced if b.attribute == attribute and b.wanted > 0]
        level = max((b.found / b.wanted for b in values), default=0.0)
        for b in values:
            if level * b.wanted - b.found > 0:
                lacking[attribute, b.value] = level * b.wanted - b.found
    return lacking
