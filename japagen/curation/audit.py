"""Audit of the accepted texts: personal data, memorization of gold, demographic mentions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from japagen.curation.bias import measure_bias
from japagen.data.dataset import Dataset
from japagen.japanese.morphology import Tagger
from japagen.japanese.overlap import OverlapIndex
from japagen.japanese.pii.detector import find_personal_data


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

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
    """Audits every accepted example; changes nothing.

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
    kinds: list[list[str]] = [[] for _ in range(len(kept))]
    if action != "ignore":
        before = {example.id: example.texts for example in written}
        kinds = [_kinds(before.get(example.id, example.texts), tagger) for example in kept]
    summary = {
        "personal_data": _personal_data(kinds, gold, action, tagger),
        "memorization": summarize_memories(kept, memories, gold),
        "bias": measure_bias(kept, gold, labels),
    }
    return Audit(_table(kept, memories, kinds), summary)


def _kinds(texts: Sequence[str], tagger: Tagger | None) -> list[str]:
    return [found.kind for text in texts for found in find_personal_data(text, tagger)]


def _personal_data(
    kinds: Sequence[Sequence[str]], gold: Dataset | None, action: str, tagger: Tagger | None
) -> dict[str, Any] | None:
    if action == "ignore":
        return None
    golden = [_kinds(example.texts, tagger) for example in gold or ()]
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


# Copied runs from here on are counted: some seven Japanese words.
LONG_COPY = 15
_WORST = 5


@dataclass(frozen=True, slots=True)
class Memory:
    """Overlap of a text with gold.

    Attributes:
        gold_id: The gold text that holds most of its character 5-grams; empty when none does.
        overlap: Share of its 5-grams there.
        copied: The longest run of characters that stands in any gold text, normalised.
        copied_from: That gold text's id; empty when no run of five characters does.
    """

    gold_id: str
    overlap: float
    copied: str
    copied_from: str


def find_memories(dataset: Dataset, gold: Dataset | None) -> list[Memory]:
    """Measures the overlap of every example with gold.

    Args:
        dataset: Synthetic examples.
        gold: Training gold; without it nothing is shared.
    """
    if gold is None or not len(gold):
        return [Memory("", 0.0, "", "")] * len(dataset)
    ids = [*gold.column("id"), ""]
    index = OverlapIndex(gold.joined_texts)
    found = []
    for text in dataset.joined_texts:
        share, nearest = index.nearest_index(text)
        copied = index.longest_copy(text)
        found.append(Memory(ids[nearest], share, copied.text, ids[copied.reference]))
    return found


def summarize_memories(
    dataset: Dataset, memories: Sequence[Memory], gold: Dataset | None
) -> dict[str, Any] | None:
    """Summarises memorization for the report: the distribution, and the worst texts.

    Returns:
        Mean and largest overlap, median and longest copied run in characters, how many texts
        copy `LONG_COPY` characters or more, and the texts with the longest runs.
    """
    if gold is None or not memories:
        return None
    golden = dict(zip(gold.column("id"), gold.joined_texts, strict=True))
    lengths = [len(m.copied) for m in memories]
    order = sorted(range(len(memories)), key=lambda i: (-lengths[i], i))[:_WORST]
    texts, ids = dataset.joined_texts, dataset.column("id")
    return {
        "examples": len(memories),
        "mean_overlap": float(np.mean([m.overlap for m in memories])),
        "max_overlap": max(m.overlap for m in memories),
        "median_copied": float(np.median(lengths)),
        "longest_copied": max(lengths),
        "long_copies": sum(length >= LONG_COPY for length in lengths),
        "long_copy": LONG_COPY,
        "worst": [
            {
                "id": ids[i],
                "text": texts[i],
                "copied": memories[i].copied,
                "gold_id": memories[i].copied_from,
                "gold_text": golden.get(memories[i].copied_from, ""),
            }
            for i in order
            if lengths[i]
        ],
    }
