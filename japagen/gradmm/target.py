r"""What gold's gradients are, at several points of a head's training.

For a linear head (W, b) on a frozen encoder's vectors h, the gradient of the cross-entropy of a
text with label y is (softmax(W h + b) − onehot(y)) ⊗ [h; 1]: a product of two short vectors, so
that no gradient is ever stored. The goal of a label is the mean gradient of its gold, at heads
along plain gradient descent from zero: a text that helps early need not help late. The heads are
trained on the texts to be matched. With heads of gold, a text would descend from the gold of all
labels, and next to no fold of a cross-validation could use it.

For the same reason no text is matched to all of gold. Some targets each leave out a quarter of the
blocks (`japagen.folds`) of every label, and each text is matched to one of them: of its label, it
then descends from the gold of that target alone.

Source: Nguyen et al. (2025), Synthetic Text Generation for Training Large Language Models via
Gradient Matching, arXiv 2502.17607. The checkpoints follow Pruthi et al. (2020), Estimating
Training Data Influence by Tracing Gradient Descent, arXiv 2002.08484.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from japagen.examples import Dataset
from japagen.folds import LEAST_TO_HOLD_OUT, gold_blocks

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CHECKPOINTS = (0, 5, 20, 80)
"""Steps of the head's gradient descent after which gradients are taken."""
TARGETS = 4
"""Targets that texts are dealt to; each leaves out one in so many of a label's blocks."""
_RATE = 2.0
_DECAY = 0.01
_TINY = 1e-12


@dataclass(frozen=True)
class Scaling:
    """Centre, shape (d,), and one scale: vectors are then about one unit long."""

    centre: Floats
    scale: float

    @classmethod
    def of(cls, vectors: npt.NDArray[np.floating]) -> Scaling:
        """Scales by the vectors of at least one text."""
        rows = np.asarray(vectors, dtype=np.float64)
        centre = rows.mean(axis=0)
        spread = float(((rows - centre) ** 2).sum(axis=1).mean())
        return cls(centre, float(np.sqrt(max(spread, _TINY))))

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
    """

    scaling: Scaling
    heads: Floats
    goals: Floats

    @classmethod
    def of(
        cls, gold: npt.NDArray[np.floating], labels: Ints, scaling: Scaling, heads: Floats
    ) -> GradientTarget:
        """Takes the gradients of gold vectors, shape (m, d): nothing else depends on gold."""
        features = scaling(gold)
        goals = mean_gradients(residuals(heads, features, labels), features, labels)
        return cls(scaling, heads, goals)

    def cosines(self, vectors: npt.NDArray[np.floating], labels: Ints) -> Floats:
        """Cosine of the texts' mean gradient with gold's, shape (checkpoints, labels).

        NaN for a label without gold or texts.
        """
        features = self.scaling(vectors)
        means = mean_gradients(residuals(self.heads, features, labels), features, labels)
        dots = (means * self.goals).sum(axis=(2, 3))
        lengths = np.sqrt((means**2).sum(axis=(2, 3)) * (self.goals**2).sum(axis=(2, 3)))
        return np.where(lengths > _TINY, dots / np.maximum(lengths, _TINY), np.nan)


def residuals(heads: Floats, features: Floats, labels: Ints) -> Floats:
    """Softmax less one-hot at every checkpoint, shape (checkpoints, n, labels)."""
    hot = np.eye(heads.shape[1])[labels]
    return np.stack([softmax(features @ head.T, axis=1) - hot for head in heads])


def mean_gradients(residuals: Floats, features: Floats, labels: Ints) -> Floats:
    """Mean gradient of each label's texts, shape (checkpoints, labels, labels, d + 1)."""
    steps, _, names = residuals.shape
    found = np.zeros((steps, names, names, features.shape[1]))
    for label in np.unique(labels):
        mine = labels == label
        found[:, label] = np.einsum("cik,id->ckd", residuals[:, mine], features[mine]) / mine.sum()
    return found


def descend(features: Floats, labels: Ints, names: int) -> Floats:
    """Heads along plain gradient descent from zero, labels weighing alike.

    Args:
        features: With the 1 for the bias, shape (n, d + 1).
        labels: Shape (n,).
        names: Number of labels.

    Returns:
        Shape (checkpoints, names, d + 1).
    """
    head = np.zeros((names, features.shape[1]))
    hot = np.eye(names)[labels]
    counts = np.bincount(labels, minlength=names)
    mass = 1.0 / (np.maximum(counts, 1)[labels] * max((counts > 0).sum(), 1))
    kept = []
    for step in range(max(CHECKPOINTS) + 1):
        if step in CHECKPOINTS:
            kept.append(head.copy())
        error = (softmax(features @ head.T, axis=1) - hot) * mass[:, None]
        head = head - _RATE * (error.T @ features + _DECAY * head)
    return np.stack(kept)


@dataclass(frozen=True)
class Subset:
    """A target with a part of gold.

    Attributes:
        target: Gradients of the gold that it has.
        ids: For each label, the ids of this gold.
        left_out: For each label, the ids of the other gold.
    """

    target: GradientTarget
    ids: tuple[tuple[str, ...], ...]
    left_out: tuple[frozenset[str], ...]


def gold_subsets(
    gold: Dataset,
    vectors: npt.NDArray[np.floating],
    labels: Ints,
    texts: npt.NDArray[np.floating],
    text_labels: Ints,
    names: int,
    *,
    seed: int = 0,
) -> list[Subset]:
    """Makes the targets.

    Args:
        gold: Labelled texts.
        vectors: Encoder vectors of gold, shape (m, d).
        labels: Gold's label indices, shape (m,).
        texts: Vectors of the texts that are to be matched, shape (n, d); at least one.
        text_labels: Their label indices.
        names: Number of labels.
        seed: The one that shots were drawn with.
    """
    scaling = Scaling.of(texts)
    heads = descend(scaling(texts), text_labels, names)
    blocks = gold_blocks(gold, seed)
    ids = np.array(gold.column("id"), dtype=object)
    own = np.array([blocks[id_] for id_ in ids], dtype=np.int64)
    members = [np.flatnonzero(labels == label) for label in range(names)]
    found = []
    for number in range(TARGETS):
        has = np.ones(len(ids), dtype=bool)
        for rows in members:
            parts = min(TARGETS, int(own[rows].max(initial=0)) + 1)
            # Of fewer texts, a fold can hold none out anyhow.
            if parts > 1 and len(rows) >= LEAST_TO_HOLD_OUT:
                has[rows] = own[rows] % parts != number % parts
        target = GradientTarget.of(vectors[has], labels[has], scaling, heads)
        kept = tuple(tuple(ids[rows[has[rows]]].tolist()) for rows in members)
        out = tuple(frozenset(ids[rows[~has[rows]]].tolist()) for rows in members)
        found.append(Subset(target, kept, out))
    return found


def deal_texts(
    ids: Sequence[str],
    labels: Ints,
    shots: Sequence[Collection[str]],
    subsets: Sequence[Subset],
    seed: int = 0,
) -> Ints:
    """Deals texts to the targets, each label evenly.

    A text goes to the target that leaves out what its prompt has shown least of, so that some
    fold can still use it.

    Args:
        ids: Of the texts.
        labels: Their label indices.
        shots: For each text, the ids of gold that it descends from.
        subsets: The targets.
        seed: Of the order in which texts take their turns.

    Returns:
        For each text the number of its target; it does not depend on the order of the texts.
    """

    def rank(row: int) -> str:
        key = f"{seed}/targets/{ids[row]}"
        return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()

    dealt = np.zeros(len(ids), dtype=np.int64)
    taken: Counter[tuple[int, int]] = Counter()
    for row in sorted(range(len(ids)), key=rank):
        label = int(labels[row])
        shown = set(shots[row])
        costs = [len(shown & subset.left_out[label]) for subset in subsets]
        best = min(range(len(subsets)), key=lambda n: (costs[n], taken[label, n], n))
        taken[label, best] += 1
        dealt[row] = best
    return dealt


def extended_shots(shots: Sequence[str], request_id: str | None, ids: Collection[str]) -> list[str]:
    """What a text descends from once it was matched to the gold ``ids``.

    Nothing where nobody knows what the text was written from, as it must not look like a text of
    known descent.
    """
    if not shots and request_id is None:
        return []
    return list(dict.fromkeys([*shots, *ids]))
