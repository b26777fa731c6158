"""The greedy choice by gradients at checkpoints of real fine-tuning, for comparison.

`japagen.gradients` takes gradients along the training of a head on the frozen encoder. Here the
encoder is fine-tuned on one half of gold, as `japagen.training` does it, and the gradients of the
other half's texts and of the pool in the last layer are taken after so many steps; then the other
way round. Each half and each number of steps is a checkpoint with features of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from japagen.examples import Dataset
from japagen.folds import deal_folds
from japagen.gradients.target import Floats, Ints, Scaling
from japagen.tasks.settings import Training
from japagen.training.encoders import Encoder
from japagen.training.fitting import train
from japagen.training.heads import head_features, last_linear

STEPS = (10, 60)


def tuned_choice(
    encoder: Encoder,
    gold: Dataset,
    true: Ints,
    pool: Sequence[str],
    asked: Ints,
    labels: Sequence[str],
    size: int,
    seed: int,
) -> Ints:
    """Rows of the pool, ``size`` a label, whose mean gradient is nearest to gold's."""
    parts = []
    folds = deal_folds(true, 2, seed)
    for fold in (0, 1):
        held = np.flatnonzero(folds == fold)
        seen = gold.take(np.flatnonzero(folds != fold))
        for steps in STEPS:
            settings = Training(tune="always", min_steps=steps, max_steps=steps)
            classifier = train(
                None, seen, encoder=encoder, labels=labels, settings=settings, seed=seed
            )
            texts = [*pool, *(gold.texts[row] for row in held)]
            features = head_features(classifier, classifier.encode(texts))
            linear = last_linear(classifier.model)
            logits = features @ linear.weight.detach().double().numpy().T
            logits = logits + linear.bias.detach().double().numpy()
            own = np.concatenate([asked, true[held]])
            parts.append(_gradients(features, logits, own, len(pool), len(labels)))
    return np.concatenate([_greedy(parts, asked, label, size) for label in range(len(labels))])


def _gradients(
    features: Floats, logits: Floats, own: Ints, pool: int, names: int
) -> tuple[Floats, Floats]:
    """Gradients of the pool's texts, shape (n, d), and gold's means, shape (labels, d)."""
    residuals = softmax(logits, axis=1) - np.eye(names)[own]
    scaled = Scaling.of(features[:pool], features[pool:])(features)
    found = np.einsum("nk,nd->nkd", residuals, scaled).reshape(len(own), -1)
    goals = [found[pool:][own[pool:] == label].mean(axis=0) for label in range(names)]
    return found[:pool], np.stack(goals)


def _greedy(parts: Sequence[tuple[Floats, Floats]], asked: Ints, label: int, size: int) -> Ints:
    """As `japagen.gradients.selection`, on gradients written out."""
    mine = np.flatnonzero(asked == label)
    lengths = [float(np.linalg.norm(goals[label])) for _, goals in parts]
    atoms = np.hstack([found[mine] / n for (found, _), n in zip(parts, lengths, strict=True)])
    goal = np.hstack([goals[label] / n for (_, goals), n in zip(parts, lengths, strict=True)])
    chosen: list[int] = []
    total = np.zeros(len(goal))
    for step in range(1, min(size, len(mine)) + 1):
        distance = (((total + atoms) / step - goal) ** 2).sum(axis=1)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
        total = total + atoms[chosen[-1]]
    return mine[chosen]
