"""Keeps of changed or synthesised texts those worth training on."""

from __future__ import annotations

import numpy as np

from japagen.gradients.target import Floats, Ints


def keep_best(labels: Ints, posterior: Floats, losses: Floats, per_label: int) -> Ints:
    """Drops texts whose label is disputed, and keeps the rest's lowest losses, as many of each.

    Args:
        labels: Label indices, shape (n,).
        posterior: What classifiers that have seen gold alone make of each text, shape
            (n, labels); a label is disputed where it is not the likeliest.
        losses: Of each text with its label, shape (n,).
        per_label: Most texts of a label; fewer where a label with texts has fewer left, so
            that labels stay balanced. A label of which nothing is left is left out.

    Returns:
        Rows, in rising order. GRADMM's three filters (Nguyen et al. 2025, arXiv 2502.17607).
    """
    agreed = posterior.argmax(axis=1) == labels
    left = [np.flatnonzero(agreed & (labels == label)) for label in np.unique(labels)]
    left = [rows for rows in left if len(rows)]
    number = min([per_label, *(len(rows) for rows in left)])
    kept = [rows[np.argsort(losses[rows], kind="stable")[:number]] for rows in left]
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, dtype=np.int64)
