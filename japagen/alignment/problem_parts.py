"""What a balancing problem is made of."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import sparse

from japagen.alignment.counting import Floats, Ints


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
