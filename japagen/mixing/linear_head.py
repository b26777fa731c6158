"""A linear classifier on frozen vectors, weighted as the fine-tuning is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

# Inverse penalty of the head, as scikit-learn's C times the number of features. At a tenth of it
# gold alone is underfitted, and any added text seems to help by fitting harder alone.
_STRENGTH = 10.0

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Fits to vectors, their targets and their weights in gold texts, and gives the probabilities of
# other vectors.
FitHead = Callable[[Floats, Ints, Floats, Floats], Floats]


def head_probabilities(
    vectors: Floats, targets: Ints, mass: Floats, others: Floats, labels: int
) -> Floats:
    """Fits multinomial logistic regression and classifies other vectors.

    The features are standardised and the penalty divided by their number: its pull is then
    alike for narrow and wide encoders.

    Args:
        vectors: Shape (n, d).
        targets: Shape (n,): label indices.
        mass: Shape (n,): weight of each row, at least 0; rows of 0 are left out.
        others: Shape (m, d): what to classify.
        labels: Number of labels.

    Returns:
        Shape (m, labels); a label without rows has probability 0.
    """
    from sklearn.linear_model import LogisticRegression

    present = mass > 0
    vectors, targets, mass = vectors[present], targets[present], mass[present]
    out = np.zeros((len(others), labels))
    seen = np.unique(targets)
    if not len(others):
        return out
    if len(seen) < 2:
        out[:, seen] = 1.0
        return out
    centre = np.average(vectors, axis=0, weights=mass)
    scale = np.sqrt(np.average((vectors - centre) ** 2, axis=0, weights=mass)) + 1e-6
    head = LogisticRegression(C=_STRENGTH / vectors.shape[1], max_iter=500)
    head.fit((vectors - centre) / scale, targets, sample_weight=mass)
    out[:, head.classes_] = head.predict_proba((others - centre) / scale)
    return out
