r"""What gold's gradients are, at several points of a head's training.

For a linear head (W, b) on a frozen encoder's vectors h, the gradient of the cross-entropy of a
text x with label y in (W, b) is (softmax(W h + b) − onehot(y)) ⊗ [h; 1]: a product of two short
vectors, so that no gradient is ever stored. The target is, for each label and each checkpoint of
the head, the mean gradient of gold's texts of the label.

Two things differ from taking gold's gradients at a head fitted to gold. The head's training is
followed by plain gradient descent from zero, and its early, middle and late states all count: a
text that helps early need not help late. And gold's residuals are cross-fitted: a head that has
seen a gold text leaves next to nothing of its gradient, whatever text it is.

Source: Nguyen et al. (2025), Synthetic Text Generation for Training Large Language Models via
Gradient Matching, arXiv 2502.17607. The checkpoints follow Pruthi et al. (2020), Estimating
Training Data Influence by Tracing Gradient Descent, arXiv 2002.08484.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from japagen.folds import deal_folds

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CHECKPOINTS = (0, 5, 20, 80)
"""Steps of the head's gradient descent after which gradients are taken."""
_RATE = 2.0
_DECAY = 0.01
_FOLDS = 8
_TINY = 1e-12


@dataclass(frozen=True)
class Scaling:
    """Centre, shape (d,), and one scale: vectors are then about one unit long."""

    centre: Floats
    scale: float

    @classmethod
    def of(cls, *sides: Floats) -> Scaling:
        """Each side, such as gold and synthetic text, counts alike however many rows it has."""
        centre = np.mean([side.mean(axis=0) for side in sides], axis=0)
        spread = np.mean([((side - centre) ** 2).sum(axis=1).mean() for side in sides])
        return cls(centre, float(np.sqrt(max(float(spread), _TINY))))

    def __call__(self, vectors: npt.NDArray[np.floating]) -> Floats:
        """Returns shape (n, d + 1): the scaled vectors and a 1 for the bias."""
        scaled = (np.asarray(vectors, dtype=np.float64) - self.centre) / self.scale
        return np.hstack([scaled, np.ones((len(scaled), 1))])


@dataclass(frozen=True)
class GradientTarget:
    """Gold's mean gradients, and the heads that they were taken at.

    Attributes:
        scaling: Of the vectors.
        heads: Weights with the bias last, shape (checkpoints, labels, d + 1).
        goals: Gold's mean gradient for each label, shape (checkpoints, labels, labels, d + 1):
            the second axis is the label of the texts. Zero for a label without gold.
        counts: Gold texts of each label.
    """

    scaling: Scaling
    heads: Floats
    goals: Floats
    counts: Ints

    def residuals(self, features: Floats, labels: Ints) -> Floats:
        """Softmax less one-hot at every checkpoint, shape (checkpoints, n, labels)."""
        hot = np.eye(self.heads.shape[1])[labels]
        return np.stack([softmax(features @ head.T, axis=1) - hot for head in self.heads])

    def cosines(self, vectors: npt.NDArray[np.floating], labels: Ints) -> Floats:
        """Cosine of the texts' mean gradient with gold's, shape (checkpoints, labels).

        NaN for a label without gold or texts.
        """
        features = self.scaling(vectors)
        means = mean_gradients(self.residuals(features, labels), features, labels)
        dots = (means * self.goals).sum(axis=(2, 3))
        lengths = np.sqrt((means**2).sum(axis=(2, 3)) * (self.goals**2).sum(axis=(2, 3)))
        return np.where(lengths > _TINY, dots / np.maximum(lengths, _TINY), np.nan)


def mean_gradients(residuals: Floats, features: Floats, labels: Ints) -> Floats:
    """Mean gradient of each label's texts, shape (checkpoints, labels, labels, d + 1)."""
    steps, _, names = residuals.shape
    found = np.zeros((steps, names, names, features.shape[1]))
    for label in np.unique(labels):
        mine = labels == label
        found[:, label] = np.einsum("cik,id->ckd", residuals[:, mine], features[mine]) / mine.sum()
    return found


def descend(
    features: Floats, labels: Ints, names: int, checkpoints: Sequence[int] = CHECKPOINTS
) -> Floats:
    """Heads along plain gradient descent from zero, labels weighing alike.

    Args:
        features: With the 1 for the bias, shape (n, d + 1).
        labels: Shape (n,).
        names: Number of labels.
        checkpoints: Steps after which the head is kept, rising.

    Returns:
        Shape (len(checkpoints), names, d + 1).
    """
    head = np.zeros((names, features.shape[1]))
    hot = np.eye(names)[labels]
    counts = np.bincount(labels, minlength=names)
    mass = 1.0 / (np.maximum(counts, 1)[labels] * max((counts > 0).sum(), 1))
    kept = []
    for step in range(max(checkpoints) + 1):
        if step in checkpoints:
            kept.append(head.copy())
        error = (softmax(features @ head.T, axis=1) - hot) * mass[:, None]
        head = head - _RATE * (error.T @ features + _DECAY * head)
    return np.stack(kept)


def gradient_target(
    gold: npt.NDArray[np.floating],
    labels: Ints,
    others: npt.NDArray[np.floating],
    names: int,
    *,
    checkpoints: Sequence[int] = CHECKPOINTS,
    seed: int = 0,
) -> GradientTarget:
    """Takes gold's gradients along the training of a head on gold.

    Args:
        gold: Encoder vectors of gold, shape (m, d); at least one.
        labels: Their label indices, shape (m,).
        others: Vectors of the texts to be compared, shape (n, d): they help to centre and scale.
        names: Number of labels.
        checkpoints: Steps of gradient descent after which gradients are taken, rising from 0.
        seed: Of the folds.
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (gold, others) if len(side)]
    scaling = Scaling.of(*sides)
    features = scaling(gold)
    hot = np.eye(names)[labels]
    residuals = np.zeros((len(checkpoints), len(labels), names))
    folds = deal_folds(labels, min(_FOLDS, len(labels)), seed)
    for fold in np.unique(folds):
        held = folds == fold
        if held.all():  # one text in all: only the untrained head has not seen it
            heads = np.zeros((len(checkpoints), names, features.shape[1]))
        else:
            heads = descend(features[~held], labels[~held], names, checkpoints)
        for at, head in enumerate(heads):
            residuals[at, held] = softmax(features[held] @ head.T, axis=1) - hot[held]
    return GradientTarget(
        scaling=scaling,
        heads=descend(features, labels, names, checkpoints),
        goals=mean_gradients(residuals, features, labels),
        counts=np.bincount(labels, minlength=names),
    )


def goals_of(
    gold: npt.NDArray[np.floating],
    labels: Ints,
    scaling: Scaling,
    heads: Floats,
) -> GradientTarget:
    """Takes gold's gradients at heads that have not seen it: nothing else depends on gold.

    Args:
        gold: Encoder vectors of gold, shape (m, d).
        labels: Their label indices, shape (m,).
        scaling: Of other texts.
        heads: Trained on other texts, shape (checkpoints, labels, d + 1).
    """
    names = heads.shape[1]
    counts = np.bincount(labels, minlength=names)
    bare = GradientTarget(scaling, heads, np.zeros(0), counts)
    features = scaling(gold)
    goals = mean_gradients(bare.residuals(features, labels), features, labels)
    return GradientTarget(scaling, heads, goals, counts)
