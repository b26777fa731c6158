r"""What gold's gradients are, at several points of a head's training.

For a linear head (W, b) on a frozen encoder's vectors h, the gradient of the cross-entropy of a
text with label y is (softmax(W h + b) − onehot(y)) ⊗ [h; 1]: a product of two short vectors, so
that no gradient is ever stored. The goal of a label is the mean gradient of its gold, at heads
along plain gradient descent from zero: a text that helps early need not help late. The heads are
trained on the texts to be matched. With heads of gold, a text would descend from the gold of all
labels, and next to no fold of a cross-validation could use it.

For the same reason no text is matched to all of gold. Some targets each leave out a quarter of the
blocks (`japagen.data.dataset`) of every label, and each text is matched to one of them: of its
label, it then descends from the gold of that target alone.

Source: Nguyen et al. (2025), Synthetic Text Generation for Training Large Language Models via
Gradient Matching, arXiv 2502.17607. The checkpoints follow Pruthi et al. (2020), Estimating
Training Data Influence by Tracing Gradient Descent, arXiv 2002.08484.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from japagen.data.dataset import LEAST_TO_HOLD_OUT, Dataset, gold_blocks, hash_rank

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CHECKPOINTS = (0, 5, 20, 80)
"""Steps of the head's gradient descent after which gradients are taken."""
TARGETS = 4
"""Targets that texts are dealt to; each leaves out one in so many of a label's blocks."""
_RATE = 2.0
_DECAY = 0.01


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
        return cls(centre, float(np.sqrt(max(spread, 1e-12))))

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
        ids: For each label, the ids of the gold that a text matched to it descends from.
    """

    scaling: Scaling
    heads: Floats
    goals: Floats
    ids: tuple[tuple[str, ...], ...]


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

    Features have the 1 for the bias, shape (n, d + 1); heads are of shape
    (checkpoints, names, d + 1).
    """
    head = np.zeros((names, features.shape[1]))
    counts = np.bincount(labels, minlength=names)
    mass = 1.0 / (np.maximum(counts, 1)[labels] * max((counts > 0).sum(), 1))
    kept = []
    for step in range(max(CHECKPOINTS) + 1):
        if step in CHECKPOINTS:
            kept.append(head.copy())
        error = residuals(head[None], features, labels)[0] * mass[:, None]
        head = head - _RATE * (error.T @ features + _DECAY * head)
    return np.stack(kept)


def gold_targets(
    gold: Dataset,
    vectors: npt.NDArray[np.floating],
    labels: Ints,
    texts: npt.NDArray[np.floating],
    text_labels: Ints,
    names: int,
    *,
    seed: int = 0,
) -> list[GradientTarget]:
    """Makes `TARGETS` targets, each of a part of gold.

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
    heads, features = descend(scaling(texts), text_labels, names), scaling(vectors)
    left = residuals(heads, features, labels)
    blocks, ids = gold_blocks(gold, seed), gold.column("id")
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
        goals = mean_gradients(left[:, has], features[has], labels[has])
        kept = tuple(tuple(ids[row] for row in rows if has[row]) for rows in members)
        found.append(GradientTarget(scaling, heads, goals, kept))
    return found


def deal_texts(
    texts: Dataset, labels: Ints, targets: Sequence[GradientTarget], seed: int = 0
) -> Ints:
    """Deals texts to the targets, each label evenly.

    A text goes to the target that has most of the gold that its prompt has shown, so that some
    fold can still use it.

    Args:
        texts: What is to be matched.
        labels: Their label indices.
        targets: One or more.
        seed: Of the order in which texts take their turns.

    Returns:
        For each text the number of its target; it does not depend on the order of the texts.
    """
    ids, shots = texts.column("id"), texts.column("shot_ids")
    dealt = np.zeros(len(ids), dtype=np.int64)
    taken: Counter[tuple[int, int]] = Counter()
    for row in sorted(range(len(ids)), key=lambda row: hash_rank(f"{seed}/targets/{ids[row]}")):
        label = int(labels[row])
        known = [len(set(shots[row]).intersection(target.ids[label])) for target in targets]
        best = min(range(len(targets)), key=lambda n: (-known[n], taken[label, n], n))
        taken[label, best] += 1
        dealt[row] = best
    return dealt


def extended_shots(shots: Sequence[str], request_id: str | None, ids: Sequence[str]) -> list[str]:
    """What a text descends from once it was matched to the gold ``ids``.

    Nothing where nobody knows what the text was written from, as it must not look like a text of
    known descent.
    """
    if not shots and request_id is None:
        return []
    return list(dict.fromkeys([*shots, *ids]))
