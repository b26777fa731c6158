"""The dual of entropy balancing, and its minimisation; the formula is in `entropy`.

Features stay in one sparse matrix a stratum: the marginal block and the block within the stratum
act on the same rows, so one product serves both, and scales are applied to θ and not to the data.

A dual over a million rows is minimised on a sample of them: the sampling error of 50,000 rows is
small beside the standard errors of the target that set the tolerance. Where the constraints hold
on the sample they are checked on all rows, and if they fail there the search goes on with all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse, special

from japagen.alignment.counting import Floats, Ints
from japagen.alignment.problem_parts import Moments, Problem

_RIDGE = 1e-4
# In units of a feature's standard deviation: e⁶ times the weight for one deviation is no answer.
_LIMIT = 6.0
_SLACK = 1.1
_ITERATIONS = 200
SAMPLE_ROWS, _LEAST_OF_STRATUM = 50_000, 2_000


@dataclass(frozen=True)
class _Block:
    """One block of moments, in units of each feature's standard deviation.

    Attributes:
        strata: The strata whose rows it weighs.
        columns: The features that can be met.
        deviation: Standard deviation of each of them.
        mean: The mean to meet.
        error: How far off it may be at λ = 1.
        share: Share of the strata in the whole.
    """

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
        rows: The rows of each stratum.
        live: The strata that have rows and a share.
    """

    def __init__(self, problem: Problem, rows: Sequence[Ints], live: Sequence[int]) -> None:
        self._problem, self._where, self._live = problem, rows, live
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
