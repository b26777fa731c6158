"""Probabilities that mean what they say: a temperature, and when to leave a text to a person.

Both are learnt from gold that the head judging it has not seen. A text that was written after
that gold is left out with it: it descends from the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from japagen.training.probing import Floats, Head, Ints, Labelled

Fit = Callable[[Labelled, Floats, int], Head]

FOLDS = 5
TYPICAL_TEMPERATURE = 0.5
"""A head with a few texts a label is less sure than it is right; this is about by how much."""
ZERO_GOLD_TEMPERATURE = 0.25
"""The same for a head without gold; on three tasks 0.14 to 0.34 was best."""
_LOG_BOUNDS = (np.log(0.05), np.log(10.0))


def fold_of(
    labels: Ints, seed: int, folds: int = FOLDS, texts: Sequence[Hashable] | None = None
) -> Ints:
    """Deals the texts of each label into folds; returns each text's, shape (n,).

    Args:
        labels: Label indices, shape (n,).
        seed: Of the deal.
        folds: How many.
        texts: Repetitions of one text share a fold: one of them held out must not be known from
            the other. All count as different when None.
    """
    rng = np.random.default_rng(seed)
    out = np.zeros(len(labels), dtype=np.int64)
    rows_at = np.arange(len(labels))
    at: dict[Hashable, int] = {}
    first = np.array([at.setdefault(t, i) for i, t in enumerate(texts)]) if texts else rows_at
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero((labels == label) & (first == rows_at)))
        # Where a label has fewer texts than folds, they do not all fall into the first ones.
        out[rows] = (np.arange(len(rows)) + rng.integers(folds)) % folds
    found: Ints = out[first]
    return found


def out_of_fold_logits(
    data: Labelled,
    features: Floats,
    gold_ids: Sequence[str],
    shot_ids: Sequence[Sequence[str] | None],
    fit: Fit,
    seed: int,
) -> Floats:
    """Logits of each text of gold from a head fitted without it and all that descends from it.

    Args:
        data: Gold first, then synthetic text.
        features: Of the texts, shape (n, width).
        gold_ids: Of the first rows.
        shot_ids: For each synthetic text, the gold that its prompt showed.
        fit: Fits a head to texts, their features, and the number of them that are gold.
        seed: Of the folds.

    Returns:
        Shape (gold, labels).
    """
    golds = len(gold_ids)
    texts = [tuple(row["input_ids"]) for row in data.rows[:golds]]
    folds = fold_of(data.targets[:golds].argmax(axis=1), seed, texts=texts)
    out = np.zeros((golds, data.targets.shape[1]))
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        held = {gold_ids[int(i)] for i in rows}
        free = [held.isdisjoint(shots or ()) for shots in shot_ids]
        keep = np.flatnonzero(np.concatenate([folds != fold, np.array(free, dtype=bool)]))
        out[rows] = fit(data.take(keep), features[keep], golds - len(rows)).logits(features[rows])
    return out


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """Finds what to divide logits by (Guo et al. 2017).

    Minimises the negative log-likelihood plus (log T - log T0)^2: a dozen texts that all happen
    to be right would otherwise call for certainty.

    Args:
        logits: Shape (n, labels).
        labels: True label indices, shape (n,).
    """

    def loss(log_temperature: float) -> float:
        found = log_softmax(logits / np.exp(log_temperature), axis=1)
        fit = -found[np.arange(len(labels)), labels].sum()
        return float(fit + (log_temperature - np.log(TYPICAL_TEMPERATURE)) ** 2)

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_BOUNDS, method="bounded").x))


def threshold_for(
    precision: float, confidence: Sequence[float], right: Sequence[bool]
) -> float | None:
    """Returns the least confidence above which predictions are right often enough.

    Args:
        precision: The share of right ones that is asked for.
        confidence: Probability of each predicted label.
        right: Whether each prediction was right.

    Returns:
        The threshold, or None where no share of the predictions is that good.
    """
    sure = np.asarray(confidence, dtype=np.float64)
    order = np.argsort(-sure, kind="stable")
    hits = np.cumsum(np.asarray(right, dtype=np.float64)[order])
    good = np.flatnonzero(hits / np.arange(1, len(order) + 1) >= precision - 1e-12)
    # Predictions that share a confidence stand or fall together.
    ends = [i for i in good if i + 1 == len(order) or sure[order[i + 1]] < sure[order[i]]]
    return float(sure[order[ends[-1]]]) if ends else None
