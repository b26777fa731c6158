"""Verifies the labels of every source: labelers and writers, each as far as it is reliable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from japagen.curation.label_check import (
    Floats,
    Vote,
    fit_pool,
    held_out_posterior,
    label_indices,
    settle_labels,
    with_writer,
)
from japagen.curation.off_topic import find_off_topic
from japagen.curation.reliability import (
    Evidence,
    Ints,
    Reliability,
    Writer,
    estimate_reliability,
)
from japagen.examples import Dataset
from japagen.folds import deal_folds

_FOLDS = 5
_STRENGTH = 30.0  # scikit-learn's C, for unit vectors less their mean


@dataclass(frozen=True)
class VerifiedLabels:
    """What verification made of the texts.

    Attributes:
        dataset: With `weight_label`, relabelled or rejected where the evidence says so.
        reliability: Of each source's labels.
        labelers: Each labeler's weight among them.
        right: Share of gold texts that the labelers are right on without having seen them.
    """

    dataset: Dataset
    reliability: Mapping[str, Reliability]
    labelers: Mapping[str, float]
    right: float


def verify_labels(
    dataset: Dataset,
    gold_targets: Ints,
    votes: Sequence[Vote],
    vectors: tuple[Floats, Floats],
    *,
    labels: Sequence[str],
    priors: Mapping[str, Writer],
    miss: Literal["relabel", "reject", "keep"],
    least: float,
    seed: int,
) -> VerifiedLabels:
    """Estimates how reliable each source is, and settles each label by all that vote on it.

    Args:
        dataset: Examples with the name of their source; rejected ones stay as they are.
        gold_targets: Label index of each gold text, shape (gold,).
        votes: Of the labelers, on gold and on the kept texts.
        vectors: Encoder vectors of gold and of the kept texts.
        labels: Every label.
        priors: Who wrote each source.
        miss: See `settle_labels`.
        least: See `settle_labels`.
        seed: Of the folds.
    """
    kept = dataset.kept
    own = label_indices(kept, labels)
    on_gold = [vote.gold for vote in votes]
    pool = fit_pool(on_gold, gold_targets)
    recognized = held_out_posterior(on_gold, gold_targets, seed).argmax(axis=1) == gold_targets
    labelers = pool.posterior([vote.texts for vote in votes])
    posterior, reliability = labelers.copy(), {}
    sources = np.array(kept.column("source"), dtype=object)
    for name in dict.fromkeys(dataset.column("source")):
        rows = np.flatnonzero(sources == name)
        evidence = _evidence(
            (vectors[0], gold_targets),
            (vectors[1][rows], own[rows]),
            labelers[rows],
            recognized=int(recognized.sum()),
            # Vectors of pairs say how both texts compare, not what they are about.
            topical=not kept.is_pair,
            seed=seed,
        )
        found = reliability[name] = estimate_reliability(evidence, priors[name])
        posterior[rows] = with_writer(labelers[rows], own[rows], found.accuracy(len(labels)))
    every = np.full((len(dataset), len(labels)), 1 / len(labels))
    every[dataset.kept_mask] = posterior
    return VerifiedLabels(
        settle_labels(dataset, labels, every, miss, least),
        reliability,
        {v.name: float(w) for v, w in zip(votes, pool.weights, strict=True)},
        float(recognized.mean()),
    )


def _evidence(
    gold: tuple[Floats, Ints],
    source: tuple[Floats, Ints],
    labelers: Floats,
    *,
    recognized: int,
    topical: bool,
    seed: int,
) -> Evidence:
    """Counts what bears witness to the labels of a source; see `japagen.curation.reliability`.

    Args:
        gold: Vectors and label indices of gold.
        source: Vectors and label indices of the source's texts.
        labelers: What the labelers make of them, shape (texts, labels).
        recognized: Gold texts that the labelers are right on without having seen them.
        topical: Whether vectors that are near each other are of texts about the same thing.
        seed: Of the folds.
    """
    # Texts of a writer and gold stand apart as a whole: each is centred by itself.
    on_gold, texts = _directions(gold[0]), _directions(source[0])
    targets = source[1]
    folds = deal_folds(targets, _FOLDS, seed)
    consistent = sum(
        _hits(
            texts[folds != fold],
            targets[folds != fold],
            texts[folds == fold],
            targets[folds == fold],
        )
        for fold in range(_FOLDS)
    )
    return Evidence(
        labels=labelers.shape[1],
        texts=len(texts),
        agreed=int((labelers.argmax(axis=1) == targets).sum()),
        consistent=consistent,
        gold=len(on_gold),
        recognized=recognized,
        transferred=_hits(texts, targets, on_gold, gold[1]),
        off_topic=int(find_off_topic(gold[0], source[0]).sum()) if topical else 0,
    )


def _hits(seen: Floats, targets: Ints, others: Floats, theirs: Ints) -> int:
    """How many others a logistic regression is right on."""
    from sklearn.linear_model import LogisticRegression

    if not len(others) or not len(seen):
        return 0
    if len(np.unique(targets)) < 2:
        return int((theirs == targets[0]).sum())
    model = LogisticRegression(C=_STRENGTH, max_iter=500).fit(seen, targets)
    return int((model.predict(others) == theirs).sum())


def _directions(vectors: Floats) -> Floats:
    """Unit vectors less their mean."""
    if not len(vectors):
        return vectors
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(unit - unit.mean(axis=0))
