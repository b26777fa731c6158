"""Keeps the effective sample size: weights that are too uneven are tempered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from japagen.alignment.counting import Floats, Ints


def effective_share(weights: Floats) -> float:
    """Returns Kish's effective sample size (Σw)²/Σw² over the number of rows, 0 to 1."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares / len(weights) if squares > 0 else 0.0


def tempered(
    log_base: Floats, scores: Floats, rows: Sequence[Ints], floor: float
) -> tuple[Floats, Floats]:
    """Tempers the tilt of each stratum that breaks the floor.

    Its scores are multiplied by the largest factor in [0, 1] that keeps the floor, so that
    a tilt t becomes t^factor. Where base weights alone break it, the factor is 0.

    Args:
        log_base: Shape (n,): logarithm of the base weights.
        scores: Shape (n,): log tilt of each row.
        rows: Rows of each of K strata; those of an empty stratum are left alone.
        floor: Least effective share within each stratum, 0 to 1.

    Returns:
        The scores that keep the floor, shape (n,), and the factors, shape (K,).
    """
    kept = scores.copy()
    factors = np.ones(len(rows))
    for k, mine in enumerate(rows):
        if len(mine):
            factors[k] = _factor(log_base[mine], scores[mine], floor)
            kept[mine] *= factors[k]
    return kept, factors


def keeps_floor(log_base: Floats, scores: Floats, rows: Sequence[Ints], floor: float) -> bool:
    """True if every stratum has at least ``floor`` of its rows as effective sample."""
    return all(
        effective_share(_tilted(log_base[mine], scores[mine])) >= floor
        for mine in rows
        if len(mine)
    )


def _tilted(log_base: Floats, scores: Floats) -> Floats:
    tilted: Floats = special.softmax(log_base + scores)
    return tilted


def _factor(log_base: Floats, scores: Floats, floor: float) -> float:
    """Largest factor on the scores that keeps the floor, by bisection."""
    if effective_share(_tilted(log_base, scores)) >= floor:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        keeps = effective_share(_tilted(log_base, middle * scores)) >= floor
        low, high = (middle, high) if keeps else (low, middle)
    return low
