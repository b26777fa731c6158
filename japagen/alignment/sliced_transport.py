r"""Sliced optimal transport: weights that bring every projection's quantiles to the target's.

On a line, the squared Wasserstein distance between weighted source and target is known in closed
form, by matching quantiles: the text at quantile q of source goes to quantile q of target. The
derivative of that distance with respect to a text's weight is the Kantorovich potential

    φ(t) = ∫ 2 (u − T(u)) du,    T = quantile function of target ∘ distribution function of source.

A text whose neighbourhood would have to be moved far away has a high potential, and loses weight.
Averaged over directions θ, the potentials are the gradient of the sliced distance, and
weights take steps of mirror descent, which keep them positive:

    wᵢ ← wᵢ · exp(−η · mean_θ φ_θ(θ·zᵢ)).

Directions are random in a low-rank view z of the features (truncated SVD of group-balanced
columns, whitened). Steps stop where the distance on a second set of directions stops falling, or
has fallen to what a target of m texts shows by chance; so the number of steps is found.

Source: Rabin, Peyré, Delon & Bernot (2011), Wasserstein Barycenter and its Application to Texture
Mixing, and Bonneel et al. (2015) for slicing; Santambrogio (2015), ch. 7.2, for the derivative.
Assumes that differences show in the leading directions of variation, all of which weigh alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from japagen.alignment.comparison import Side
from japagen.alignment.counting import Floats, Ints
from japagen.alignment.feature_maps import balanced

_RANK = 30
_DIRECTIONS = 50
_STEPS = 60
_STEP = 0.5
_LEVELS = 64
_PATIENCE = 3
# Times 1/m, the squared distance at which what is left may be chance: one part is the target's own
# sampling error, one source's, and directions of low variance have heavy tails, which add to both.
# At 1, weights of benchmarks/planted_shift.py were tilted by noise and fared worse on unseen texts.
_ENOUGH = 4.0


def tilt(source: Side, target: Side, rng: np.random.Generator) -> Floats:
    """Log tilt of each source text, shape (n,).

    Args:
        source: Weighted texts to tilt.
        target: Weighted texts to resemble.
        rng: Draws the directions.
    """
    mine, theirs = _view(source, target, rng)
    scores = np.zeros(len(source))
    if not mine.shape[1]:
        return scores
    directions = rng.normal(size=(2 * _DIRECTIONS, mine.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    slices = [_Slice.of(mine @ d, theirs @ d, target.share) for d in directions]
    moved, watched = slices[:_DIRECTIONS], slices[_DIRECTIONS:]
    enough = _ENOUGH / target.size
    best, least, worse = scores, np.inf, 0
    for _ in range(_STEPS):
        weights = source.share * np.exp(scores - scores.max())
        weights /= weights.sum()
        distance = float(np.mean([one.distance(weights) for one in watched]))
        worse = worse + 1 if distance >= least else 0
        if distance < least:
            best, least = scores, distance
        if worse >= _PATIENCE or distance <= enough:
            break
        scores = scores - _STEP * np.mean([one.potential(weights) for one in moved], axis=0)
    return best


def _view(source: Side, target: Side, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Whitened low-rank view of both sides, shapes (n, rank) and (m, rank)."""
    from scipy import sparse
    from sklearn.decomposition import TruncatedSVD

    parts = balanced(source, target)
    share = np.concatenate([source.share, target.share]) / 2
    stacked = sparse.csr_array(sparse.vstack(parts, format="csr"))
    rank = min(_RANK, *(size - 1 for size in stacked.shape))
    if rank < 1:
        return np.empty((len(source), 0)), np.empty((len(target), 0))
    if not stacked.count_nonzero():
        return np.empty((len(source), 0)), np.empty((len(target), 0))
    svd = TruncatedSVD(rank, random_state=int(rng.integers(2**31)))
    # Weighted rows, so that the view is of the two samples and not of whichever has more rows.
    svd.fit(sparse.diags_array(np.sqrt(share * len(share))) @ stacked)
    z = svd.transform(stacked)
    centred = z - share @ z
    deviation = np.sqrt(share @ centred**2)
    alive = deviation > 1e-6
    white = centred[:, alive] / deviation[alive]
    return white[: len(source)], white[len(source) :]


@dataclass(frozen=True)
class _Slice:
    """One direction: source texts in their order along it, and the target's quantiles.

    Attributes:
        order: Shape (n,): source texts from low to high.
        values: Shape (n,): their positions, sorted.
        quantiles: Shape (levels,): target's quantiles at the middles of equal steps.
    """

    order: Ints
    values: Floats
    quantiles: Floats

    @classmethod
    def of(cls, source: Floats, target: Floats, share: Floats) -> _Slice:
        order = np.argsort(source, kind="stable")
        theirs = np.argsort(target, kind="stable")
        # Middles of each text's step, so that equal weights give the usual quantiles.
        reached = np.cumsum(share[theirs]) - share[theirs] / 2
        levels = (np.arange(_LEVELS) + 0.5) / _LEVELS
        return cls(order, source[order], np.interp(levels, reached, target[theirs]))

    def _shift(self, weights: Floats) -> tuple[Floats, Floats]:
        """How far each source text, in order, lies above its place in the target; its weight."""
        mass = weights[self.order]
        reached = np.cumsum(mass) - mass / 2
        levels = (np.arange(_LEVELS) + 0.5) / _LEVELS
        return self.values - np.interp(reached, levels, self.quantiles), mass

    def distance(self, weights: Floats) -> float:
        """Squared Wasserstein distance to the target."""
        shift, mass = self._shift(weights)
        return float(mass @ shift**2)

    def potential(self, weights: Floats) -> Floats:
        """Kantorovich potential at each source text, of mean 0 under the weights."""
        shift, mass = self._shift(weights)
        steps = np.diff(self.values) * (shift[1:] + shift[:-1])
        along = np.concatenate([[0.0], np.cumsum(steps)])
        out = np.empty(len(along))
        out[self.order] = along - mass @ along
        return out
