r"""Entropy balancing with tolerance: the least change of weights that matches the target.

Rows i carry a stratum (their label) and features φᵢ. The stratum shares π are met exactly; row
weights within stratum k are a distribution q on its rows that solves

    minimise    Σₖ πₖ KL(qₖ ‖ baseₖ)
    subject to  |Σₖ πₖ E_qₖ[φⱼ] − μⱼ|  ≤ λ eⱼ           for every marginal moment j
                |E_qₖ[φⱼ] − μₖⱼ|       ≤ λ eₖⱼ          for every moment j within stratum k

with e = cσ/√m, the standard error of each target mean times a constant c of the feature. The
solution is an exponential tilt
qᵢ ∝ baseᵢ·exp((θ₀ + θₖ)·φᵢ), and its dual

    Σₖ πₖ logsumexpᵢ(log baseᵢ + (θ₀ + θₖ)·φᵢ) − θ₀·μ − Σₖ πₖ θₖ·μₖ
        + λ (Σ|θ₀ⱼ| eⱼ + Σₖ πₖ Σ|θₖⱼ| eₖⱼ) + ridge/2 ‖θ‖²

is smooth and convex apart from the absolute values, which disappear when θ is split into two
non-negative parts; L-BFGS-B then minimises it under bounds. One dual holds both blocks of
moments, so the label shares are fixed before any word is matched.

λ is found, not set: from loose to tight along `TOLERANCES`, the tightest that is feasible and
leaves every stratum its effective sample size. It ends at 1, where c standard errors are what
the largest of a group's features is off by chance (problem.universal_slack): a smaller gap is not
known to be there, and matching it made unseen texts less alike in benchmarks/planted_shift.py.

Source: Hainmueller (2012), Entropy Balancing for Causal Effects; the relaxed constraint and its
L1 dual as in Dudík, Phillips & Schapire (2007), Maximum Entropy Density Estimation with
Generalized Regularization. Assumes that target means are averages of independent texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from japagen.alignment.counting import Floats
from japagen.alignment.dual import Dual
from japagen.alignment.problem_parts import Moments, Problem

__all__ = ["TOLERANCES", "Balance", "Moments", "Problem", "balance", "effective_share"]

TOLERANCES = (4.0, 2.8, 2.0, 1.4, 1.0)


@dataclass(frozen=True)
class Balance:
    """A solution.

    Attributes:
        scores: Shape (n,): log tilt of each row.
        tolerance: The λ reached; None when even the loosest broke the floor or could not be met.
        temper: Factor on the scores of each stratum, below 1 where the floor asked for it.
    """

    scores: Floats
    tolerance: float | None
    temper: Floats


def effective_share(weights: Floats) -> float:
    """Returns Kish's effective sample size (Σw)²/Σw² over the number of rows, 0 to 1."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares / len(weights) if squares > 0 else 0.0


def balance(problem: Problem, floor: float) -> Balance:
    """Finds the tightest tolerance that is feasible and keeps the effective sample size.

    When even the loosest tolerance breaks the floor, the tilt of each stratum that breaks it is
    multiplied by the largest factor in [0, 1] that keeps it (weights w become w^factor).

    Args:
        problem: Rows, strata and moments.
        floor: Least effective share within each stratum, 0 to 1.
    """
    rows = [np.flatnonzero(problem.strata == k) for k in range(len(problem.shares))]
    live = [k for k in range(len(rows)) if len(rows[k]) and problem.shares[k] > 0]
    dual = Dual(problem, rows, live)
    log_base = np.log(np.maximum(problem.base, 1e-300))
    best, tolerance = np.zeros(len(problem.strata)), None
    start: Floats | None = None
    for candidate in TOLERANCES:
        start, scores, feasible = dual.solve(candidate, start)
        keeps = all(
            effective_share(_tilted(log_base[rows[k]], scores[rows[k]])) >= floor for k in live
        )
        if not (feasible and keeps):
            if tolerance is None:
                best = scores
            break
        best, tolerance = scores, candidate
    temper = np.ones(len(rows))
    for k in live:
        temper[k] = _temper(log_base[rows[k]], best[rows[k]], floor)
        best[rows[k]] *= temper[k]
    return Balance(best, tolerance, temper)


def _tilted(log_base: Floats, scores: Floats) -> Floats:
    tilted: Floats = special.softmax(log_base + scores)
    return tilted


def _temper(log_base: Floats, scores: Floats, floor: float) -> float:
    """Largest factor on the scores that keeps the floor, by bisection."""
    if effective_share(_tilted(log_base, scores)) >= floor:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        keeps = effective_share(_tilted(log_base, middle * scores)) >= floor
        low, high = (middle, high) if keeps else (low, middle)
    return low
