"""Metrics of classifiers, and comparisons with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from japagen.data.dataset import Label
from japagen.data.labels import Floats, LabelSpace
from japagen.data.registry import METRICS, metrics_of
from japagen.data.scores import CalibrationBin, CoveragePoint, Interval

# Draws of the bootstrap at a time times test texts: some 80 MB of weights.
_BLOCK = 10_000_000


def score(true: Sequence[Label], decided: Floats, space: LabelSpace) -> dict[str, Any]:
    """Scores decisions against true labels.

    A class or tag with neither true nor predicted examples has F1 0 and still counts in the
    mean, as in scikit-learn with ``labels`` given.

    Args:
        true: True labels.
        decided: `LabelSpace.codes` of as many predictions.
        space: The labels.

    Returns:
        JSON-ready: every metric of its kind (`metrics_of`); ``labels``; ``per_label``, for classes
        and tags precision, recall, f1 and support, for the anchors of a scale support,
        mean_predicted and mean_absolute_error; for classes ``confusion``, whose [i][j] counts
        examples of class i predicted as j; for numbers ``mean_absolute_error``.
    """
    truth = space.codes(true)
    once = np.ones((1, len(truth)))
    found: dict[str, Any] = {
        name: float(METRICS[name](once, truth, decided)[0]) for name in metrics_of(space.kind)
    }
    found["labels"] = list(space.names)
    if space.kind == "regression":
        errors = np.abs(truth - decided)[:, 0]
        found["mean_absolute_error"] = float(errors.mean()) if len(errors) else 0.0
        found["per_label"] = _per_anchor(true, decided[:, 0], errors, space)
        return found
    found["per_label"] = _per_label(truth, decided, space.names)
    if space.kind == "classification":
        found["confusion"] = (truth.T @ decided).astype(int).tolist()
    return found


def _per_label(truth: Floats, decided: Floats, names: Sequence[str]) -> dict[str, dict[str, float]]:
    hits, made, there = (truth * decided).sum(0), decided.sum(0), truth.sum(0)
    columns = {
        "precision": ratio(hits, made),
        "recall": ratio(hits, there),
        "f1": ratio(2 * hits, made + there),
    }
    return {
        name: {key: float(column[i]) for key, column in columns.items()}
        | {"support": int(there[i])}
        for i, name in enumerate(names)
    }


def _per_anchor(
    true: Sequence[Label], decided: Floats, errors: Floats, space: LabelSpace
) -> dict[str, dict[str, float | None]]:
    near = np.array([space.name(label) for label in true])
    found: dict[str, dict[str, float | None]] = {}
    for name in space.names:
        rows = near == name
        found[name] = {
            "support": int(rows.sum()),
            "mean_predicted": float(decided[rows].mean()) if rows.any() else None,
            "mean_absolute_error": float(errors[rows].mean()) if rows.any() else None,
        }
    return found


def bootstrap_difference(
    true: Floats,
    candidates: Sequence[Floats],
    baselines: Sequence[Floats],
    metric: str,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Paired bootstrap of the gain in a metric of candidates over baselines.

    Test examples are resampled with replacement, the same draw for both sides (Efron and
    Tibshirani 1993, chapter 16); each side's score is the mean over its training seeds. The
    interval speaks of the test sample, not of other draws of gold.

    Args:
        true: `LabelSpace.codes` of the true labels, shape (n, outputs).
        candidates: The same of one list of predictions a training seed.
        baselines: The same for the other side.
        metric: A key of `METRICS`.
        resamples: Bootstrap draws.
        seed: Of the draws.
    """
    return _bootstrapped(
        len(true),
        lambda weights: (
            _mean_score(metric, weights, true, candidates)
            - _mean_score(metric, weights, true, baselines)
        ),
        resamples,
        seed,
    )


def bootstrap_score(
    true: Floats, decided: Sequence[Floats], metric: str, *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Bootstrap of a metric itself; arguments as of `bootstrap_difference`."""
    return _bootstrapped(
        len(true), lambda weights: _mean_score(metric, weights, true, decided), resamples, seed
    )


def _mean_score(metric: str, weights: Floats, true: Floats, runs: Sequence[Floats]) -> Floats:
    scored = [METRICS[metric](weights, true, decided) for decided in runs]
    return np.asarray(np.mean(scored, axis=0))


def _bootstrapped(
    n: int, measure: Callable[[Floats], Floats], resamples: int, seed: int
) -> Interval:
    """The measure on the whole sample, with the interval of it on draws."""
    rng = np.random.default_rng(seed)
    whole = float(measure(np.ones((1, n)))[0])
    found = []
    block = max(1, _BLOCK // max(n, 1))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        draws = rng.multinomial(n, np.full(n, 1 / n), size=size)
        found.append(measure(draws.astype(np.float64)))
    low, high = np.quantile(np.concatenate(found), [0.025, 0.975])
    return Interval(whole, float(low), float(high))


def expected_calibration_error(
    probabilities: Floats, true: Sequence[str], labels: Sequence[str], bins: int = 10
) -> float:
    """Mean gap between confidence and accuracy over equal-width bins (Guo et al. 2017).

    Args:
        probabilities: Shape (n, number of labels).
        true: True labels.
        labels: The order of the columns.
        bins: Number of confidence bins.
    """
    found = calibration_bins(probabilities, true, labels, bins)
    return sum(row.texts * abs(row.confidence - row.accuracy) for row in found) / max(len(true), 1)


def calibration_bins(
    probabilities: Floats, true: Sequence[str], labels: Sequence[str], bins: int = 10
) -> list[CalibrationBin]:
    """Mean confidence and accuracy in every bin that holds a text; arguments as above."""
    confidence, right = _confident(probabilities, true, labels)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        CalibrationBin(
            confidence=float(confidence[rows].mean()),
            accuracy=float(right[rows].mean()),
            texts=int(rows.sum()),
        )
        for b in range(bins)
        if (rows := which == b).any()
    ]


def coverage_curve(
    probabilities: Floats, true: Sequence[str], labels: Sequence[str]
) -> list[CoveragePoint]:
    """Accuracy among the texts that a classifier answers, by how many it answers.

    It answers those it is surest of. Texts of equal confidence are answered together.

    Args:
        probabilities: Shape (n, number of labels).
        true: True labels.
        labels: The order of the columns.
    """
    confidence, right = _confident(probabilities, true, labels)
    order = np.argsort(-confidence, kind="stable")
    sure, hits = confidence[order], np.cumsum(right[order])
    if not len(sure):
        return []
    ends = np.flatnonzero(np.append(sure[1:] < sure[:-1], True))
    return [
        CoveragePoint(
            share=float((end + 1) / len(sure)),
            accuracy=float(hits[end] / (end + 1)),
            confidence=float(sure[end]),
        )
        for end in ends
    ]


def _confident(
    probabilities: Floats, true: Sequence[str], labels: Sequence[str]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Confidence in each decision, and whether it is right."""
    right = np.array([labels[i] for i in probabilities.argmax(axis=1)]) == np.array(true)
    return probabilities.max(axis=1, initial=0.0), right


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
    """Correlation of ranks, ties at their mean rank, ranked again in every draw."""
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
