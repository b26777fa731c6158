"""What the weights of a biased sample are worth to a classifier: its macro-F1 on dev texts.

A classifier learns from gold and the weighted sample together, which carries 40% of the loss, as
in japagen's own training. Two are measured: a logistic head on frozen vectors of the embedded
encoder, cheap enough for every method, and the encoder fine-tuned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from japagen.config.sections import Training
from japagen.data.dataset import Dataset

if TYPE_CHECKING:
    from japagen.training.encoder import Encoder

SYNTHETIC_SHARE = 0.4
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scored:
    """Texts with their vectors and the index of their label.

    Attributes:
        data: The texts.
        vectors: Shape (n, width).
        codes: Shape (n,): true labels, or those that a sample was given.
    """

    data: Dataset
    vectors: npt.NDArray[np.float32]
    codes: Ints


def head_scores(gold: Scored, planted: Scored, weights: Floats, dev: Scored) -> dict[str, float]:
    """Scores on dev of a weighted logistic regression; standardised as in japagen's probe.

    Macro-F1 counts every label alike, accuracy as often as it occurs, so bringing labels to their
    true shares moves the two against each other. The last score takes that out: it is the
    macro-F1 where the sample's labels weigh alike in the loss and weights differ within labels.
    """
    found = _fitted(gold, planted, weights, dev)
    scores = {"F1": _macro_f1(dev.codes, found), "accuracy": float((found == dev.codes).mean())}
    if len(planted.codes):
        total = np.bincount(planted.codes, weights=weights)
        alike = weights / np.maximum(total, 1e-12)[planted.codes]
        balanced = _fitted(gold, planted, alike, dev)
        scores["F1, labels balanced"] = _macro_f1(dev.codes, balanced)
    return scores


def _fitted(gold: Scored, planted: Scored, weights: Floats, dev: Scored) -> npt.NDArray[Any]:
    features = np.concatenate([gold.vectors, planted.vectors]).astype(np.float64)
    targets = np.concatenate([gold.codes, planted.codes])
    total = len(targets)
    mass = np.concatenate(
        [
            np.full(len(gold.codes), (1 - SYNTHETIC_SHARE) * total / len(gold.codes)),
            weights * (SYNTHETIC_SHARE * total / max(weights.sum(), 1e-12)),
        ]
    )
    centre = np.average(features, axis=0, weights=mass)
    scale = np.sqrt(np.average((features - centre) ** 2, axis=0, weights=mass)) + 1e-6
    head = LogisticRegression(C=1.0 / features.shape[1], max_iter=500)
    head.fit((features - centre) / scale, targets, sample_weight=mass)
    predicted: npt.NDArray[Any] = head.predict((dev.vectors - centre) / scale)
    return predicted


def gold_scores(gold: Scored, dev: Scored) -> dict[str, float]:
    """The same from gold alone."""
    nothing = Scored(gold.data, gold.vectors[:0], gold.codes[:0])
    found = head_scores(gold, nothing, np.ones(0), dev)
    return {f"{name} of gold alone": value for name, value in found.items()}


def fine_tuned_score(
    gold: Scored,
    planted: Scored,
    weights: Floats,
    dev: Scored,
    encoder: Encoder,
    names: Sequence[str],
    seed: int,
) -> float:
    """Macro-F1 on dev of the encoder fine-tuned with the default settings."""
    from japagen.training.trainer import train

    classifier = train(
        planted.data.with_columns(weight_distribution=weights),
        gold.data,
        encoder=encoder,
        labels=names,
        settings=Training(synthetic_share=SYNTHETIC_SHARE),
        seed=seed,
    )
    found = classifier.probabilities(dev.data.texts, dev.data.column("text_pair"))
    return _macro_f1(dev.codes, found.argmax(axis=1))


def _macro_f1(true: Ints, predicted: npt.NDArray[Any]) -> float:
    return float(f1_score(true, predicted, average="macro"))


def paired_gain(scores: Floats, baseline: Floats) -> tuple[float, float, float, int]:
    """Mean difference over draws, its 95% t interval, and in how many draws it is below 0."""
    gap = scores - baseline
    mean, n = float(gap.mean()), len(gap)
    if n < 2:
        return mean, np.nan, np.nan, int((gap < 0).sum())
    reach = float(stats.t.ppf(0.975, n - 1) * gap.std(ddof=1) / np.sqrt(n))
    return mean, mean - reach, mean + reach, int((gap < 0).sum())
