"""How far the texts of each round are from the target, measured on equal numbers of texts.

A divergence between counted words falls with the number of texts alone. So every distance is the
mean over draws of as many texts without replacement, half the number of the smaller set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import sparse

from japagen.alignment.counting import Floats, measure
from japagen.alignment.distances import jensen_shannon
from japagen.examples import Dataset
from japagen.japanese.morphology import Tagger

_DRAWS = 200


@dataclass(frozen=True, slots=True)
class Distance:
    """A Jensen-Shannon divergence in bits (0 to 1) at a given number of texts.

    Attributes:
        value: Mean over draws of ``texts`` texts.
        error: Its standard error over which texts the model happened to write.
        texts: Texts in each draw.
    """

    value: float
    error: float
    texts: int

    def to_dict(self) -> dict[str, float]:
        """A JSON-ready form."""
        return asdict(self)


def round_distances(
    rounds: Sequence[Dataset], targets: Sequence[Dataset], tagger: Tagger, seed: int
) -> list[dict[str, Distance]]:
    """Measures the texts after each round against gold and unlabelled texts together.

    The standard error comes from the spread of the draws: k of n texts without replacement vary
    by (n − k)/k of the variance that n texts have as a sample.

    Args:
        rounds: The kept texts after each round, earlier rounds included.
        targets: Gold, and unlabelled texts if there are any.
        tagger: The morphological analyser.
        seed: Of the draws.

    Returns:
        A round's distance of ``words`` and of ``pos`` bigrams; empty where there are too few texts.
    """
    size = min(len(r) for r in rounds) // 2
    if size < 2 or not sum(map(len, targets)):
        return [{} for _ in rounds]
    measured, _ = measure([*rounds, *targets], tagger)
    found: list[dict[str, Distance]] = []
    for texts in measured[: len(rounds)]:
        row = {}
        for name in ("words", "pos"):
            goal = np.sum([getattr(m, name).sum(axis=0) for m in measured[len(rounds) :]], axis=0)
            row[name] = _distance(getattr(texts, name), goal, size, seed)
        found.append(row)
    return found


def _distance(
    counts: sparse.csr_array,
    goal: Floats,
    size: int,
    seed: int,
) -> Distance:
    rng = np.random.default_rng(seed)
    n = counts.shape[0]
    draws = []
    for _ in range(_DRAWS):
        chosen = np.zeros(n)
        chosen[rng.permutation(n)[:size]] = 1.0
        draws.append(jensen_shannon(counts.T @ chosen, goal))
    error = float(np.std(draws, ddof=1)) * (size / (n - size)) ** 0.5
    return Distance(float(np.mean(draws)), error, size)


def has_fallen(before: Distance, after: Distance) -> bool:
    """Whether a distance fell by more than the standard error of the difference.

    The texts after a round hold those before it, so the two means vary together: their covariance
    is the variance of the larger set's, and the difference varies by what the smaller has more.
    """
    margin = max(0.0, before.error**2 - after.error**2) ** 0.5
    return bool(before.value - after.value > margin)
