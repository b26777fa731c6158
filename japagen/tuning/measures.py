r"""How good texts are that some settings brought, judged by gold alone.

The score is label agreement less distance to gold, both between 0 and 1 and both over the
requests that were answered:

    agreement   mean of p(asked label | text), 0 for a text that the filters turned down
    distance    mean over labels of H = (2 E|X−Y| − E|X−X'| − E|Y−Y'|) / 2 E|X−Y|

X are the label's texts, Y its gold, as unit vectors of the frozen encoder; H is the energy
coefficient of Székely & Rizzo (2013), 0 for equal distributions, estimated without bias (a text
is not compared with itself), so that few texts are not further away than many. The probabilities
are those of logistic regression on the same vectors, cross-fitted on gold and calibrated there.

Errors are over shot sets: texts of one prompt are more alike than others. They say how much other
requests would have changed a score, not how much other gold would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from japagen.curation.label_check import encoder_vote, fit_pool

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
_RESAMPLES = 1000
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Texts:
    """What the requests of some settings brought.

    Attributes:
        labels: Index of the label asked for, shape (requests,).
        shot_sets: Which requests shared a prompt, shape (requests,).
        kept: Whether the text stood the filters, shape (requests,).
        right: Probability of the label asked for, shape (requests,).
        vectors: Of the texts, shape (requests, width); zeros where there is none.
    """

    labels: Whole
    shot_sets: Whole
    kept: npt.NDArray[np.bool_]
    right: Floats
    vectors: Floats


@dataclass(frozen=True)
class Score:
    """Label agreement, distance to gold, and their difference with its standard error."""

    agreement: float
    distance: float
    score: float
    error: float


def probabilities(
    gold: npt.NDArray[np.floating], targets: Whole, texts: npt.NDArray[np.floating], seed: int
) -> Floats:
    """Probability of every label for every text under gold alone, shape (texts, labels)."""
    vote = encoder_vote(gold, targets, texts, seed)
    return fit_pool([vote.gold], targets).posterior([vote.texts])


def unit(vectors: npt.NDArray[np.floating]) -> Floats:
    """Vectors of length 1, zeros left as they are."""
    found = np.asarray(vectors, dtype=np.float64)
    units: Floats = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return units


class Measure:
    """Scores settings against one gold set.

    Args:
        gold: Unit vectors of gold, shape (gold, width).
        targets: Gold's label indices.
        seed: Of the resamples.
    """

    def __init__(self, gold: Floats, targets: Whole, seed: int) -> None:
        self._gold = [gold[targets == k] for k in range(int(targets.max()) + 1)]
        self._seed = seed

    def score(self, texts: Texts) -> Score:
        """The score of the texts, with its error over shot sets."""
        agreement, distance = self._parts(texts)(np.ones(len(texts.labels)))
        error = float(self.resampled(texts).std())
        return Score(agreement, distance, agreement - distance, error)

    def resampled(self, texts: Texts, salt: int = 0) -> Floats:
        """Scores of resamples of the shot sets within each label, shape (1000,)."""
        rng = np.random.default_rng([self._seed, salt])
        parts = self._parts(texts)
        found = np.empty(_RESAMPLES)
        for i in range(_RESAMPLES):
            agreement, distance = parts(_weights(texts, rng))
            found[i] = agreement - distance
        return found

    def gain(self, better: Texts, than: Texts) -> dict[str, float]:
        """The difference of two scores on separate requests, with its 95% interval."""
        value = self.score(better).score - self.score(than).score
        spread = self.resampled(better, 1) - self.resampled(than, 2)
        low, high = np.percentile(spread, _INTERVAL)
        return {"value": value, "low": float(low), "high": float(high)}

    def _parts(self, texts: Texts) -> _Parts:
        return _Parts(texts, self._gold)


class _Parts:
    """Agreement and distance under weights of the requests; what they share is found once."""

    def __init__(self, texts: Texts, gold: Sequence[Floats]) -> None:
        self._right = np.where(texts.kept, texts.right, 0.0)
        self._labels = []
        for label, own in enumerate(gold):
            rows = np.flatnonzero((texts.labels == label) & texts.kept)
            vectors = texts.vectors[rows]
            within = _distances(own, own).sum() / max(len(own) * (len(own) - 1), 1)
            across = _distances(vectors, own).mean(axis=1) if len(rows) else np.zeros(0)
            self._labels.append((rows, _distances(vectors, vectors), across, within))

    def __call__(self, weights: Floats) -> tuple[float, float]:
        agreement = float((weights * self._right).sum() / max(weights.sum(), 1e-12))
        coefficients = [_coefficient(weights[rows], *rest) for rows, *rest in self._labels]
        return agreement, float(np.mean(coefficients))


def _coefficient(weights: Floats, among: Floats, across: Floats, within: float) -> float:
    total = weights.sum()
    pairs = total**2 - (weights**2).sum()
    if total <= 0 or pairs <= 0:
        return 1.0  # nothing that could be compared: as far as can be
    twice = 2 * float(weights @ across) / total
    own = float(weights @ among @ weights) / pairs
    return min(1.0, float((twice - own - within) / max(twice, 1e-12)))


def _distances(left: Floats, right: Floats) -> Floats:
    squares = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
    distances: Floats = np.sqrt(np.maximum(squares, 0.0))
    return distances


def _weights(texts: Texts, rng: np.random.Generator) -> Floats:
    """How often each request is drawn when the shot sets of each label are drawn anew."""
    weights = np.zeros(len(texts.labels))
    for label in np.unique(texts.labels):
        sets = np.unique(texts.shot_sets[texts.labels == label])
        drawn, counts = np.unique(rng.choice(sets, len(sets)), return_counts=True)
        for chosen, count in zip(drawn, counts, strict=True):
            weights[texts.shot_sets == chosen] += count
    return weights
