"""Counts what bears witness to the labels of a source; see `japagen.mixing.reliability`."""

from __future__ import annotations

import numpy as np

from japagen.folds import deal_folds
from japagen.mixing.linear_head import Floats, Ints, head_probabilities
from japagen.mixing.reliability import Evidence

_FOLDS = 5


def source_evidence(
    gold: Floats,
    gold_targets: Ints,
    texts: Floats,
    targets: Ints,
    *,
    labelers: Floats,
    recognized: int,
    seed: int,
) -> Evidence:
    """Trains on the source alone, and compares with labelers that learnt from gold.

    Args:
        gold: Vectors of gold, shape (n, d).
        gold_targets: Their label indices, shape (n,).
        texts: Vectors of the source's texts, shape (m, d).
        targets: The labels that the source gave them, shape (m,).
        labelers: Probabilities of the labelers for the texts, shape (m, labels).
        recognized: Gold texts that the labelers are right on without having seen them.
        seed: Of the folds.
    """
    labels = labelers.shape[1]
    weights = np.ones(len(texts))
    # Texts of a writer and gold stand apart as a whole: each is centred by itself.
    own = texts - texts.mean(axis=0) if len(texts) else texts
    on_gold = head_probabilities(own, targets, weights, gold - gold.mean(axis=0), labels)
    folds = deal_folds(targets, _FOLDS, seed)
    consistent = 0
    for fold in range(_FOLDS):
        held = folds == fold
        found = head_probabilities(own[~held], targets[~held], weights[~held], own[held], labels)
        consistent += int((found.argmax(axis=1) == targets[held]).sum())
    return Evidence(
        labels=labels,
        texts=len(texts),
        agreed=int((labelers.argmax(axis=1) == targets).sum()),
        consistent=consistent,
        gold=len(gold),
        recognized=recognized,
        transferred=int((on_gold.argmax(axis=1) == gold_targets).sum()),
    )
