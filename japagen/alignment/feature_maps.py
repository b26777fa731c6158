"""Dense, low-rank views of the alignment features."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from japagen.alignment.comparison import Side
from japagen.alignment.counting import Floats


def balanced(source: Side, target: Side) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Scales features so that each group (words, endings, lengths, …) has a variance of 1 in all.

    As they are, a distance between texts would be the words' alone: there are hundreds of them,
    while the shares of parts of speech hardly vary.

    Args:
        source: Side with features of shape (n, p).
        target: Side with features of shape (m, p).
    """
    spread = np.zeros(source.features.shape[1])
    for side in (source, target):
        mean = side.features.T @ side.share
        square = (side.features * side.features).T @ side.share
        spread += np.maximum(square - mean**2, 0.0) / 2
    groups = np.array(source.groups)
    scale = np.zeros(len(spread))
    for group in np.unique(groups):
        mine = groups == group
        total = float(spread[mine].sum())
        scale[mine] = 1.0 / np.sqrt(total) if total > 1e-12 else 0.0
    diagonal = sparse.diags_array(scale)
    return tuple(sparse.csr_array(side.features @ diagonal) for side in (source, target))


def draw(side: Side, limit: int, rng: np.random.Generator) -> Floats:
    """At most ``limit`` positions, drawn by weight, without replacement, in order."""
    positive = int((side.weights > 0).sum())
    drawn = rng.choice(len(side), min(limit, positive), replace=False, p=side.share)
    return np.sort(drawn)
