"""A look at the accepted texts: personal data, memory of gold, and who is spoken of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from japagen.curation.bias import measure_bias
from japagen.curation.memorization import Memory, find_memories, summarize_memories
from japagen.examples import Dataset
from japagen.japanese.morphology import Tagger
from japagen.japanese.pii import find_personal_data


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        table: One row an accepted example: id, gold_id, gold_overlap, copied, copied_from and
            the kinds of personal data that its text had when it was written.
        summary: JSON-ready; personal_data, memorization and bias.
    """

    table: pa.Table
    summary: dict[str, Any]


def audit(
    written: Dataset,
    curated: Dataset,
    gold: Dataset | None,
    labels: Sequence[str],
    action: str,
    tagger: Tagger | None = None,
) -> Audit:
    """Looks at every accepted example; changes nothing.

    Args:
        written: Examples as they were generated, before anything was masked.
        curated: The same and their rewrites after curation.
        gold: Training gold.
        labels: The task's classes.
        action: What curation did with personal data; ``ignore`` does not look for any.
        tagger: Finds names; the default dictionary when None.
    """
    kept = curated.kept
    memories = find_memories(kept, gold)
    kinds = _kinds(written, kept, action, tagger)
    summary = {
        "personal_data": _personal_data(kinds, gold, action, tagger),
        "memorization": summarize_memories(kept, memories, gold),
        "bias": measure_bias(kept, gold, labels),
    }
    return Audit(_table(kept, memories, kinds), summary)


def _kinds(written: Dataset, kept: Dataset, action: str, tagger: Tagger | None) -> list[list[str]]:
    if action == "ignore":
        return [[] for _ in range(len(kept))]
    before = dict(zip(written.column("id"), range(len(written)), strict=True))
    texts = _texts(written)
    return [
        [
            d.kind
            for text in (texts[before[i]] if i in before else own)
            for d in _found(text, tagger)
        ]
        for i, own in zip(kept.column("id"), _texts(kept), strict=True)
    ]


def _found(text: str, tagger: Tagger | None) -> list[Any]:
    return list(find_personal_data(text, tagger))


def _texts(dataset: Dataset) -> list[list[str]]:
    pairs = dataset.column("text_pair")
    return [[a, b] if b else [a] for a, b in zip(dataset.texts, pairs, strict=True)]


def _personal_data(
    kinds: Sequence[Sequence[str]], gold: Dataset | None, action: str, tagger: Tagger | None
) -> dict[str, Any] | None:
    if action == "ignore":
        return None
    golden = [
        [d.kind for text in texts for d in _found(text, tagger)]
        for texts in (_texts(gold) if gold is not None else ())
    ]
    return {
        "action": action,
        "synthetic": _counted(kinds),
        "gold": _counted(golden),
        "texts": {
            "synthetic": sum(bool(found) for found in kinds),
            "gold": sum(bool(found) for found in golden),
        },
    }


def _counted(kinds: Sequence[Sequence[str]]) -> dict[str, int]:
    counts = Counter(kind for found in kinds for kind in found)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _table(kept: Dataset, memories: Sequence[Memory], kinds: Sequence[Sequence[str]]) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(kept.column("id"), pa.string()),
            "gold_id": pa.array([m.gold_id for m in memories], pa.string()),
            "gold_overlap": pa.array([m.overlap for m in memories], pa.float64()),
            "copied": pa.array([m.copied for m in memories], pa.string()),
            "copied_from": pa.array([m.copied_from for m in memories], pa.string()),
            "personal_data": pa.array([list(k) for k in kinds], pa.list_(pa.string())),
        }
    )
