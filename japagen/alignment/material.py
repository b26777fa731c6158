"""What every weighting method is given: features, labels, the target's shares, vectors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from japagen.alignment.counting import Floats, Ints
from japagen.alignment.features import AlignedTexts, NGrams
from japagen.alignment.strata import Strata
from japagen.data.summary import LabelPrior


@dataclass(frozen=True)
class Vectors:
    """Frozen encoder vectors of each text, in the order of the rows.

    Attributes:
        gold: Shape (m, d).
        synthetic: Shape (n, d).
        unlabelled: Shape (u, d), or None.
    """

    gold: Floats
    synthetic: Floats
    unlabelled: Floats | None = None


@dataclass(frozen=True)
class Material:
    """Everything that weights may depend on; rows are in the order of their ids.

    Attributes:
        features: Sparse features of synthetic (n, p), gold (m, p) and unlabelled (u, p).
        groups: Group of each of the p features.
        lengths: Characters of each text, for the same three.
        ngrams: Hashed n-grams of synthetic, and of gold and unlabelled together.
        strata: Labels of synthetic and gold.
        prior: The target's label shares.
        shares: Shape (K,): share of each stratum to reach.
        base: Shape (n,): weights before alignment.
        vectors: Encoder vectors, where the caller has them.
        seed: Of everything random.
    """

    features: tuple[sparse.csr_array, sparse.csr_array, sparse.csr_array]
    groups: tuple[str, ...]
    lengths: tuple[Floats, Floats, Floats]
    ngrams: NGrams
    strata: Strata
    prior: LabelPrior
    shares: Floats
    base: Floats
    vectors: Vectors | None
    seed: int
    rows: tuple[Ints, ...] = field(init=False)

    def __post_init__(self) -> None:
        # Strata without a share get no weight, whatever their rows look like.
        live = [
            np.flatnonzero(self.strata.synthetic == k) if share > 0 else np.empty(0, np.int64)
            for k, share in enumerate(self.shares)
        ]
        object.__setattr__(self, "rows", tuple(live))

    @classmethod
    def of(
        cls,
        texts: AlignedTexts | None,
        ngrams: NGrams,
        strata: Strata,
        prior: LabelPrior,
        shares: Floats,
        base: Floats,
        vectors: Vectors | None,
        seed: int,
    ) -> Material:
        """Without target texts there are no features, and only label shares can be met."""
        if texts is None:
            sizes = (len(base), len(strata.gold), 0)
            features = [sparse.csr_array((size, 0)) for size in sizes]
            lengths = [np.zeros(size) for size in sizes]
            groups: tuple[str, ...] = ()
        else:
            features, groups = texts.features, texts.space.groups
            lengths = [np.asarray(part.first.lengths) for part in texts.measured]
        return cls(
            (features[0], features[1], features[2]),
            groups,
            (lengths[0], lengths[1], lengths[2]),
            ngrams,
            strata,
            prior,
            shares,
            base,
            vectors,
            seed,
        )

    def normalized(self, scores: Floats) -> Floats:
        """Base weights times the tilt, with each stratum brought to its share; mean 1."""
        tilted = np.zeros(len(scores))
        for mine in self.rows:
            if len(mine):
                tilted[mine] = self.base[mine] * np.exp(scores[mine] - scores[mine].max())
        total = np.bincount(self.strata.synthetic, weights=tilted, minlength=len(self.shares))
        scale: Floats = len(scores) * self.shares / np.maximum(total, 1e-300)
        return np.asarray(tilted * scale[self.strata.synthetic], dtype=np.float64)
