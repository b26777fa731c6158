"""How far each source's texts are from gold."""

from __future__ import annotations

import numpy as np

from japagen.alignment.distances import two_sample_auc
from japagen.alignment.texts import AlignedTexts
from japagen.examples import Dataset
from japagen.japanese.morphology import Tagger


def distances_to_gold(
    dataset: Dataset, gold: Dataset, tagger: Tagger, seed: int
) -> dict[str, float | None]:
    """Cross-validated AUC of telling each source's kept texts from gold, unweighted.

    0.5 means that they cannot be told apart; see `two_sample_auc`. A source of many texts is told
    apart a little better than one of few that writes alike, as there is more to learn from.

    Args:
        dataset: Texts of one or more sources; rejected ones are left out.
        gold: Real texts.
        tagger: Gives the words.
        seed: Draws the folds.

    Returns:
        Source to AUC; None with fewer than five texts on a side.
    """
    kept = dataset.kept
    texts = AlignedTexts.of(kept, gold, Dataset.of([]), tagger)
    if texts is None:
        return {}
    ours, theirs, _ = texts.features
    sources, goal = np.array(kept.column("source")), np.ones(len(gold))
    return {
        name: two_sample_auc(
            ours, theirs, (sources == name).astype(np.float64), goal, np.random.default_rng(seed)
        )
        for name in dict.fromkeys(sources.tolist())
    }
