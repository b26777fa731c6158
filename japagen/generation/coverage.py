"""How far texts cover what the task wants of them: concepts, rare and boundary cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from japagen.config.sections import Knowledge
from japagen.config.task import Task
from japagen.data.dataset import Dataset
from japagen.data.summary import Covered, LabelCoverage
from japagen.generation.topics import as_item
from japagen.japanese.morphology import Tagger
from japagen.japanese.traits import Terms
from japagen.llm.backend import Request

Knowledges: TypeAlias = Mapping[str, tuple[Knowledge, ...]]


def named_in(requests: Sequence[Request]) -> dict[str, tuple[Knowledge, ...]]:
    """Id of each text that was asked for to what it was to name."""
    return {
        text: tuple(map(Knowledge.parse, named))
        for r in requests
        for text, named in zip(r.text_ids(), r.each or [r.knowledge], strict=True)
    }


def passages_in(requests: Sequence[Request]) -> list[str]:
    """The passages that any request named, each once."""
    named = (known for knowns in named_in(requests).values() for known in knowns)
    return sorted({known.item for known in named if known.kind == "passage"})


def wants_coverage(task: Task) -> bool:
    """Whether a task says what its texts are to cover."""
    generation = task.generation
    return any(
        task.wanted_shares(label) or generation.grid(label) or generation.topics(label)
        for label in task.labels
    )


def measure_coverage(
    task: Task, dataset: Dataset, named: Knowledges, tagger: Tagger
) -> dict[str, LabelCoverage]:
    """Looks for what the task wants in the kept texts of each label.

    Args:
        task: The task.
        dataset: Synthetic texts; a rewritten one counts for the request of its original.
        named: Id of a text that was asked for to what it was to name; empty for texts from a file.
        tagger: The morphological analyser.
    """
    rows: dict[str, list[_Row]] = {label: [] for label in task.labels}
    asked: dict[str, Counter[Knowledge]] = {label: Counter() for label in task.labels}
    written = Counter[str]()
    columns = ("label", "label_asked", "text", "id", "parent_id", "rejected")
    for label, wanted, text, own_id, parent, rejected in zip(
        *map(dataset.column, columns), strict=True
    ):
        if not parent:
            own = label if wanted is None else wanted
            written[own] += 1
            asked[own].update(named.get(own_id, ()))
        if not rejected:
            rows[label].append(_Row(text, named.get(_origin(parent or own_id), ())))
    found = {}
    for label, kept in rows.items():
        shares = task.wanted_shares(label)
        concepts = Terms([k.item for k in shares if k.kind == "concept"], tagger)
        seen = [(concepts.found(row.text), row.named) for row in kept]
        shares |= _wanted_values(task, label, asked[label], written[label])
        covered = [_covered(known, share, seen, asked[label]) for known, share in shares.items()]
        found[label] = LabelCoverage(kept=len(kept), covered=covered)
    return found


def _origin(text: str) -> str:
    """The id of the text that a request asked for, from that of one that was made of it."""
    return "-".join(text.split("-")[:2])


class _Row(NamedTuple):
    """A kept text, and what its request named."""

    text: str
    named: tuple[Knowledge, ...]


def _wanted_values(
    task: Task, label: str, asked: Counter[Knowledge], written: int
) -> dict[Knowledge, float]:
    """Attributes' values and topics that requests named, with the share that each should have."""
    wanted: dict[Knowledge, float] = {}
    groups = [
        [Knowledge("attribute", as_item([(name, value)])) for value in values]
        for name, values in task.generation.grid(label).items()
    ]
    groups.append([Knowledge("knowledge", topic) for topic in task.generation.topics(label)])
    for known in groups:
        total = sum(asked[each] for each in known)
        if total:
            wanted |= dict.fromkeys(known, total / len(known) / written)
    return wanted


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
    # Attributes and topics are named by what is left over, evenly by themselves.
    wants = {
        Knowledge.parse(f"{c.kind}:{c.item}"): max(0.0, c.wanted * total - c.found)
        for c in coverage.covered
        if c.kind not in ("attribute", "knowledge")
    }
    return {known: number for known, number in wants.items() if number > 0}
