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

λ is found, not set: from loose to tight along `TOLERANCES`, then by halving the step that failed,
the smallest that is feasible and leaves every stratum its effective sample size. It ends at 1,
where c standard errors are what the largest of a group's features is off by chance
(problem.universal_slack): a smaller gap is not known to be there, and matching it made unseen
texts less alike in benchmarks/planted_shift.py.

Source: Hainmueller (2012), Entropy Balancing for Causal Effects; the relaxed constraint and its
L1 dual as in Dudík, Phillips & Schapire (2007), Maximum Entropy Density Estimation with
Generalized Regularization. Assumes that target means are averages of independent texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from japagen.alignment.counting import Floats
from japagen.alignment.dual import Dual
from japagen.alignment.floors import keeps_floor, tempered
from japagen.alignment.problem_parts import Moments, Problem

__all__ = ["TOLERANCES", "Balance", "Moments", "Problem", "balance"]

TOLERANCES = (16.0, 8.0, 4.0, 2.8, 2.0, 1.4, 1.0)
# How often the step from the last tolerance that held to the first that failed is halved.
_HALVINGS = 3


@dataclass(frozen=True)
class Balance:
    """A solution.

    Attributes:
        scores: Shape (n,): log tilt of each row.
        temper: Factor on the scores of each stratum, below 1 where the floor asked for it.
        tolerance: The λ reached; None when even the loosest broke the floor or could not be met,
            and for methods without one.
        has_tolerance: Whether the method looks for a λ.
    """

    scores: Floats
    temper: Floats
    tolerance: float | None = None
    has_tolerance: bool = False


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
    weighted = [rows[k] if k in live else np.empty(0, dtype=np.int64) for k in range(len(rows))]

    def attempt(tolerance: float, start: Floats | None) -> tuple[Floats, Floats, bool]:
        found, scores, feasible = dual.solve(tolerance, start)
        return found, scores, feasible and keeps_floor(log_base, scores, weighted, floor)

    scores, tolerance = _tightest(attempt)
    kept, temper = tempered(log_base, scores, weighted, floor)
    return Balance(kept, temper, tolerance, has_tolerance=True)


def _tightest(
    attempt: Callable[[float, Floats | None], tuple[Floats, Floats, bool]],
) -> tuple[Floats, float | None]:
    """Scores at the smallest tolerance that holds; at the loosest where none does, with None."""
    best, tolerance, start = None, None, None
    failed = 0.0
    for candidate in TOLERANCES:
        found, scores, holds = attempt(candidate, start)
        if not holds:
            if best is None:
                return scores, None
            failed = candidate
            break
        best, tolerance, start = scores, candidate, found
    assert best is not None
    assert tolerance is not None
    for _ in range(_HALVINGS if failed else 0):
        middle = float(np.sqrt(failed * tolerance))
        found, scores, holds = attempt(middle, start)
        if holds:
            best, tolerance, start = scores, middle, found
        else:
            failed = middle
    return best, tolerance
