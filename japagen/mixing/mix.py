"""The weight of each source relative to gold, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from japagen.curation.reliability import Reliability
from japagen.data.dataset import Dataset

Reason = Literal["given", "reliable", "unreliable", "prior", "no_gold", "no_synthetic", "labels"]
"""Why a source has its weight: the task says so; the evidence on its labels; nothing but the
prior, since labels were not checked; there is no gold to weigh it against; no text of it was kept;
or labels of a kind for which there is no evidence."""


@dataclass(frozen=True)
class SourceMix:
    """What one source contributes to training.

    Attributes:
        texts: Kept texts.
        text_weight: Gold texts that one of them counts for in the loss; 0 leaves them out.
        reason: Why so many.
        reliability: Of its labels; None where it plays no part.
    """

    texts: int
    text_weight: float
    reason: Reason
    reliability: Reliability | None = None


@dataclass(frozen=True)
class Mix:
    """What every source contributes to training, in addition to gold.

    Attributes:
        share: Synthetic share of the training loss; 0 for gold only, 1 without gold.
        reason: That of the source with the largest weight.
        sources: By name, in the order of the dataset.
    """

    share: float
    reason: Reason
    sources: Mapping[str, SourceMix]

    @property
    def text_weight(self) -> float:
        """Mean number of gold texts that a used text counts for; 0 where none is used."""
        used = [s for s in self.sources.values() if s.text_weight]
        texts = sum(s.texts for s in used)
        return sum(s.texts * s.text_weight for s in used) / texts if texts else 0.0

    def source_share(self, name: str) -> float:
        """The part of the whole training loss that a source's texts carry."""
        carried = {n: s.texts * s.text_weight for n, s in self.sources.items()}
        total = sum(carried.values())
        return self.share * carried.get(name, 0.0) / total if total else 0.0

    def of(self, dataset: Dataset) -> Dataset | None:
        """The weighted rows to train on; None for gold only.

        Args:
            dataset: Aligned examples with the name of their source.
        """
        if not self.share:
            return None
        names = dataset.column("source")
        used = np.array([self._weight(name) > 0 for name in names], dtype=bool)
        factors = np.array([self._weight(name) for name in names])
        weights = np.array(dataset.column("weight_distribution"), dtype=np.float64) * factors
        kept = dataset.kept_mask & used
        for name in set(names):
            # The weight of a source follows its number of texts; alignment weighs them within it.
            rows = kept & np.array([own == name for own in names], dtype=bool)
            product = (weights * np.array(dataset.column("weight_label")))[rows].sum()
            if product > 0:
                weights[rows] *= rows.sum() * self._weight(name) / product
        return dataset.with_columns(weight_distribution=weights).where(used)

    def _weight(self, name: str) -> float:
        return self.sources[name].text_weight if name in self.sources else 0.0


def find_mix(
    gold: int,
    dataset: Dataset,
    reliability: Mapping[str, Reliability],
    *,
    share: float | None = None,
    checkable: bool = True,
) -> Mix:
    """Decides by expected value how much weight each source has relative to gold.

    Each text of a source counts for as many gold texts as `Reliability.text_weight` says, so that
    a dozen texts weigh little against 64 gold texts and 3,000 much.

    Args:
        gold: Number of gold texts.
        dataset: Synthetic examples; rejected ones are not used.
        reliability: Of each source's labels.
        share: Synthetic share of the loss that the task asks for; sources then share it as they
            otherwise would. None to decide.
        checkable: Whether labels are of a kind whose reliability can be estimated. Others are not
            used next to gold unless a share is given.
    """
    counts = dict.fromkeys(dict.fromkeys(dataset.column("source")), 0)
    for name in dataset.kept.column("source"):
        counts[name] += 1
    sources = {}
    for name, texts in counts.items():
        sources[name] = _source_mix(
            texts, reliability[name], gold, given=share, checkable=checkable
        )
    total = sum(s.texts * s.text_weight for s in sources.values())
    if total and (share is None or (share and not gold)):
        share = total / (total + gold)
    elif total and share and gold:
        # What one text counts for follows from the share that was asked for.
        factor = share / (1 - share) * gold / total
        sources = {
            name: replace(source, text_weight=source.text_weight * factor)
            for name, source in sources.items()
        }
    leading = max(sources.values(), key=lambda s: s.texts * (s.text_weight + 1e-9), default=None)
    reason = leading.reason if leading else "no_synthetic"
    return Mix(share if total and share is not None else 0.0, reason, sources)


def _source_mix(
    texts: int, known: Reliability, gold: int, *, given: float | None, checkable: bool
) -> SourceMix:
    if not texts:
        return SourceMix(0, 0.0, "no_synthetic")
    if not gold:
        return SourceMix(texts, known.text_weight, "no_gold", known)
    if given is not None:
        # A share that the task asks for is met even with texts that would otherwise be left out.
        return SourceMix(texts, (known.text_weight or 1e-3) if given else 0.0, "given", known)
    if not checkable:
        return SourceMix(texts, 0.0, "labels")
    if known.evidence is None:
        return SourceMix(texts, known.text_weight, "prior", known)
    reason: Reason = "reliable" if known.text_weight else "unreliable"
    return SourceMix(texts, known.text_weight, reason, known)
