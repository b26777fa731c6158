r"""Chooses, for each label, the texts whose mean gradient is nearest to gold's.

With a text's gradients at all checkpoints in one vector aᵢ, each checkpoint divided by the length
of gold's goal there, and g gold's goals divided alike, two ways are offered.

``greedy`` adds, one text at a time, the one after which the *mean* is nearest to gold's:

    minimise  ‖ (s + aᵢ)/(t + 1) − g ‖² + λ · max_{j chosen} cos(hᵢ, hⱼ)

with s the sum over the t chosen so far; λ ≥ 0 keeps texts that say the same apart. All chosen
texts count alike.

``matching_pursuit`` is orthogonal matching pursuit with non-negative weights: it adds the text
that correlates most with what is left of g, then refits the weights of all chosen texts by
non-negative least squares with a ridge. The weights are returned, no larger than 5 times their
mean.

Only inner products are needed, and aᵢ·aⱼ = Σ_c (r_ci·r_cj)(hᵢ·hⱼ)/‖g_c‖².

Source: Nguyen et al. (2025), arXiv 2502.17607, for the objective; Killamsetty et al. (2021),
GRAD-MATCH, arXiv 2103.00123, for matching pursuit over training examples; Welling (2009), Herding
dynamical weights to learn, for the greedy mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from japagen.gradients.target import Floats, GradientTarget, Ints

Method = Literal["greedy", "matching_pursuit"]
_RIDGE = 0.1
_MOST = 5.0
_TINY = 1e-12


@dataclass(frozen=True)
class Choice:
    """Texts chosen.

    Attributes:
        rows: Indices of the chosen texts, in the order of choice within each label.
        weights: One for each, mean 1 within a label.
        cosines: Cosine of the chosen texts' weighted mean gradient with gold's, for each label;
            NaN for a label without gold or texts.
        gold_ids: For each chosen text, the ids of the gold that it was chosen by, where it was
            chosen by a part of gold; else none.
    """

    rows: Ints
    weights: Floats
    cosines: Floats
    gold_ids: tuple[tuple[str, ...], ...] = ()


def choose(
    target: GradientTarget,
    vectors: npt.NDArray[np.floating],
    labels: Ints,
    per_label: int,
    *,
    method: Method = "greedy",
    diversity: float = 0.0,
) -> Choice:
    """Chooses up to so many texts a label.

    Args:
        target: Gold's gradients.
        vectors: Encoder vectors of the texts, shape (n, d).
        labels: Their label indices, shape (n,).
        per_label: Texts wanted of each label; all of them where there are fewer.
        method: ``greedy`` or ``matching_pursuit``.
        diversity: What a text's likeness to those chosen costs ``greedy``, in squared distances
            where gold's own gradient has length 1 at each checkpoint, averaged over them.

    Returns:
        The choice; deterministic. A label without gold is chosen from by likeness alone: texts
        unlike those chosen come first.
    """
    features = target.scaling(vectors)
    residuals = target.residuals(features, labels)
    rows, weights = [], []
    cosines = np.full(len(target.counts), np.nan)
    for label in range(len(target.counts)):
        mine = np.flatnonzero(labels == label)
        if not len(mine):
            continue
        part = _Atoms.of(target, features[mine], residuals[:, mine], label)
        wanted = min(per_label, len(mine))
        if method == "greedy":
            chosen, mass = _greedy(part, wanted, diversity), np.ones(wanted)
        else:
            chosen, mass = _matching_pursuit(part, wanted)
        rows.append(mine[chosen])
        weights.append(mass)
        cosines[label] = part.cosine(chosen, mass)
    if not rows:
        return Choice(np.zeros(0, dtype=np.int64), np.zeros(0), cosines)
    return Choice(np.concatenate(rows), np.concatenate(weights), cosines)


@dataclass(frozen=True)
class _Atoms:
    """Inner products of one label's gradients, checkpoints averaged.

    Attributes:
        gram: aᵢ·aⱼ, shape (n, n).
        pull: aᵢ·g, shape (n,).
        goal: g·g: 1, or 0 without gold.
        likeness: Cosine of the texts' vectors, shape (n, n).
    """

    gram: Floats
    pull: Floats
    goal: float
    likeness: Floats

    @classmethod
    def of(cls, target: GradientTarget, features: Floats, residuals: Floats, label: int) -> _Atoms:
        products = features @ features.T
        goals = target.goals[:, label]
        lengths = np.sqrt((goals**2).sum(axis=(1, 2)))
        used = np.flatnonzero(lengths > _TINY)
        gram, pull = np.zeros(products.shape), np.zeros(len(features))
        for c in used:
            gram += (residuals[c] @ residuals[c].T) * products / lengths[c] ** 2
            pull += ((residuals[c] @ goals[c]) * features).sum(axis=1) / lengths[c] ** 2
        shift = features[:, :-1]
        shift = shift / np.maximum(np.linalg.norm(shift, axis=1, keepdims=True), _TINY)
        number = max(len(used), 1)
        return cls(gram / number, pull / number, float(len(used) > 0), shift @ shift.T)

    def cosine(self, chosen: Ints, mass: Floats) -> float:
        length = float(mass @ self.gram[np.ix_(chosen, chosen)] @ mass) * self.goal
        return float(mass @ self.pull[chosen]) / np.sqrt(length) if length > _TINY else np.nan


def _greedy(atoms: _Atoms, wanted: int, diversity: float) -> Ints:
    own = np.diag(atoms.gram)
    # Of the sum so far: its inner product with every text, and its squared length.
    with_sum, length = np.zeros(len(own)), 0.0
    nearest = np.full(len(own), -1.0)
    free = np.ones(len(own), dtype=bool)
    chosen: list[int] = []
    for step in range(1, wanted + 1):
        distance = (length + 2 * with_sum + own) / step**2 - 2 * atoms.pull / step
        cost = np.where(free, distance + diversity * nearest, np.inf)
        best = int(cost.argmin())
        chosen.append(best)
        free[best] = False
        length += 2 * with_sum[best] + own[best]
        with_sum = with_sum + atoms.gram[best]
        nearest = np.maximum(nearest, atoms.likeness[best])
    return np.array(chosen, dtype=np.int64)


def _matching_pursuit(atoms: _Atoms, wanted: int) -> tuple[Ints, Floats]:
    from scipy.optimize import nnls

    lengths = np.sqrt(np.maximum(np.diag(atoms.gram), _TINY))
    chosen: list[int] = []
    mass = np.zeros(0)
    ridge = _RIDGE * float(np.median(lengths) ** 2)
    for _ in range(wanted):
        left = atoms.pull - atoms.gram[:, chosen] @ mass
        left = left / lengths
        left[chosen] = -np.inf
        chosen.append(int(left.argmax()))
        gram = atoms.gram[np.ix_(chosen, chosen)] + ridge * np.eye(len(chosen))
        # Of ‖A w − g‖² only A'A and A'g are known: any root of A'A serves as A.
        root = np.linalg.cholesky(gram).T
        mass = nnls(root, np.linalg.solve(root.T, atoms.pull[chosen]))[0]
    total = mass.sum()
    mass = mass * (len(mass) / total) if total > _TINY else np.ones(len(mass))
    mass = np.minimum(mass, _MOST)
    return np.array(chosen, dtype=np.int64), mass * (len(mass) / mass.sum())
