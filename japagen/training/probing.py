"""A linear head from labelled texts and from what describes the labels, on a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax

from japagen.training.heads import head_features, last_linear

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Rows = Sequence[dict[str, list[int]]]
Features = tuple[Floats, Floats]

DESCRIPTION_MASS = 8.0
"""What a label's description weighs, in texts of gold."""
_NO_MASS = 1e-9
# The logit of a label with neither text nor description.
_NEVER = -20.0


@dataclass(frozen=True)
class Labelled:
    """Encoded texts with soft labels, and the phrases that describe the labels.

    Attributes:
        rows: Encoded texts, n of them; may be none.
        targets: Distribution over the labels for each text, shape (n, labels).
        mass: Weight of each text, shape (n,); about 1 for a text of gold.
        phrases: Encoded phrases, m of them; may be none.
        phrase_labels: Label index of each phrase, shape (m,).
    """

    rows: Rows
    targets: Floats
    mass: Floats
    phrases: Rows
    phrase_labels: Ints

    def take(self, index: slice | Ints) -> Labelled:
        """Returns the same phrases with some of the texts."""
        rows = [self.rows[i] for i in np.arange(len(self.rows))[index]]
        return replace(self, rows=rows, targets=self.targets[index], mass=self.mass[index])


@dataclass(frozen=True)
class Head:
    """A linear head: weight, shape (labels, width), and bias, shape (labels,)."""

    weight: Floats
    bias: Floats

    def logits(self, features: Floats) -> Floats:
        """Returns logits, shape (n, labels)."""
        return np.asarray(features @ self.weight.T + self.bias)

    def probabilities(self, features: Floats) -> Floats:
        """Returns probabilities, shape (n, labels)."""
        return np.asarray(softmax(self.logits(features), axis=1))

    def cooled(self, temperature: float) -> Head:
        """Returns the head whose logits are divided by the temperature."""
        return Head(self.weight / temperature, self.bias / temperature)


def see(classifier: Classifier, data: Labelled) -> Features:
    """What a head sees of the texts, shape (n, width), and of the phrases, shape (m, width)."""
    return head_features(classifier, data.rows), head_features(classifier, data.phrases)


@torch.no_grad()
def set_head(classifier: Classifier, head: Head) -> None:
    """Puts the head into the classifier's last layer."""
    linear = last_linear(classifier.model)
    linear.weight.copy_(torch.from_numpy(head.weight))
    linear.bias.copy_(torch.from_numpy(head.bias))


def fit_head(
    data: Labelled, features: Floats, phrases: Floats, around: Floats | None = None
) -> Head:
    """Fits a logistic regression to labelled features and to what describes the labels.

    The features are centred and scaled by one number, their root mean square distance from the
    centre: scaling each dimension by itself lifts those that hold nothing, and 16 texts a label
    cannot tell which they are. Descriptions are shorter and drier than texts, so they are
    centred by themselves: what is left is how they differ from each other.

    Args:
        data: Targets, masses and phrase labels; its rows are not read.
        features: Of the texts, shape (n, width).
        phrases: Of the phrases, shape (m, width).
        around: Of texts without labels, shape (k, width), that give centre and scale where
            there are no labelled ones; the phrases do, and worse, where these are absent too.
    """
    from sklearn.linear_model import LogisticRegression

    labels = data.targets.shape[1]
    phrase_centre = _balanced_mean(phrases, data.phrase_labels)
    if len(features):
        centre = np.average(features, axis=0, weights=data.mass)
        spread = np.average(((features - centre) ** 2).sum(axis=1), weights=data.mass)
    else:
        known = phrases if around is None else around
        centre = phrase_centre if around is None else around.mean(axis=0)
        spread = ((known - centre) ** 2).sum(axis=1).mean()
    scale = float(np.sqrt(spread)) or 1.0
    points = np.concatenate([features - centre, phrases - phrase_centre]) / scale
    counts = np.bincount(data.phrase_labels, minlength=labels)
    described = np.eye(labels)[data.phrase_labels]
    masses = np.concatenate(
        [
            data.targets * data.mass[:, None],
            described * (DESCRIPTION_MASS / counts[data.phrase_labels])[:, None],
        ]
    )
    # A distribution over labels is that many rows of one label each.
    rows, columns = np.nonzero(masses > _NO_MASS)
    present = np.unique(columns)
    weight, bias = np.zeros((labels, points.shape[1])), np.full(labels, _NEVER)
    if len(present) < 2:
        bias[present] = 0.0
        return Head(weight, bias)
    model = LogisticRegression(max_iter=500)
    model.fit(points[rows], columns, sample_weight=masses[rows, columns])
    coefficients, intercepts = model.coef_, model.intercept_
    if len(present) == 2:
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight[present] = coefficients / scale
    bias[present] = intercepts - weight[present] @ centre
    return Head(weight, bias)


def _balanced_mean(features: Floats, labels: Ints) -> Floats:
    """Mean over the labels of the means of their features."""
    if not len(features):
        return np.zeros(features.shape[1])
    means = [features[labels == label].mean(axis=0) for label in np.unique(labels)]
    return np.asarray(np.mean(means, axis=0))
