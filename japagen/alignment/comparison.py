"""What every weighting method is given, and the order in which it is asked.

A method turns a comparison of two weighted samples, source and target, into a log tilt for each
source row. It is asked twice: first about the whole, where source already has the target's label
shares, so that no word has to stand in for a label; then about each label by itself against the
gold of that label, starting from the weights of the first step. Label shares are restored after
both, so a method can only move weight within a label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from scipy import sparse

from japagen.alignment.counting import Floats, Ints
from japagen.alignment.ngrams import NGrams
from japagen.alignment.prior import LabelPrior
from japagen.alignment.problem import build_target
from japagen.alignment.strata import Strata
from japagen.alignment.texts import AlignedTexts

# Fewer gold texts of a label say less about its words than they cost in noise.
MIN_TARGET = 8
# e⁸ times the weight of another row is no answer, and infinities must not reach the floor.
_LIMIT = 8.0


@dataclass(frozen=True)
class Side:
    """One of the two weighted samples of a comparison.

    Attributes:
        lengths: Shape (n,): characters of each text.
        weights: Shape (n,), at least 0, not all 0.
        rows: Shape (n,): where these texts stand in their dataset.
        part: 0 for synthetic, 1 for gold and unlabelled together.
        ngrams: Counts of n-grams, made when first asked for.
    """

    lengths: Floats
    weights: Floats
    rows: Ints
    part: int
    ngrams: NGrams

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def share(self) -> Floats:
        """Shape (n,): the weights, scaled to sum to 1."""
        return np.asarray(self.weights / self.weights.sum(), dtype=np.float64)

    @property
    def size(self) -> float:
        """Effective number of texts."""
        return 1.0 / float((self.share**2).sum())

    @property
    def counts(self) -> sparse.csr_array:
        """Sparse (n, buckets): hashed n-grams of words."""
        return self.ngrams.counts[self.part][self.rows]


Tilt: TypeAlias = Callable[[Side, Side, np.random.Generator], Floats]


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

    def source(self, rows: Ints, weights: Floats) -> Side:
        """The synthetic texts ``rows`` with their ``weights``."""
        return Side(
            self.lengths[0][rows],
            weights,
            rows,
            0,
            self.ngrams,
        )

    def target(self, weights: Floats) -> Side:
        """Gold and unlabelled texts with weight; ``weights`` has shape (m + u,)."""
        live = np.flatnonzero(weights > 0)
        return Side(
            np.concatenate(self.lengths[1:])[live],
            weights[live],
            live,
            1,
            self.ngrams,
        )


def in_two_steps(material: Material, tilt: Tilt) -> Floats:
    """Asks a method about the whole and then about each label.

    Args:
        material: What to weight against what.
        tilt: The method.

    Returns:
        Log tilt of each synthetic row, shape (n,), finite, not yet tempered.
    """
    scores = np.zeros(len(material.base))
    m, u = (part.shape[0] for part in material.features[1:])
    if not material.groups:
        return scores
    goal = build_target(
        material.features[1], material.features[2], material.strata, material.shares
    )
    live = np.concatenate([*material.rows])
    live.sort()
    if goal.size >= MIN_TARGET and len(live) > 1:
        source = material.source(live, material.normalized(scores)[live])
        rng = np.random.default_rng(material.seed)
        scores[live] = _bounded(tilt(source, material.target(goal.weights), rng))
    for k, mine in enumerate(material.rows):
        gold = np.concatenate([material.strata.gold == k, np.zeros(u, bool)]).astype(np.float64)
        # With one stratum and nothing but gold the first step has said it all.
        if gold.sum() < MIN_TARGET or len(mine) < 2 or (gold.sum() == m and not u):
            continue
        source = material.source(mine, material.normalized(scores)[mine])
        rng = np.random.default_rng([material.seed, k])
        scores[mine] = _bounded(scores[mine] + tilt(source, material.target(gold), rng))
    return scores


def _bounded(scores: Floats) -> Floats:
    centred = scores - np.median(scores)
    return np.clip(centred, -_LIMIT, _LIMIT)
