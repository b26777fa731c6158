"""What synthetic text is worth in gold: measured on frozen vectors, all sources and each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from japagen.examples import Dataset
from japagen.folds import LEAST_TO_HOLD_OUT
from japagen.mixing.curves import curves
from japagen.mixing.evidence import Evidence, gather

if TYPE_CHECKING:
    from japagen.training.frozen import FrozenTraining

_LEAST_USABLE = 4


def measure_worth(
    gold: Dataset,
    kept: Dataset,
    frozen: FrozenTraining,
    *,
    text_weight: float,
    seed: int,
    repeats: int,
) -> dict[str, Any] | None:
    """Cross-validates heads on frozen vectors with more and more gold, and with the texts.

    Args:
        gold: Training gold; `why_not` must have nothing against it.
        kept: Synthetic examples with their weights.
        frozen: Fits the heads.
        text_weight: Gold texts that a synthetic text counts for on average.
        seed: The seed that shots were drawn with.
        repeats: Repeats of the cross-validation.

    Returns:
        JSON-ready ``provenance``, ``folds`` and ``curves``; None where some fold may use hardly
        any text.
    """
    evidence = gather(
        gold,
        kept,
        frozen.labels,
        (
            frozen.vectors(gold.texts, gold.column("text_pair")),
            frozen.vectors(kept.texts, kept.column("text_pair")),
        ),
        text_weight=text_weight,
        seed=seed,
        repeats=repeats,
        head=frozen.probabilities,
    )
    folds = _folds(evidence)
    if min(folds["usable"]) < _LEAST_USABLE:
        return None
    return {
        "provenance": provenance(kept),
        "folds": folds,
        "curves": curves(evidence, seed).to_dict(),
    }


def why_not(gold: Dataset, kept: Dataset) -> str | None:
    """Why nothing can be measured, as a code, or None."""
    if not len(gold):
        return "no_gold"
    if not len(kept):
        return "no_synthetic"
    if not all(isinstance(label, str) for label in gold.labels):
        return "labels"
    if min(Counter(gold.labels).values()) < LEAST_TO_HOLD_OUT:
        return "few_gold"
    return None


def provenance(kept: Dataset) -> str:
    """What is known of the gold that the texts descend from.

    Returns:
        ``known``: every text names the gold that it was written from, or was written from none.
        ``unknown``: some came from elsewhere; they may descend from gold that was held out.
    """
    origins = zip(kept.column("shot_ids"), kept.column("request_id"), strict=True)
    return "known" if all(shots or request for shots, request in origins) else "unknown"


def _folds(evidence: Evidence) -> dict[str, Any]:
    folds = [fold for repeat in evidence.repeats for fold in repeat]
    first = evidence.repeats[0]
    return {
        "repeats": len(evidence.repeats),
        "usable": [len(fold.split.usable) for fold in first],
        "synthetic": len(evidence.synthetic),
        "train": float(np.mean([len(fold.split.train) for fold in folds])),
        "gold": len(evidence.gold),
    }
