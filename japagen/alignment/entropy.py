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

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse, special

from japagen.alignment.counting import Floats, Ints
from japagen.alignment.floors import keeps_floor, tempered

TOLERANCES = (16.0, 8.0, 4.0, 2.8, 2.0, 1.4, 1.0)
# How often the step from the last tolerance that held to the first that failed is halved.
_HALVINGS = 3
_RIDGE = 1e-4
# In units of a feature's standard deviation: e⁶ times the weight for one deviation is no answer.
_LIMIT = 6.0
_SLACK = 1.1
_ITERATIONS = 200


@dataclass(frozen=True)
class Moments:
    """Averages to meet.

    Attributes:
        mean: Shape (p,): the target's mean of each feature.
        deviation: Shape (p,): its standard deviation in the target; 0 leaves a feature out.
        size: Effective number of target texts behind the means.
    """

    mean: Floats
    deviation: Floats
    size: float


@dataclass(frozen=True)
class Problem:
    """What to weight and what to match.

    Attributes:
        features: Sparse (n, p).
        slack: Shape (p,): standard errors that each feature may be off at λ = 1.
        strata: Shape (n,): stratum of each row, 0 to K-1.
        shares: Shape (K,): target share of each stratum, 0 for one without rows; sums to 1.
        base: Shape (n,): weights to stay close to, at least 0, positive sum in each stratum.
        marginal: Moments over all strata, or None.
        within: Moments within one stratum, as (stratum, moments).
    """

    features: sparse.csr_array
    slack: Floats
    strata: Ints
    shares: Floats
    base: Floats
    marginal: Moments | None
    within: tuple[tuple[int, Moments], ...]


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


@dataclass(frozen=True)
class _Block:
    """One block of moments on the rows of some strata, in standard-deviation units."""

    parts: tuple[tuple[int, sparse.csr_array, sparse.csr_array], ...]
    mean: Floats
    error: Floats
    share: float


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
    blocks = _blocks(problem, rows, live)
    log_base = np.log(np.maximum(problem.base, 1e-300))
    weighted = [rows[k] if k in live else np.empty(0, dtype=np.int64) for k in range(len(rows))]

    def attempt(tolerance: float, start: Floats | None) -> tuple[Floats, Floats, bool]:
        found, scores, feasible = _solve(problem, blocks, rows, live, log_base, tolerance, start)
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


def _blocks(problem: Problem, rows: Sequence[Ints], live: Sequence[int]) -> list[_Block]:
    blocks = []
    if problem.marginal is not None:
        blocks.append(_block(problem, problem.marginal, rows, live, 1.0))
    for k, moments in problem.within:
        if k in live:
            blocks.append(_block(problem, moments, rows, [k], float(problem.shares[k])))
    return blocks


def _block(
    problem: Problem, moments: Moments, rows: Sequence[Ints], live: Sequence[int], share: float
) -> _Block:
    """Keeps the features that can be met: those that vary, and whose mean is within reach."""
    parts = [problem.features[rows[k]] for k in live]
    low = np.min([_dense(p.min(axis=0)) for p in parts], axis=0)
    high = np.max([_dense(p.max(axis=0)) for p in parts], axis=0)
    error = problem.slack * moments.deviation / np.sqrt(moments.size)
    reachable = (moments.mean - error < high) & (moments.mean + error > low)
    columns = np.flatnonzero(reachable & (high > low) & (moments.deviation > 0))
    scale = sparse.diags_array(1.0 / moments.deviation[columns])
    scaled = []
    for k, part in zip(live, parts, strict=True):
        chosen = sparse.csr_array(part[:, columns] @ scale)
        # Kept with its transpose: making one costs more than a product on small data.
        scaled.append((k, chosen, sparse.csr_array(chosen.T)))
    mean = moments.mean[columns] / moments.deviation[columns]
    return _Block(tuple(scaled), mean, problem.slack[columns] / np.sqrt(moments.size), share)


def _dense(row: sparse.coo_array) -> Floats:
    dense: Floats = np.ravel(row.toarray())
    return dense


def _solve(
    problem: Problem,
    blocks: Sequence[_Block],
    rows: Sequence[Ints],
    live: Sequence[int],
    log_base: Floats,
    tolerance: float,
    start: Floats | None,
) -> tuple[Floats, Floats, bool]:
    """Minimises the dual; returns its solution, the scores, and whether constraints are met."""
    sizes = [len(b.mean) for b in blocks]
    total = sum(sizes)
    cuts = np.cumsum([0, *sizes])
    penalty = np.concatenate([tolerance * b.share * b.error for b in blocks] or [np.empty(0)])

    def score(theta: Floats) -> Floats:
        scores = np.zeros(len(problem.strata))
        for block, a, b in zip(blocks, cuts, cuts[1:], strict=False):
            for k, part, _ in block.parts:
                scores[rows[k]] += part @ theta[a:b]
        return scores

    def dual(split: Floats) -> tuple[float, Floats]:
        theta = split[:total] - split[total:]
        scores = score(theta)
        value = float(penalty @ (split[:total] + split[total:]) + _RIDGE / 2 * split @ split)
        tilted = {}
        for k in live:
            logits = log_base[rows[k]] + scores[rows[k]]
            norm = float(special.logsumexp(logits))
            value += float(problem.shares[k]) * norm
            tilted[k] = problem.shares[k] * np.exp(logits - norm)
        gradient = np.empty(total)
        for block, a, b in zip(blocks, cuts, cuts[1:], strict=False):
            value -= block.share * float(theta[a:b] @ block.mean)
            gradient[a:b] = sum(t @ tilted[k] for k, _, t in block.parts) - block.share * block.mean
        return value, np.concatenate([gradient + penalty, penalty - gradient]) + _RIDGE * split

    if total == 0:
        return np.empty(0), np.zeros(len(problem.strata)), True
    found = optimize.minimize(
        dual,
        np.zeros(2 * total) if start is None else start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, _LIMIT)] * (2 * total),
        options={"maxiter": _ITERATIONS, "ftol": 1e-9, "gtol": 1e-5},
    )
    theta = found.x[:total] - found.x[total:]
    smooth = dual(found.x)[1][:total] - penalty - _RIDGE * found.x[:total]
    allowed = _SLACK * penalty + _RIDGE * np.abs(theta) + 1e-6
    return found.x, score(theta), bool(np.all(np.abs(smooth) <= allowed))
