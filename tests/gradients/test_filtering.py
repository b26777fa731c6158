from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from japagen.gradients.filtering import keep_best


def test_disputed_labels_go_and_the_lowest_losses_stay() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    posterior = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9], [0.4, 0.6], [0.3, 0.7]])
    losses = np.array([0.5, 0.1, 0.4, 0.3, 0.2, 0.9])
    assert keep_best(labels, posterior, losses, 1).tolist() == [2, 4]
    # Two of the first label are left, so that no more than two of the second are kept.
    assert keep_best(labels, posterior, losses, 3).tolist() == [0, 2, 3, 4]


@given(st.integers(0, 30), st.integers(1, 5), st.integers(0, 99))
def test_labels_stay_balanced(n: int, per_label: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, losses = rng.integers(3, size=n), rng.random(n)
    kept = keep_best(labels, rng.random((n, 3)), losses, per_label)
    counts = np.bincount(labels[kept], minlength=3)
    assert counts.max(initial=0) <= per_label
    assert len(set(counts[counts > 0].tolist())) <= 1
