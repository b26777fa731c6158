"""Weighting methods, whose averages they meet, and how exactly these are known.

Label shares are met first and exactly; a method then moves weight within labels, and where it
would leave a label less than the floor of effective sample size, its tilt is tempered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from japagen.alignment.entropy import Balance, Moments, Problem, balance, rows_of, tempered
from japagen.alignment.features import AlignedTexts
from japagen.alignment.strata import Strata
from japagen.data.labels import Floats, Ints
from japagen.data.summary import LabelPrior

_MIN_WITHIN = 4
# How exactly a label rate given by the user is met.
_GIVEN_RATE_ERROR = 0.01


@dataclass(frozen=True)
class Target:
    """The texts to resemble.

    Attributes:
        gold: Sparse (m, p): features of gold.
        unlabelled: Sparse (u, p): features of unlabelled text.
        weights: Shape (m + u,): weight of each gold text after its labels are brought to the target
            shares, all 0 where gold cannot stand for the target as a whole, and 1 for each
            unlabelled one. Those of gold sum to their effective number.
    """

    gold: sparse.csr_array
    unlabelled: sparse.csr_array
    weights: Floats


def target_shares(strata: Strata, prior: LabelPrior, base: Floats) -> Floats:
    """Share of each stratum to reach, shape (K,).

    Strata without synthetic rows get 0 and the others are scaled up: what is not there cannot
    be weighted.

    Args:
        strata: Labels of synthetic and gold.
        prior: The target's shares; where it has none, synthetic shares under ``base`` stay.
        base: Shape (n,): weights before alignment.
    """
    current = np.bincount(strata.synthetic, weights=base, minlength=len(strata.names))
    return shares_from(current.astype(np.float64), strata, prior)


def shares_from(current: Floats, strata: Strata, prior: LabelPrior) -> Floats:
    """As `target_shares`, of the weight that each stratum has before alignment, shape (K,)."""
    if prior.probabilities is None or strata.kind == "multi_label":
        return current / max(float(current.sum()), 1e-300)
    shares = np.array([prior.probabilities[n] for n in strata.names])
    shares = np.where(current > 0, shares, 0.0)
    total = float(shares.sum())
    return shares / total if total > 0 else current / float(current.sum())


def build_target(
    gold: sparse.csr_array, unlabelled: sparse.csr_array, strata: Strata, shares: Floats
) -> Target:
    """Brings gold to the target shares.

    Gold stands for the whole target only where every label with a share has gold texts.

    Args:
        gold: Sparse (m, p).
        unlabelled: Sparse (u, p).
        strata: Labels of synthetic and gold.
        shares: Shape (K,): the shares to bring gold to.
    """
    counts = np.bincount(strata.gold, minlength=len(strata.names))
    weights = np.zeros(len(strata.gold))
    if len(weights) and not np.any((shares > 0) & (counts == 0)):
        weights = (shares / np.maximum(counts, 1))[strata.gold]
    effective = float(weights.sum()) ** 2 / max(float((weights**2).sum()), 1e-300)
    weights = weights / max(float(weights.sum()), 1e-300) * effective
    return Target(gold, unlabelled, np.concatenate([weights, np.ones(unlabelled.shape[0])]))


def build_problem(
    source: sparse.csr_array,
    groups: Sequence[str],
    target: Target,
    strata: Strata,
    shares: Floats,
    base: Floats,
) -> Problem:
    """Puts the two blocks of moments together.

    Within each label: gold of that label, from 4 texts on. Marginal: gold brought to the target
    shares and the unlabelled texts, each counting as one text.

    Args:
        source: Sparse (n, p): features of the synthetic rows.
        groups: Group of each feature.
        target: The texts to resemble.
        strata: Labels of synthetic and gold.
        shares: Shape (K,): shares to reach, 0 for labels without synthetic rows.
        base: Shape (n,): weights to stay close to.
    """
    together = sparse.vstack([target.gold, target.unlabelled], format="csr")
    within = []
    for k in range(len(strata.names)):
        rows = target.gold[np.flatnonzero(strata.gold == k)]
        if rows.shape[0] >= _MIN_WITHIN:
            mine = source[np.flatnonzero(strata.synthetic == k)]
            within.append((k, _moments(rows, np.ones(rows.shape[0]), mine)))
    marginal = None
    if target.weights.sum() >= _MIN_WITHIN - 1e-9:
        marginal = _moments(together, target.weights, source)
    slack = universal_slack(groups)
    return Problem(source, slack, strata.synthetic, shares, base, marginal, tuple(within))


def universal_slack(groups: Sequence[str]) -> Floats:
    """Standard errors that the largest of a group's features is off by chance alone.

    √(2 ln p) for p features, the universal threshold of Donoho & Johnstone (1994): of 400 words
    one will be 3.5 standard errors off where nothing is wrong, of 6 length bands none more than
    1.9. At least 1. Shape (len(groups),).
    """
    size = Counter(groups)
    return np.array([max(1.0, np.sqrt(2.0 * np.log(size[group]))) for group in groups])


def add_label_rates(problem: Problem, strata: Strata, prior: LabelPrior) -> Problem:
    """Adds the rate of each label as a moment, for lists of labels.

    Args:
        problem: The problem over texts alone, one stratum.
        strata: Indicators of each label.
        prior: The rates to reach, with one entry per label.
    """
    if prior.probabilities is None:
        return problem
    rates = np.array([prior.probabilities[tag] for tag in strata.tags])
    deviation = np.sqrt(np.maximum(rates * (1 - rates), 1e-3))
    size = float(len(strata.gold))
    if prior.how == "given":
        size = float(np.mean(deviation**2)) / _GIVEN_RATE_ERROR**2
    p, tags = problem.features.shape[1], len(strata.tags)
    labels = Moments(
        np.concatenate([np.zeros(p), rates]),
        np.concatenate([np.zeros(p), deviation]),
        size,
    )
    indicators = sparse.csr_array(strata.synthetic_tags)
    return replace(
        problem,
        features=sparse.csr_array(sparse.hstack([problem.features, indicators])),
        slack=np.concatenate([problem.slack, np.ones(tags)]),
        marginal=problem.marginal and _padded(problem.marginal, tags),
        within=(*((k, _padded(m, tags)) for k, m in problem.within), (0, labels)),
    )


def _padded(moments: Moments, columns: int) -> Moments:
    return Moments(
        np.concatenate([moments.mean, np.zeros(columns)]),
        np.concatenate([moments.deviation, np.zeros(columns)]),
        moments.size,
    )


def _moments(rows: sparse.csr_array, weights: Floats, source: sparse.csr_array) -> Moments:
    """Target means, with the larger of the target's own and the two sides' common deviation.

    A word that none of 16 gold texts has would otherwise have no tolerance, although its absence
    may be chance: the common deviation is that of a score test's null hypothesis.
    """
    size = float(weights.sum())
    mean, variance = _mean_and_variance(rows, weights / size)
    n = source.shape[0]
    if n:
        other_mean, other_variance = _mean_and_variance(source, np.full(n, 1.0 / n))
        common = (variance + other_variance) / 2 + ((mean - other_mean) / 2) ** 2
        variance = np.maximum(variance, common)
    return Moments(mean, np.sqrt(variance), size)


def _mean_and_variance(rows: sparse.csr_array, share: Floats) -> tuple[Floats, Floats]:
    mean = rows.T @ share
    return mean, np.maximum((rows * rows).T @ share - mean**2, 0.0)


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

    @property
    def lengths(self) -> list[Floats]:
        """Characters of each synthetic, gold and unlabelled text; 0 without target texts."""
        if self.texts is None:
            return [np.zeros(len(self.base)), np.zeros(len(self.strata.gold)), np.zeros(0)]
        return [part.first.lengths for part in self.texts.measured]

    @cached_property
    def rows(self) -> list[Ints]:
        """The rows of each stratum, as of `rows_of`."""
        return rows_of(self.strata.synthetic, self.shares)

    def normalized(self, scores: Floats) -> Floats:
        """Base weights times the tilt, with each stratum brought to its share; mean 1."""
        tilted = np.zeros(len(scores))
        for mine in self.rows:
            if len(mine):
                tilted[mine] = self.base[mine] * np.exp(scores[mine] - scores[mine].max())
        total = np.bincount(self.strata.synthetic, weights=tilted, minlength=len(self.shares))
        scale: Floats = len(scores) * self.shares / np.maximum(total, 1e-300)
        return np.asarray(tilted * scale[self.strata.synthetic], dtype=np.float64)


def entropy(material: Material, floor: float) -> Balance:
    """Entropy balancing of all that is known of the target, with tolerance."""
    strata, shares, base = material.strata, material.shares, material.base
    if material.texts is None:
        problem = _no_features(material)
    else:
        source, gold, unlabelled = material.texts.features
        target = build_target(gold, unlabelled, strata, shares)
        groups = material.texts.space.groups
        problem = build_problem(source, groups, target, strata, shares, base)
    if strata.kind == "multi_label":
        problem = add_label_rates(problem, strata, material.prior)
    return balance(problem, floor)


def labels(material: Material, floor: float) -> Balance:
    """Label shares alone: nothing is tilted within labels."""
    return from_scores(material, np.zeros(len(material.base)), floor)


def from_scores(material: Material, scores: Floats, floor: float) -> Balance:
    """The result of a method that gives each row a log tilt.

    Args:
        material: What was weighted.
        scores: Shape (n,): log tilts; the rates of a list's labels, which no stratum fixes, are
            brought back in them. `Balance.tilts` has those of rates alone.
        floor: Least effective sample size within each label, as a share of its rows, 0 to 1.
    """
    tilts = np.zeros((len(material.shares), 0))
    if material.strata.kind == "multi_label":
        base = material.base * np.exp(scores - scores.max())
        problem = replace(_no_features(material), base=base)
        restored = balance(add_label_rates(problem, material.strata, material.prior), 0.0)
        scores, tilts = scores + restored.scores, restored.tilts
    log_base = np.log(np.maximum(material.base, 1e-300))
    kept, temper = tempered(log_base, scores, material.rows, floor)
    return Balance(kept, temper, tilts=tilts * temper[:, None])


def _no_features(material: Material) -> Problem:
    nothing = sparse.csr_array((len(material.base), 0))
    strata = material.strata.synthetic
    return Problem(nothing, np.empty(0), strata, material.shares, material.base, None, ())
