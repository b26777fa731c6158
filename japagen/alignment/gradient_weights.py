r"""Gradient matching: weights under which synthetic text pulls a classifier as gold does.

For a linear head on frozen encoder vectors h, the gradient of the cross-entropy of text x with
label y is (softmax − onehot(y)) ⊗ h. Per label k, with gₖ the mean gradient of gold's texts,

    minimise  ‖ Σᵢ bᵢ wᵢ (pᵢ − onehot(yᵢ)) ⊗ hᵢ − gₖ ‖²    subject to 0 ≤ wᵢ ≤ B, Σᵢ bᵢ wᵢ = 1

over the texts of the label, b being the weights so far: GRADMM's objective, solved for weights of
texts that are there and not for new texts. Frank-Wolfe starts at w = 1; each step moves towards
the vertex of the capped simplex that lowers the distance most, by exact line search. Few
steps are a penalty in themselves: after t of them the weights are a mix of t + 1 points. They
stop when the distance is what the gold texts' own scatter gives their mean, tr Cov/m.

Two heads are matched at once, as one fits what the other leaves: the untrained one (all labels
alike, so the mean vector of each label is matched) and a ridge-penalised one trained on gold.
No gradient is ever stored: those of the rows are products of two short vectors.

Source: Nguyen et al. (2025), Synthetic Text Generation for Training Large Language Models via
Gradient Matching, arXiv 2502.17607; Jaggi (2013), Revisiting Frank-Wolfe. Assumes class labels
and vectors that tell them apart; unlabelled texts only help to centre and scale the vectors.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from japagen.alignment.counting import Floats, Ints
from japagen.alignment.entropy import Balance
from japagen.alignment.material import Material, Vectors
from japagen.alignment.methods import from_scores
from japagen.errors import JapagenError

_BOUND = 5.0
_STEPS = 100
_LEAST = 1e-3
_MIN_GOLD = 2
_PENALTY = 0.1


def gradient_matching(material: Material, floor: float) -> Balance:
    """Tilts texts to match gold's gradients, where a label has 2 gold texts.

    Raises:
        JapagenError: If there are no vectors, or labels are not classes.
    """
    if material.vectors is None:
        raise JapagenError(
            "The alignment method 'gradient_matching' needs encoder vectors, found none.",
            "Pass vectors=(gold, synthetic), one row of numbers per text, or use another method.",
        )
    if material.strata.kind != "class":
        raise JapagenError(
            "The alignment method 'gradient_matching' needs one class per text, found labels of "
            f"kind '{material.strata.kind}'.",
            "Use the method 'entropy'.",
        )
    strata = material.strata
    scores = np.zeros(len(strata.synthetic))
    if not len(strata.gold):
        return from_scores(material, scores, floor)
    gold, synthetic = _standardised(material.vectors)
    residuals = _residuals(gold, synthetic, strata.gold, strata.synthetic, len(strata.names))
    weights = material.normalized(scores)
    for k, mine in enumerate(material.rows):
        theirs = np.flatnonzero(strata.gold == k)
        if len(theirs) >= _MIN_GOLD and len(mine) > 1:
            pairs = [(r[0][theirs], r[1][mine]) for r in residuals]
            scores[mine] = _match(gold[theirs], synthetic[mine], pairs, weights[mine])
    return from_scores(material, scores, floor)


def _standardised(vectors: Vectors) -> tuple[Floats, Floats]:
    """Centres and scales by target and synthetic alike, and adds a 1 for the head's bias."""
    target = [vectors.gold] + ([] if vectors.unlabelled is None else [vectors.unlabelled])
    sides = [np.concatenate(target).astype(np.float64), vectors.synthetic.astype(np.float64)]
    centre = (sides[0].mean(axis=0) + sides[1].mean(axis=0)) / 2
    spread = np.sqrt(np.mean([((side - centre) ** 2).mean() for side in sides]))
    out = []
    for side in (vectors.gold, vectors.synthetic):
        scaled = (side - centre) / max(float(spread) * np.sqrt(side.shape[1]), 1e-12)
        out.append(np.hstack([scaled, np.ones((len(side), 1))]))
    return out[0], out[1]


def _residuals(
    gold: Floats, synthetic: Floats, gold_labels: Ints, labels: Ints, k: int
) -> list[tuple[Floats, Floats]]:
    """Softmax − one-hot of gold (m, K) and synthetic (n, K), for each of the heads."""
    from sklearn.linear_model import LogisticRegression

    heads: list[tuple[Floats, Floats]] = [
        (np.full((len(gold), k), 1.0 / k), np.full((len(synthetic), k), 1.0 / k))
    ]
    present = np.unique(gold_labels)
    if len(present) > 1:
        model = LogisticRegression(C=_PENALTY * k, class_weight="balanced", max_iter=300)
        model.fit(gold[:, :-1], gold_labels)
        both = []
        for side in (gold, synthetic):
            logits = np.full((len(side), k), -np.inf)
            found = model.decision_function(side[:, :-1])
            logits[:, present] = found if found.ndim > 1 else np.stack([-found, found], 1) / 2
            both.append(special.softmax(logits, axis=1))
        heads.append((both[0], both[1]))
    hot = np.eye(k)
    return [(g - hot[gold_labels], s - hot[labels]) for g, s in heads]


def _match(
    gold: Floats, synthetic: Floats, residuals: list[tuple[Floats, Floats]], weights: Floats
) -> Floats:
    """Frank-Wolfe on one label; ``residuals`` holds (gold, synthetic) for each head."""
    base = weights / weights.sum()
    goals = [r.T @ gold / len(gold) for r, _ in residuals]
    scatter = sum(float(((r**2).sum(1) * (gold**2).sum(1)).mean()) for r, _ in residuals)
    enough = max(scatter - sum(float((g**2).sum()) for g in goals), 0.0) / len(gold)
    mass = base.copy()

    def mean(of: Floats) -> list[Floats]:
        return [r.T @ (of[:, None] * synthetic) for _, r in residuals]

    now = mean(mass)
    for _ in range(_STEPS):
        gaps = [a - g for a, g in zip(now, goals, strict=True)]
        if sum(float((gap**2).sum()) for gap in gaps) <= enough:
            break
        slope = sum(
            np.einsum("ik,ik->i", r, synthetic @ gap.T)
            for (_, r), gap in zip(residuals, gaps, strict=True)
        )
        vertex = _vertex(np.asarray(slope), base)
        towards = mean(vertex)
        moves = [t - a for t, a in zip(towards, now, strict=True)]
        length = sum(float((move**2).sum()) for move in moves)
        gain = -sum(float((gap * move).sum()) for gap, move in zip(gaps, moves, strict=True))
        step = min(1.0, gain / length) if length > 0 else 0.0
        if step <= 1e-6:
            break
        mass = (1 - step) * mass + step * vertex
        now = [a + step * move for a, move in zip(now, moves, strict=True)]
    return np.asarray(np.log(np.maximum(mass / base, _LEAST)), dtype=np.float64)


def _vertex(slope: Floats, base: Floats) -> Floats:
    """The point of {0 ≤ w ≤ B·base, Σw = 1} with the least slope·w."""
    order = np.argsort(slope, kind="stable")
    room = _BOUND * base[order]
    before = np.concatenate([[0.0], np.cumsum(room)[:-1]])
    out = np.empty(len(base))
    out[order] = np.clip(1.0 - before, 0.0, room)
    return out
