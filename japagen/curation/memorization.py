"""How much of each accepted text was copied from gold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from japagen.examples import Dataset
from japagen.japanese.overlap import OverlapIndex

# Copied runs from here on are counted: some seven Japanese words.
LONG_COPY = 15
_WORST = 5


@dataclass(frozen=True, slots=True)
class Memory:
    """What a text shares with gold.

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
    """Compares every example with all of gold.

    Args:
        dataset: Synthetic examples.
        gold: Training gold; without it nothing is shared.
    """
    if gold is None or not len(gold):
        return [Memory("", 0.0, "", "")] * len(dataset)
    ids = [*gold.column("id"), ""]
    index = OverlapIndex(_joined(gold))
    found = []
    for text in _joined(dataset):
        share, nearest = index.nearest_index(text)
        copied = index.longest_copy(text)
        found.append(Memory(ids[nearest], share, copied.text, ids[copied.reference]))
    return found


def summarize_memories(
    dataset: Dataset, memories: Sequence[Memory], gold: Dataset | None
) -> dict[str, Any] | None:
    """What the report shows of memories: the spread, and the worst texts.

    Returns:
        Mean and largest overlap, median and longest copied run in characters, how many texts
        copy `LONG_COPY` characters or more, and the texts with the longest runs.
    """
    if gold is None or not memories:
        return None
    golden = dict(zip(gold.column("id"), _joined(gold), strict=True))
    lengths = [len(m.copied) for m in memories]
    order = sorted(range(len(memories)), key=lambda i: (-lengths[i], i))[:_WORST]
    texts, ids = _joined(dataset), dataset.column("id")
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


def _joined(dataset: Dataset) -> list[str]:
    pairs = dataset.column("text_pair")
    return [f"{a}\n{b}" if b else a for a, b in zip(dataset.texts, pairs, strict=True)]
