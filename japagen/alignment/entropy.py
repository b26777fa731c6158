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
from dataclasses import dataclass, field

import numpy as np
from scipy import optimize, sparse, special

from japagen.data.labels import Floats, Ints

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
        tilts: Shape (K, p): what each feature adds to the score of a row of each stratum, tempered.
    """

    scores: Floats
    temper: Floats
    tolerance: float | None = None
    has_tolerance: bool = False
    tilts: Floats = field(default_factory=lambda: np.empty((0, 0)))


def balance(problem: Problem, floor: float) -> Balance:
    """Finds the tightest tolerance that is feasible and keeps the effective sample size.

    When even the loosest tolerance breaks the floor, the tilt of each stratum that breaks it is
    multiplied by the largest factor in [0, 1] that keeps it (weights w become w^factor).

    Args:
        problem: Rows, strata and moments.
        floor: Least effective share within each stratum, 0 to 1.
    """
    rows = rows_of(problem.strata, problem.shares)
    dual = Dual(problem, rows)
    log_base = np.log(np.maximum(problem.base, 1e-300))

    def attempt(tolerance: float, start: Floats | None) -> tuple[Floats, Floats, bool]:
        found, scores, feasible = dual.solve(tolerance, start)
        return found, scores, feasible and keeps_floor(log_base, scores, rows, floor)

    scores, tolerance, found = _tightest(attempt)
    kept, temper = tempered(log_base, scores, rows, floor)
    return Balance(kept, temper, tolerance, True, dual.tilts(found) * temper[:, None])


def rows_of(strata: Ints, shares: Floats) -> list[Ints]:
    """The rows of each stratum; none where it has no share, whatever they look like."""
    return [
        np.flatnonzero(strata == k) if share > 0 else np.empty(0, np.int64)
        for k, share in enumerate(shares)
    ]


def _tightest(
    attempt: Callable[[float, Floats | None], tuple[Floats, Floats, bool]],
) -> tuple[Floats, float | None, Floats]:
    """Scores at the smallest tolerance that holds, or the loosest with None; and the solution."""
    best, tolerance, start = None, None, np.empty(0)
    failed = 0.0
    for candidate in TOLERANCES:
        found, scores, holds = attempt(candidate, None if best is None else start)
        if not holds:
            if best is None:
                return scores, None, found
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
    return best, tolerance, start


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


# The dual of entropy balancing, and its minimisation; the formula is in `entropy`.
#
# Features stay in one sparse matrix a stratum: the marginal block and the block within the stratum
# act on the same rows, so one product serves both, and scales are applied to θ and not to the data.
#
# A dual over a million rows is minimised on a sample of them: the sampling error of 50,000 rows is
# small beside the standard errors of the target that set the tolerance. Where the constraints hold
# on the sample they are checked on all rows, and if they fail there the search goes on with all.

_RIDGE = 1e-4
# In units of a feature's standard deviation: e⁶ times the weight for one deviation is no answer.
_LIMIT = 6.0
_SLACK = 1.1
_ITERATIONS = 200
SAMPLE_ROWS, _LEAST_OF_STRATUM = 50_000, 2_000


@dataclass(frozen=True)
class _Block:
    """One block of moments that can be met, in units of each feature's standard deviation."""

    strata: tuple[int, ...]
    columns: Ints
    deviation: Floats
    mean: Floats
    error: Floats
    share: float


@dataclass(frozen=True)
class _Rows:
    """The rows of one stratum: their features, (n, p), and logarithms of their base weights."""

    features: sparse.csr_array
    log_base: Floats


class Dual:
    """The dual of one problem.

    Args:
        problem: Rows, strata and moments.
        rows: The rows of each stratum, as of `rows_of`.
    """

    def __init__(self, problem: Problem, rows: Sequence[Ints]) -> None:
        self._problem, self._where = problem, rows
        live = self._live = [k for k, mine in enumerate(rows) if len(mine)]
        self._log_base = np.log(np.maximum(problem.base, 1e-300))
        sampled = _sample(rows, len(problem.strata))
        self._is_sample = sampled is not rows
        self._rows = {k: self._read(sampled[k]) for k in live}
        self._all = None if self._is_sample else self._rows
        self._blocks = self._make_blocks()
        self._cuts = np.cumsum([0, *(len(b.mean) for b in self._blocks)])

    def solve(self, tolerance: float, start: Floats | None) -> tuple[Floats, Floats, bool]:
        """Minimises the dual.

        Args:
            tolerance: λ.
            start: The solution at another tolerance, or None.

        Returns:
            The solution, the score of each row of the problem, and whether constraints are met.
        """
        total = int(self._cuts[-1])
        if total == 0:
            return np.empty(0), np.zeros(len(self._problem.strata)), True
        found = np.zeros(2 * total) if start is None else start
        found = self._minimise(self._rows, tolerance, found)
        met = self._is_met(self._rows, found, tolerance)
        if met and self._is_sample:
            met = self._is_met(self._every(), found, tolerance)
            if not met:
                found = self._minimise(self._every(), tolerance, found)
                met = self._is_met(self._every(), found, tolerance)
        theta = found[:total] - found[total:]
        scores = np.zeros(len(self._problem.strata))
        for k, part in self._every().items():
            scores[self._where[k]] = part.features @ self._tilt(theta, k)
        return found, scores, met

    def tilts(self, found: Floats) -> Floats:
        """What each feature adds to the score of a row of each stratum, shape (K, p).

        Args:
            found: A solution, as of `solve`.
        """
        theta = found[: len(found) // 2] - found[len(found) // 2 :]
        every = range(len(self._problem.shares))
        return np.array([self._tilt(theta, k) for k in every]).reshape(len(every), -1)

    def _read(self, at: Ints) -> _Rows:
        return _Rows(self._problem.features[at], self._log_base[at])

    def _every(self) -> dict[int, _Rows]:
        if self._all is None:
            self._all = {k: self._read(self._where[k]) for k in self._live}
        return self._all

    def _make_blocks(self) -> list[_Block]:
        problem = self._problem
        ranges = {k: _ranges(part.features) for k, part in self._rows.items()}
        blocks = []
        if problem.marginal is not None:
            blocks.append(_block(problem, problem.marginal, ranges, tuple(self._live), 1.0))
        for k, moments in problem.within:
            if k in ranges:
                share = float(problem.shares[k])
                blocks.append(_block(problem, moments, ranges, (k,), share))
        return blocks

    def _tilt(self, theta: Floats, stratum: int) -> Floats:
        """What each feature adds to the score of a row of the stratum, shape (p,)."""
        tilt = np.zeros(self._problem.features.shape[1])
        for block, a, b in zip(self._blocks, self._cuts, self._cuts[1:], strict=False):
            if stratum in block.strata:
                tilt[block.columns] += theta[a:b] / block.deviation
        return tilt

    def _penalty(self, tolerance: float) -> Floats:
        return np.concatenate([tolerance * b.share * b.error for b in self._blocks])

    def _smooth(self, rows: dict[int, _Rows], theta: Floats) -> tuple[float, Floats]:
        """The dual without penalty and ridge, and its gradient."""
        value = 0.0
        means = {}
        for k, part in rows.items():
            logits = part.log_base + part.features @ self._tilt(theta, k)
            norm = float(special.logsumexp(logits))
            share = float(self._problem.shares[k])
            value += share * norm
            means[k] = part.features.T @ (share * np.exp(logits - norm))
        gradient = np.empty(len(theta))
        for block, a, b in zip(self._blocks, self._cuts, self._cuts[1:], strict=False):
            value -= block.share * float(theta[a:b] @ block.mean)
            reached = np.sum([means[k][block.columns] for k in block.strata], axis=0)
            gradient[a:b] = reached / block.deviation - block.share * block.mean
        return value, gradient

    def _minimise(self, rows: dict[int, _Rows], tolerance: float, start: Floats) -> Floats:
        penalty = self._penalty(tolerance)
        total = len(penalty)

        def dual(split: Floats) -> tuple[float, Floats]:
            value, gradient = self._smooth(rows, split[:total] - split[total:])
            value += float(penalty @ (split[:total] + split[total:]) + _RIDGE / 2 * split @ split)
            both = np.concatenate([gradient + penalty, penalty - gradient])
            return value, both + _RIDGE * split

        found: Floats = optimize.minimize(
            dual,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, _LIMIT)] * (2 * total),
            options={"maxiter": _ITERATIONS, "ftol": 1e-9, "gtol": 1e-5},
        ).x
        return found

    def _is_met(self, rows: dict[int, _Rows], split: Floats, tolerance: float) -> bool:
        penalty = self._penalty(tolerance)
        theta = split[: len(penalty)] - split[len(penalty) :]
        gap = np.abs(self._smooth(rows, theta)[1])
        return bool(np.all(gap <= _SLACK * penalty + _RIDGE * np.abs(theta) + 1e-6))


def _sample(rows: Sequence[Ints], n: int) -> Sequence[Ints]:
    """Rows of each stratum, drawn where there are too many; the rows themselves otherwise."""
    if n <= 2 * SAMPLE_ROWS:
        return rows
    rng = np.random.default_rng(0)
    drawn = []
    for at in rows:
        size = max(_LEAST_OF_STRATUM, len(at) * SAMPLE_ROWS // n)
        drawn.append(np.sort(rng.permutation(at)[:size]))
    return drawn


def _ranges(features: sparse.csr_array) -> tuple[Floats, Floats]:
    """Least and greatest value of each feature."""
    n, p = features.shape
    filled = np.bincount(features.indices, minlength=p) == n
    low, high = np.where(filled, np.inf, 0.0), np.where(filled, -np.inf, 0.0)
    np.minimum.at(low, features.indices, features.data)
    np.maximum.at(high, features.indices, features.data)
    return low, high


def _block(
    problem: Problem,
    moments: Moments,
    ranges: dict[int, tuple[Floats, Floats]],
    strata: tuple[int, ...],
    share: float,
) -> _Block:
    """Keeps the features that can be met: those that vary, and whose mean is within reach."""
    low = np.min([ranges[k][0] for k in strata], axis=0)
    high = np.max([ranges[k][1] for k in strata], axis=0)
    error = problem.slack * moments.deviation / np.sqrt(moments.size)
    reachable = (moments.mean - error < high) & (moments.mean + error > low)
    columns = np.flatnonzero(reachable & (high > low) & (moments.deviation > 0))
    deviation = moments.deviation[columns]
    mean, slack = moments.mean[columns] / deviation, problem.slack[columns]
    return _Block(strata, columns, deviation, mean, slack / np.sqrt(moments.size), share)


def effective_share(weights: Floats) -> float:
    """Returns Kish's effective sample size (Σw)²/Σw² over the number of rows, 0 to 1."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares / len(weights) if squares > 0 else 0.0


def tempered(
    log_base: Floats, scores: Floats, rows: Sequence[Ints], floor: float
) -> tuple[Floats, Floats]:
    """Tempers the tilt of each stratum that breaks the floor.

    Its scores are multiplied by the largest factor in [0, 1] that keeps the floor, so that
    a tilt t becomes t^factor. Where base weights alone break it, the factor is 0.

    Args:
        log_base: Shape (n,): logarithm of the base weights.
        scores: Shape (n,): log tilt of each row.
        rows: Rows of each of K strata; those of an empty stratum are left alone.
        floor: Least effective share within each stratum, 0 to 1.

    Returns:
        The scores that keep the floor, shape (n,), and the factors, shape (K,).
    """
    kept = scores.copy()
    factors = np.ones(len(rows))
    for k, mine in enumerate(rows):
        if len(mine):
            factors[k] = _factor(log_base[mine], scores[mine], floor)
            kept[mine] *= factors[k]
    return kept, factors


def keeps_floor(log_base: Floats, scores: Floats, rows: Sequence[Ints], floor: float) -> bool:
    """True if every stratum has at least ``floor`` of its rows as effective sample."""
    return all(
        effective_share(_tilted(log_base[mine], scores[mine])) >= floor
        for mine in rows
        if len(mine)
    )


def _tilted(log_base: Floats, scores: Floats) -> Floats:
    tilted: Floats = special.softmax(log_base + scores)
    return tilted


def _factor(log_base: Floats, scores: Floats, floor: float) -> float:
    """Largest factor on the scores that keeps the floor, by bisection."""
    if effective_share(_tilted(log_base, scores)) >= floor:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        keeps = effective_share(_tilted(log_base, middle * scores)) >= floor
        low, high = (middle, high) if keeps else (low, middle)
    return low
