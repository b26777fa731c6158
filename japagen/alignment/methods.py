"""Weighting methods, and what holds for all of them.

Label shares are met first and exactly; a method then moves weight within labels, and where it
would leave a label less than the floor of effective sample size, its tilt is tempered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from japagen.alignment.counting import Floats, Ints
from japagen.alignment.entropy import Balance, Problem, balance, rows_of, tempered
from japagen.alignment.features import AlignedTexts
from japagen.alignment.moments import add_label_rates, build_problem, build_target
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
    if strata.kind == "list":
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
    if material.strata.kind == "list":
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
