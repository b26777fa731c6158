"""Draws rows by their weights: the alternative to training with weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from japagen.alignment.counting import Floats, Mask
from japagen.errors import JapagenError
from japagen.examples import Dataset, Rejection


def drawn_rows(ids: Sequence[str], weights: Floats, n: int, seed: int = 0) -> Mask:
    """Draws ``n`` rows without replacement, with chances that follow the weights.

    The alternative to training with weights, never both: drawing by weights and then weighting
    what was drawn corrects twice. Adds Gumbel noise to log weights and keeps the n largest
    (Vieira 2014, Gumbel-max trick; Kool, van Hoof & Welling 2019). The more of the rows are
    drawn, the less the weights say: all rows drawn is no weighting at all.

    Args:
        ids: The rows' ids; chance is tied to them and not to the order.
        weights: Shape (len(ids),), at least 0; rows of weight 0 are never drawn.
        n: How many to draw.
        seed: The same seed draws the same ids whatever the order of rows.

    Returns:
        Which rows were drawn, shape (len(ids),).

    Raises:
        JapagenError: If fewer than ``n`` rows have weight, or the shapes differ.
    """
    if len(weights) != len(ids):
        raise JapagenError(
            f"Expected {len(ids)} weights, found {len(weights)}.",
            "Pass the weights of the alignment of this very dataset.",
        )
    positive = int((weights > 0).sum())
    if not 0 <= n <= positive:
        raise JapagenError(
            f"Expected to draw between 0 and {positive} rows, the rows with weight; found {n}.",
            "Draw fewer rows.",
        )
    by_id = np.argsort(np.array(ids, dtype=object), kind="stable")
    noise = np.empty(len(ids))
    noise[by_id] = np.random.default_rng(seed).gumbel(size=len(ids))
    keys = np.where(weights > 0, np.log(np.maximum(weights, 1e-300)) + noise, -np.inf)
    drawn = np.zeros(len(ids), dtype=bool)
    drawn[np.argsort(-keys, kind="stable")[:n]] = True
    return drawn


def keep_drawn(dataset: Dataset, weights: Floats) -> Dataset:
    """Rejects the kept rows that were not drawn, and gives those drawn a weight of 1.

    Args:
        dataset: Rows, some of them rejected already.
        weights: Shape (len(dataset),): above 0 for rows that were drawn.
    """
    n = int((weights > 0).sum())
    detail = f"{n} of {int(dataset.kept_mask.sum())} texts were drawn by weight"
    left = Rejection("not_drawn", 0.0, float(n), detail)
    rejections = [
        old if old else None if weight > 0 else left
        for old, weight in zip(dataset.rejections, weights, strict=True)
    ]
    return dataset.with_rejections(rejections).with_columns(
        weight_distribution=(weights > 0).astype(np.float64)
    )
