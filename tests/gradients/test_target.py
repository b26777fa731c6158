from __future__ import annotations

import numpy as np
import torch
from torch import nn

from japagen.gradients.target import (
    CHECKPOINTS,
    Scaling,
    descend,
    gradient_target,
    mean_gradients,
)

NAMES = 3


def planted(n: int, seed: int, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around one direction a label."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % NAMES
    vectors = np.eye(width)[labels] * 1.5 + rng.normal(0, 0.6, (n, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def test_a_mean_gradient_is_what_autograd_finds() -> None:
    gold, labels = planted(12, 0)
    target = gradient_target(gold, labels, planted(9, 1)[0], NAMES)
    vectors, own = planted(15, 2)
    features = target.scaling(vectors)
    found = mean_gradients(target.residuals(features, own), features, own)
    for c, weight in enumerate(target.heads):
        head = torch.tensor(weight, requires_grad=True)
        mine = torch.tensor(features[own == 1])
        nn.functional.cross_entropy(mine @ head.T, torch.ones(len(mine)).long()).backward()
        np.testing.assert_allclose(found[c, 1], head.grad.numpy(), atol=1e-12)


def test_heads_start_at_zero_and_learn() -> None:
    vectors, labels = planted(60, 0)
    features = Scaling.of(vectors)(vectors)
    heads = descend(features, labels, NAMES)
    assert not heads[0].any()
    losses = []
    for head in heads:
        logits = torch.tensor(features @ head.T)
        losses.append(float(nn.functional.cross_entropy(logits, torch.tensor(labels))))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 2


def test_golds_residuals_come_from_heads_that_have_not_seen_it() -> None:
    # Labels that say nothing of the vectors: fitted heads learn them by heart, others cannot.
    rng = np.random.default_rng(0)
    gold = rng.normal(size=(24, 40))
    labels = rng.permutation(np.arange(24) % NAMES)
    target = gradient_target(gold, labels, gold, NAMES)
    features = target.scaling(gold)
    seen = mean_gradients(target.residuals(features, labels), features, labels)
    assert np.linalg.norm(target.goals[-1]) > 2 * np.linalg.norm(seen[-1])


def test_texts_of_the_same_kind_have_the_same_gradients() -> None:
    gold, labels = planted(90, 0)
    same, own = planted(90, 1)
    target = gradient_target(gold, labels, same, NAMES)
    assert target.cosines(same, own).shape == (len(CHECKPOINTS), NAMES)
    right = target.cosines(same, own)
    wrong = target.cosines(same, (own + 1) % NAMES)
    assert right[0].min() > 0.9
    assert (right > wrong).all()


def test_one_gold_text_and_labels_without_gold_are_no_error() -> None:
    vectors, labels = planted(9, 0)
    target = gradient_target(vectors[:1], labels[:1], vectors, NAMES)
    found = target.cosines(vectors, labels)
    assert np.isfinite(found[:, 0]).all()
    assert np.isnan(found[:, 1:]).all()
