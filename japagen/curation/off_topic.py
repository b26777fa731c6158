"""Texts that are about something else than gold is, by their distance in vector space."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_FARTHEST = 0.05
"""A text is off topic where it is farther from gold than all but this share of gold itself."""


def find_off_topic(gold: npt.ArrayLike, texts: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Finds texts that no gold text is as near to as gold texts are to each other.

    Args:
        gold: Encoder vectors, shape (n, d).
        texts: Encoder vectors, shape (m, d).

    Returns:
        Shape (m,). Nothing is off topic where there are fewer than two gold texts.
    """
    own, others = _unit(gold), _unit(texts)
    if len(own) < 2:
        return np.zeros(len(others), dtype=bool)
    among = own @ own.T
    np.fill_diagonal(among, -np.inf)
    least = float(np.quantile(among.max(axis=1), _FARTHEST))
    nearest = (others @ own.T).max(axis=1)
    return np.asarray(nearest < least, dtype=bool)


def _unit(vectors: npt.ArrayLike) -> Floats:
    values = np.asarray(vectors, dtype=np.float64)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))
