"""Weighting methods, and what holds for all of them.

Label shares are met first and exactly; a method then moves weight within labels, and where it
would leave a label less than the floor of effective sample size, its tilt is tempered.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from japagen.alignment.counting import Floats
from japagen.alignment.entropy import Balance, Problem, balance, tempered
from japagen.alignment.material import Material
from japagen.alignment.moments import add_label_rates, build_problem, build_target


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
