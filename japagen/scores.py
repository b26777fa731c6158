"""Metrics of a classifier under weights on the test texts, many draws of weights at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Metric = Callable[[Floats, Floats, Floats], Floats]
"""From weights, shape (draws, n), and the `LabelSpace.codes` of what is true and of what was
predicted, shape (n, outputs), to a score a draw."""


def macro_f1(weights: Floats, truth: Floats, decided: Floats) -> Floats:
    """Unweighted mean of the F1 of every class or tag."""
    hits = weights @ (truth * decided)
    total = weights @ truth + weights @ decided
    return np.asarray(ratio(2 * hits, total).mean(axis=1))


def micro_f1(weights: Floats, truth: Floats, decided: Floats) -> Floats:
    """F1 of all decisions on tags together."""
    hits = weights @ (truth * decided).sum(axis=1)
    total = weights @ (truth + decided).sum(axis=1)
    return ratio(2 * hits, total)


def accuracy(weights: Floats, truth: Floats, decided: Floats) -> Floats:
    """Share of texts whose class, or whole set of tags, is right."""
    right = (truth == decided).all(axis=1).astype(np.float64)
    return ratio(weights @ right, weights.sum(axis=1))


def matthews(weights: Floats, truth: Floats, decided: Floats) -> Floats:
    """Matthews correlation for any number of classes (Gorodkin 2004, R_K); 0 where undefined."""
    total = weights.sum(axis=1)
    there, made = weights @ truth, weights @ decided
    right = weights @ (truth * decided).sum(axis=1)
    covariance = right * total - (there * made).sum(axis=1)
    spread = (total**2 - (there**2).sum(axis=1)) * (total**2 - (made**2).sum(axis=1))
    return ratio(covariance, np.sqrt(np.maximum(spread, 0)))


def pearson(weights: Floats, truth: Floats, decided: Floats) -> Floats:
    """Correlation of predicted and true numbers; 0 where either is constant."""
    return _correlation(weights, truth[:, 0][None, :], decided[:, 0][None, :])


def spearman(weights: Floats, truth: Floats, decided: Floats) -> Floats:
    """Correlation of ranks, ties at their mean rank, ranked anew in every draw."""
    return _correlation(weights, _ranks(weights, truth[:, 0]), _ranks(weights, decided[:, 0]))


def _ranks(weights: Floats, values: Floats) -> Floats:
    """Mean ranks of values that each occur as often as their weight says, shape (draws, n)."""
    distinct, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(distinct)))
    counts = np.add.reduceat(weights[:, order], starts, axis=1)
    through = np.cumsum(counts, axis=1)
    return np.asarray((through - (counts - 1) / 2)[:, group])


def _correlation(weights: Floats, a: Floats, b: Floats) -> Floats:
    total = weights.sum(axis=1, keepdims=True)
    a = a - (weights * a).sum(axis=1, keepdims=True) / total
    b = b - (weights * b).sum(axis=1, keepdims=True) / total
    variances = (weights * a**2).sum(axis=1) * (weights * b**2).sum(axis=1)
    return ratio((weights * a * b).sum(axis=1), np.sqrt(variances))


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divides; 0 where there is nothing to divide by."""
    out: Floats = np.divide(
        numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 1e-12
    )
    return out


METRICS: Mapping[str, Metric] = {
    "macro_f1": macro_f1,
    "micro_f1": micro_f1,
    "accuracy": accuracy,
    "exact_match": accuracy,
    "matthews": matthews,
    "spearman": spearman,
    "pearson": pearson,
}
