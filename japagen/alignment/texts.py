"""The three datasets of an alignment, counted and turned into features."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import sparse

from japagen.alignment.counting import Measured, Progress, Vocabulary, measure
from japagen.alignment.features import FeatureSpace
from japagen.examples import Dataset
from japagen.japanese.morphology import Tagger


@dataclass(frozen=True)
class AlignedTexts:
    """Counts and features of synthetic, gold and unlabelled texts, in this order."""

    measured: list[Measured]
    vocabulary: Vocabulary
    space: FeatureSpace
    features: list[sparse.csr_array]

    @classmethod
    def of(
        cls,
        source: Dataset,
        gold: Dataset,
        unlabelled: Dataset,
        tagger: Tagger,
        *,
        workers: int | None = None,
        progress: Progress = lambda blocks, _: blocks,
    ) -> AlignedTexts | None:
        """None when there is nothing to weight or no target text; see `measure`."""
        if not len(source) or not len(gold) + len(unlabelled):
            return None
        measured, vocabulary = measure(
            [source, gold, unlabelled], tagger, workers=workers, progress=progress
        )
        space = FeatureSpace.fit(measured[0], measured[1:], vocabulary, tagger.identity)
        return cls(measured, vocabulary, space, [space.transform(m) for m in measured])
