"""What every weighting method is given: features, labels and the target's shares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from japagen.alignment.counting import Floats, Ints
from japagen.alignment.entropy import rows_of
from japagen.alignment.features import AlignedTexts
from japagen.alignment.strata import Strata
from japagen.data.summary import LabelPrior


@dataclass(frozen=True)
class Material:
    """Everything that weights may depend on; rows are in the order of their ids.

    Attributes:
        positions: Shape (n,): where each row stands in the synthetic dataset.
        texts: Counts and features of synthetic (n), gold (m) and unlabelled (u) texts; None
            without target texts or rows.
        strata: Labels of synthetic and gold.
        prior: The target's label shares.
        shares: Shape (K,): share of each stratum to reach.
        base: Shape (n,): weights before alignment.
        seed: Of everything random.
    """

    positions: Ints
    texts: AlignedTexts | None
    strata: Strata
    prior: LabelPrior
    shares: Floats
    base: Floats
    seed: int

    @cached_property
    def rows(self) -> list[Ints]:
        """The rows of each stratum, as of `rows_of`."""
        return rows_of(self.strata.synthetic, self.shares)

    @property
    def lengths(self) -> list[Floats]:
        """Characters of each synthetic, gold and unlabelled text; 0 without target texts."""
        if self.texts is None:
            return [np.zeros(len(self.base)), np.zeros(len(self.strata.gold)), np.zeros(0)]
        return [part.first.lengths for part in self.texts.measured]

    def normalized(self, scores: Floats) -> Floats:
        """Base weights times the tilt, with each stratum brought to its share; mean 1."""
        tilted = np.zeros(len(scores))
        for mine in self.rows:
            if len(mine):
                tilted[mine] = self.base[mine] * np.exp(scores[mine] - scores[mine].max())
        total = np.bincount(self.strata.synthetic, weights=tilted, minlength=len(self.shares))
        scale: Floats = len(scores) * self.shares / np.maximum(total, 1e-300)
        return np.asarray(tilted * scale[self.strata.synthetic], dtype=np.float64)
