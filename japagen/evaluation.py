"""Scores for classifiers, with the comparison a user needs and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95% percentile-bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one set of predictions.

    Attributes:
        accuracy: Share of right predictions.
        macro_f1: Unweighted mean of the labels' F1.
        per_label: Label to precision, recall, F1 and support.
        confusion: ``confusion[i][j]`` counts examples of label i predicted as j.
        labels: The order of rows and columns.
    """

    accuracy: float
    macro_f1: float
    per_label: dict[str, dict[str, float]]
    confusion: list[list[int]]
    labels: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready mapping."""
        return asdict(self)


def score(true: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> Scores:
    """Scores predictions against true labels.

    A label with neither true nor predicted examples has F1 0 and still counts in the mean,
    as in scikit-learn with ``labels`` given.

    Args:
        true: True labels.
        predicted: As many predicted labels.
        labels: Every label, in the order to report.
    """
    at = {name: index for index, name in enumerate(labels)}
    confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for t, p in zip(true, predicted, strict=True):
        confusion[at[t], at[p]] += 1
    hits = np.diag(confusion)
    precision = _ratio(hits, confusion.sum(axis=0))
    recall = _ratio(hits, confusion.sum(axis=1))
    f1 = _ratio(2 * hits, confusion.sum(axis=0) + confusion.sum(axis=1))
    per_label = {
        name: {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(confusion[i].sum()),
        }
        for name, i in at.items()
    }
    return Scores(
        accuracy=float(hits.sum() / max(confusion.sum(), 1)),
        macro_f1=float(f1.mean()),
        per_label=per_label,
        confusion=confusion.tolist(),
        labels=list(labels),
    )


def bootstrap_difference(
    true: Sequence[str],
    candidates: Sequence[Sequence[str]],
    baselines: Sequence[Sequence[str]],
    labels: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Paired bootstrap of the gain in macro-F1 of candidates over baselines.

    Test examples are resampled with replacement, the same draw for both sides (Efron and
    Tibshirani 1993, chapter 16); each side's score is the mean over its training seeds. The
    interval speaks of the test sample, not of other draws of gold.

    Args:
        true: True labels, length n.
        candidates: One list of n predictions a training seed.
        baselines: The same for the other side.
        labels: Every label.
        resamples: Bootstrap draws.
        seed: Of the draws.
    """
    at = {name: index for index, name in enumerate(labels)}
    truth = np.array([at[t] for t in true])
    sides = [
        [np.array([at[p] for p in predicted]) for predicted in side]
        for side in (candidates, baselines)
    ]
    n = len(truth)
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    weights = np.concatenate([np.ones((1, n)), draws])
    means = [
        np.mean([_macro_f1(weights, truth, predicted, len(labels)) for predicted in side], axis=0)
        for side in sides
    ]
    gain = means[0] - means[1]
    low, high = np.quantile(gain[1:], [0.025, 0.975])
    return Interval(float(gain[0]), float(low), float(high))


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
    confidence = probabilities.max(axis=1)
    right = np.array([labels[i] for i in probabilities.argmax(axis=1)]) == np.array(true)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        (which == b).mean() * abs(confidence[which == b].mean() - right[which == b].mean())
        for b in range(bins)
        if (which == b).any()
    ]
    return float(sum(gaps))


def _ratio(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any]) -> Floats:
    out: Floats = np.divide(
        numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0
    )
    return out


def _macro_f1(weights: Floats, truth: Ints, predicted: Ints, labels: int) -> Floats:
    """Macro-F1 of every row of weights (shape (draws, n)) at once."""
    classes = np.arange(labels)
    is_true = (truth[:, None] == classes).astype(float)
    is_predicted = (predicted[:, None] == classes).astype(float)
    hits = weights @ (is_true * is_predicted)
    total = weights @ is_true + weights @ is_predicted
    means: Floats = _ratio(2 * hits, total).mean(axis=1)
    return means
