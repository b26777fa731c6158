"""Draws rows by their weights: the alternative to training with weights."""

from __future__ import annotations

import numpy as np

from japagen.alignment.counting import Floats
from japagen.errors import JapagenError
from japagen.examples import Dataset


def resample(dataset: Dataset, weights: Floats, n: int, seed: int = 0) -> Dataset:
    """Draws ``n`` rows without replacement, with chances that follow the weights.

    The alternative to training with weights, never both: drawing by weights and then weighting
    what was drawn corrects twice, so the rows come back with a distribution weight of 1. Adds
    Gumbel noise to log weights and keeps the n largest (Vieira 2014, Gumbel-max trick;
    Kool, van Hoof & Welling 2019), in the dataset's order. The more of the rows are drawn, the
    less the weights say: all rows drawn is no weighting at all.

    Args:
        dataset: The rows.
        weights: Shape (len(dataset),), at least 0; rows of weight 0 are never drawn.
        n: How many to draw.
        seed: The same seed draws the same ids whatever the order of rows.

    Raises:
        JapagenError: If fewer than ``n`` rows have weight, or the shapes differ.
    """
    if len(weights) != len(dataset):
        raise JapagenError(
            f"Expected {len(dataset)} weights, found {len(weights)}.",
            "Pass the weights of the alignment of this very dataset.",
        )
    positive = int((weights > 0).sum())
    if not 0 <= n <= positive:
        raise JapagenError(
            f"Expected to draw between 0 and {positive} rows, the rows with weight; found {n}.",
            "Draw fewer rows.",
        )
    by_id = np.argsort(np.array(dataset.column("id"), dtype=object), kind="stable")
    noise = np.empty(len(dataset))
    noise[by_id] = np.random.default_rng(seed).gumbel(size=len(dataset))
    keys = np.where(weights > 0, np.log(np.maximum(weights, 1e-300)) + noise, -np.inf)
    drawn = dataset.take(np.sort(np.argsort(-keys, kind="stable")[:n]))
    return drawn.with_columns(weight_distribution=[1.0] * n)
