"""The weighting methods by name, and what holds for all of them.

Label shares are met first and exactly; a method then moves weight within labels, and where it
would leave a label less than the floor of effective sample size, its tilt is tempered.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from japagen.alignment.counting import Floats
from japagen.alignment.dsir import dsir_scores
from japagen.alignment.entropy import Balance, Problem, balance
from japagen.alignment.floors import tempered
from japagen.alignment.gradient_matching import gradient_scores
from japagen.alignment.material import Material
from japagen.alignment.problem import add_label_rates, build_problem, build_target

METHODS = ("entropy", "dsir", "gradient_matching", "labels", "none")


def weigh(material: Material, method: str, floor: float) -> Balance:
    """Finds each row's log tilt by one method, within the floor.

    Args:
        material: What to weight against what.
        method: One of `METHODS` but "none".
        floor: Least effective sample size within each label, as a share of its rows, 0 to 1.

    Raises:
        JapagenError: If the method needs encoder vectors and there are none.
    """
    if method == "entropy":
        return balance(_problem(material), floor)
    if method == "labels":
        scores = np.zeros(len(material.base))
    elif method == "gradient_matching":
        scores = gradient_scores(material)
    else:
        scores = dsir_scores(material)
    if material.strata.kind == "list":
        scores = scores + _rates_restored(material, scores)
    log_base = np.log(np.maximum(material.base, 1e-300))
    return Balance(*tempered(log_base, scores, material.rows, floor))


def _problem(material: Material) -> Problem:
    """Entropy balancing of everything that is known of the target."""
    strata, shares, base = material.strata, material.shares, material.base
    if material.groups:
        source, gold, unlabelled = material.features
        target = build_target(gold, unlabelled, strata, shares)
        problem = build_problem(source, material.groups, target, strata, shares, base)
    else:
        problem = _no_features(material, base)
    return add_label_rates(problem, strata, material.prior) if strata.kind == "list" else problem


def _rates_restored(material: Material, scores: Floats) -> Floats:
    """What brings the rates of a list's labels back, which no stratum fixes."""
    base = material.base * np.exp(scores - scores.max())
    problem = add_label_rates(_no_features(material, base), material.strata, material.prior)
    return balance(problem, 0.0).scores


def _no_features(material: Material, base: Floats) -> Problem:
    nothing = sparse.csr_array((len(base), 0))
    strata = material.strata.synthetic
    return Problem(nothing, np.empty(0), strata, material.shares, base, None, ())
