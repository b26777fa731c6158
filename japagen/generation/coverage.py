"""How far texts cover what the task wants of them: concepts, rare and boundary cases, balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from japagen.config.sections import Knowledge
from japagen.config.task import Task, balance_shares
from japagen.data.dataset import Dataset
from japagen.data.summary import Balanced, Covered, LabelCoverage
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
    return bool(task.balance) or any(
        task.wanted_shares(label) or task.generation.grid(label) for label in task.labels
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
    given = zip(*map(dataset.column, columns), dataset.weights.tolist(), strict=True)
    for label, wanted, text, own_id, parent, rejected, weight in given:
        if not parent:
            own = label if wanted is None else wanted
            written[own] += 1
            asked[own].update(named.get(own_id, ()))
        if not rejected:
            rows[label].append(_Row(text, named.get(_origin(parent or own_id), ()), weight))
    return {
        label: _of_label(task, label, rows[label], asked[label], written[label], tagger)
        for label in task.labels
    }


def _origin(text: str) -> str:
    """The id of the text that a request asked for, from that of one that was made of it."""
    return "-".join(text.split("-")[:2])


class _Row(NamedTuple):
    """A kept text, what its request named, and its weight."""

    text: str
    named: tuple[Knowledge, ...]
    weight: float


def _of_label(
    task: Task,
    label: str,
    rows: Sequence[_Row],
    asked: Counter[Knowledge],
    written: int,
    tagger: Tagger,
) -> LabelCoverage:
    wanted = task.wanted_shares(label)
    concepts = Terms([k.item for k in wanted if k.kind == "concept"], tagger)
    found = [(concepts.found(row.text), row.named) for row in rows]
    wanted |= _wanted_values(task, label, asked, written)
    covered = [_covered(known, share, found, asked) for known, share in wanted.items()]
    shown = shown_values(task, [row.text for row in rows], tagger)
    weights = np.array([row.weight for row in rows])
    balanced = []
    for attribute, values in task.balance.items():
        total = sum(int(shown[attribute, value].sum()) for value in values)
        mass = sum(float(weights @ shown[attribute, value]) for value in values)
        for value, share in balance_shares(values).items():
            there = shown[attribute, value]
            n, weight = int(there.sum()), float(weights @ there)
            shares = (n / total if total else None, weight / mass if mass else None)
            balanced.append(Balanced(attribute, value, share, n, *shares))
    return LabelCoverage(kept=len(rows), covered=covered, balanced=balanced)


def _wanted_values(
    task: Task, label: str, asked: Counter[Knowledge], written: int
) -> dict[Knowledge, float]:
    """The values of the attributes that requests named, with the share that each should have."""
    wanted: dict[Knowledge, float] = {}
    for name, values in task.generation.grid(label).items():
        known = [Knowledge("attribute", as_item([(name, value)])) for value in values]
        total = sum(asked[each] for each in known)
        if total:
            wanted |= dict.fromkeys(known, total / len(known) / written)
    return wanted


def shown_values(
    task: Task, texts: Sequence[str], tagger: Tagger
) -> dict[tuple[str, str], npt.NDArray[np.bool_]]:
    """Attribute and value to a mask, shape (len(texts),), of the texts that show it."""
    words = {
        (attribute, value): set(given.words)
        for attribute, values in task.balance.items()
        for value, given in values.items()
    }
    terms = Terms([word for each in words.values() for word in each], tagger)
    found = [terms.found(text) for text in texts] if words else []
    return {key: np.array([bool(seen & each) for seen in found]) for key, each in words.items()}


def balance_factors(task: Task, dataset: Dataset, tagger: Tagger) -> npt.NDArray[np.float64]:
    """Weights before alignment that put the task's skews right within each label.

    Of the texts that show one value of an attribute alone, those of a value count for as much as
    its wanted share, and all together for as much as before. No text is more than doubled or
    halved: what is missing altogether cannot be weighted into being.

    Args:
        task: The task.
        dataset: Synthetic texts, n of them; rejected ones have a factor of 1.
        tagger: The morphological analyser.

    Returns:
        Shape (n,); all 1 without a ``balance`` in the task.
    """
    factors = np.ones(len(dataset))
    if not task.balance:
        return factors
    shown = shown_values(task, dataset.texts, tagger)
    labels, weights = np.array(dataset.labels), dataset.weights
    for attribute, values in task.balance.items():
        alone = sum(shown[attribute, v].astype(int) for v in values) == 1
        for label in task.labels:
            rows = {v: (labels == label) & alone & shown[attribute, v] for v in values}
            mass = {v: float(weights[mask].sum()) for v, mask in rows.items()}
            total = sum(mass.values())
            for value, share in balance_shares(values).items():
                if mass[value] > 0:
                    factors[rows[value]] *= np.clip(share * total / mass[value], 0.5, 2.0)
            mine = labels == label
            before, after = weights[mine].sum(), (weights * factors)[mine].sum()
            factors[mine] *= before / after if after > 0 else 1.0
    return factors


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
    # Attributes are named by what is left over, evenly by themselves.
    wants = {
        Knowledge.parse(f"{c.kind}:{c.item}"): max(0.0, c.wanted * total - c.found)
        for c in coverage.covered
        if c.kind != "attribute"
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
