"""Keeps alignment weights from doing harm: pulled half way, within bounds, never for the off-topic.

Entropy balancing lifts what has the words that are too rare, and those are also the words of texts
about something else. Against 16 or 64 gold texts that is a bad bargain: on texts of a strong LLM,
full weights cost the classifier up to .014 macro-F1 and never brought more than .003
(docs/measures.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

Floats = npt.NDArray[np.float64]

_MOST = 2.0
"""No text weighs more than this, or less than its inverse, beside the others of its label."""


def bound_weights(
    weights: Floats,
    labels: Sequence[str],
    *,
    strength: float,
    off_topic: npt.NDArray[np.bool_] | None = None,
) -> Floats:
    """Softens weights within each label, whose total stays what it was.

    Args:
        weights: At least 0, shape (n,).
        labels: Of each row, shape (n,).
        strength: Power that weights are raised to: 0 makes them even, 1 leaves them as they are.
        off_topic: Rows that shall not weigh more than their label's mean, shape (n,).

    Returns:
        Shape (n,), with 0 where the weight was 0.
    """
    out = np.zeros(len(weights))
    names = np.array(labels, dtype=object)
    for name in dict.fromkeys(labels):
        rows = np.flatnonzero((names == name) & (weights > 0))
        if not len(rows):
            continue
        mean = weights[rows].mean()
        most = np.full(len(rows), _MOST)
        if off_topic is not None:
            most[off_topic[rows]] = 1.0
        out[rows] = mean * _bounded((weights[rows] / mean) ** strength, most)
    return out


def _bounded(soft: Floats, most: Floats) -> Floats:
    """Brings the mean back to 1 by a factor under which the bounds hold all the same."""
    clipped = np.clip(soft, 1 / _MOST, most)

    def scaled(factor: float) -> Floats:
        return np.asarray(np.clip(clipped * factor, 1 / _MOST, most))

    # The ends put every text at its lower bound, mean below 1, and at its upper one, at least 1.
    found = brentq(lambda factor: scaled(factor).mean() - 1, 1 / _MOST**2, _MOST**2)
    return scaled(found)
