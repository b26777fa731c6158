from __future__ import annotations

import numpy as np
import torch
from torch import nn

from japagen.gradmm.target import (
    CHECKPOINTS,
    GradientTarget,
    Scaling,
    descend,
    mean_gradients,
    residuals,
)

NAMES = 3


def planted(n: int, seed: int, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around one direction a label."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % NAMES
    vectors = np.eye(width)[labels] * 1.5 + rng.normal(0, 0.6, (n, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def target_of(
    gold: np.ndarray, labels: np.ndarray, texts: tuple, names: int = NAMES
) -> GradientTarget:
    """Gold's gradients at heads trained on other texts."""
    scaling = Scaling.of(texts[0])
    heads, features = descend(scaling(texts[0]), texts[1], names), scaling(gold)
    goals = mean_gradients(residuals(heads, features, labels), features, labels)
    return GradientTarget(scaling, heads, goals, ((),) * names)


def cosines(target: GradientTarget, vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of the texts' mean gradient with gold's; NaN for a label without gold or texts."""
    features = target.scaling(vectors)
    means = mean_gradients(residuals(target.heads, features, labels), features, labels)
    dots = (means * target.goals).sum(axis=(2, 3))
    lengths = np.sqrt((means**2).sum(axis=(2, 3)) * (target.goals**2).sum(axis=(2, 3)))
    return np.where(lengths > 1e-12, dots / np.maximum(lengths, 1e-12), np.nan)


def test_a_mean_gradient_is_what_autograd_finds() -> None:
    target = target_of(*planted(12, 0), planted(9, 1))
    vectors, own = planted(15, 2)
    features = target.scaling(vectors)
    found = mean_gradients(residuals(target.heads, features, own), features, own)
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


def test_texts_of_the_same_kind_have_the_same_gradients() -> None:
    same, own = planted(90, 1)
    target = target_of(*planted(90, 0), planted(90, 2))
    assert cosines(target, same, own).shape == (len(CHECKPOINTS), NAMES)
    right = cosines(target, same, own)
    wrong = cosines(target, same, (own + 1) % NAMES)
    assert right[0].min() > 0.9
    assert (right > wrong).all()


def test_one_gold_text_and_labels_without_gold_are_no_error() -> None:
    vectors, labels = planted(9, 0)
    found = cosines(target_of(vectors[:1], labels[:1], planted(9, 1)), vectors, labels)
    assert np.isfinite(found[:, 0]).all()
    assert np.isnan(found[:, 1:]).all()
