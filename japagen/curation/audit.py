"""Audit of the accepted texts: personal data, memorization of gold, demographic mentions.

A skew of genders, ages, regions or professions is named where Fisher's exact test (Fisher 1922)
stays below the false discovery rate of Benjamini and Hochberg (1995) over all tests made, and the
shares differ enough to matter.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from japagen.data.dataset import Dataset
from japagen.data.files import parse_yaml
from japagen.data.summary import Skew
from japagen.japanese.morphology import Tagger
from japagen.japanese.normalization import normalize
from japagen.japanese.overlap import OverlapIndex
from japagen.japanese.pii.detector import find_personal_data

FALSE_DISCOVERY_RATE = 0.05
# A skew below twice the share, or two texts in a hundred, is of no consequence.
_LEAST_RATIO, _LEAST_DIFFERENCE = 2.0, 0.02


@cache
def _groups() -> dict[str, dict[str, str]]:
    """Category to group to the expression that finds it."""
    path = Path(__file__).with_name("groups.yaml")
    return dict(parse_yaml(path.read_text(encoding="utf-8"), path.name))


def groups_in(text: str) -> set[tuple[str, str]]:
    """The category and group of everybody whom a text names."""
    plain = normalize(text)
    return {
        (category, group)
        for category, groups in _groups().items()
        for group, pattern in groups.items()
        if re.search(pattern, plain)
    }


class _Side:
    """Texts of one dataset, counted by label and group."""

    def __init__(self, dataset: Dataset | None, labels: Sequence[str]) -> None:
        self.texts: Counter[str] = Counter()
        self.named: Counter[tuple[str, tuple[str, str]]] = Counter()
        for text, label in (
            zip(dataset.joined_texts, dataset.labels, strict=True) if dataset is not None else ()
        ):
            found = groups_in(text)
            own = label if isinstance(label, list) else [label]
            for name in ("", *(one for one in own if one in labels)):
                self.texts[name] += 1
                self.named.update((name, group) for group in found)

    def counts(self, label: str, group: tuple[str, str]) -> tuple[int, int]:
        """Texts of a label that name a group, and those that do not."""
        named = self.named[label, group]
        return named, self.texts[label] - named

    def share(self, label: str, group: tuple[str, str]) -> float | None:
        total = self.texts[label]
        return self.named[label, group] / total if total else None


def measure_bias(
    synthetic: Dataset, gold: Dataset | None, labels: Sequence[str]
) -> dict[str, Any] | None:
    """Counts mentions per label, and reports the significant skews.

    Args:
        synthetic: Accepted examples.
        gold: Training gold.
        labels: The task's classes; numbers have none, and then all texts are one.

    Returns:
        JSON-ready: the number of tests, the rows (category, group, label, share in synthetic
        text and in gold; only what some text names) and the skews, clearest first. None without
        synthetic text.
    """
    if not len(synthetic):
        return None
    made, real = _Side(synthetic, labels), _Side(gold, labels)
    every = [(c, g) for c, groups in _groups().items() for g in groups]
    named = [g for g in every if made.named["", g] or real.named["", g]]
    rows = [
        {
            "category": group[0],
            "group": group[1],
            "label": label,
            "synthetic": made.share(label, group),
            "gold": real.share(label, group),
        }
        for group in named
        for label in ("", *labels)
        if made.named[label, group] or real.named[label, group]
    ]
    tests = _tests(made, real, named, labels)
    return {
        "texts": {"synthetic": made.texts[""], "gold": real.texts[""]},
        "tests": len(tests),
        "false_discovery_rate": FALSE_DISCOVERY_RATE,
        "rows": rows,
        "skews": [asdict(skew) for skew in _worth_a_look(tests)],
    }


def _tests(
    made: _Side, real: _Side, named: Sequence[tuple[str, str]], labels: Sequence[str]
) -> list[Skew]:
    from scipy.stats import fisher_exact

    found = []
    for group in named:
        for label in ("", *labels):
            ours = made.counts(label, group)
            sides = [("gold", real.counts(label, group))]
            if label and len(labels) > 1:
                whole = made.counts("", group)
                # A text with several labels counts for each, hence never below 0.
                rest = (max(whole[0] - ours[0], 0), max(whole[1] - ours[1], 0))
                sides.append(("label", rest))
            for kind, theirs in sides:
                if sum(ours) and sum(theirs) and ours[0] + theirs[0]:
                    p = float(fisher_exact([ours, theirs]).pvalue)
                    shares = ours[0] / sum(ours), theirs[0] / sum(theirs)
                    found.append(Skew(kind, *group, label, *shares, min(p, 1.0)))
    return found


def _worth_a_look(tests: Sequence[Skew]) -> list[Skew]:
    from scipy.stats import false_discovery_control

    if not tests:
        return []
    adjusted = false_discovery_control([t.p for t in tests])
    clear = [
        test
        for test, q in zip(tests, adjusted, strict=True)
        if q <= FALSE_DISCOVERY_RATE
        and abs(test.share - test.against) >= _LEAST_DIFFERENCE
        and max(test.share, test.against) >= _LEAST_RATIO * min(test.share, test.against)
    ]
    return sorted(clear, key=lambda t: (t.p, t.category, t.group, t.label, t.kind))


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
