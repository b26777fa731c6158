r"""Reliability of a source's labels, and how many gold texts one of its texts is worth.

There are four counts. A labeler trained on gold only is right on some of the gold that
it has not seen, and agrees with some of the source's labels. A classifier trained on the source
alone is right on some of the gold, and on some of the source's own texts held out. With K labels
and errors that fall on all other labels alike, chance-corrected accuracies (p − 1/K) / (1 − 1/K)
multiply: a labeler of accuracy a and a writer of accuracy r agree by a·r, which is Spearman's
correction for attenuation (1904) for classes. So

    right on gold      ~ Binomial(a)          agrees with labels ~ Binomial(a r)
    source on gold     ~ Binomial(a √r)       source on itself   ~ Binomial(a^0.6 r^1.5)

where the exponents say that many texts average label noise out, and that the source's own held-out
labels are noisy too; they were read off three benchmark tasks with 0, 30 and 100% of random labels
once, and not fitted. A source that is more consistent than expected shows nothing: labels can be
consistent and wrong. The posterior of r is summed over a grid. Where the labeler is no better than
chance, the counts carry hardly any information and the posterior stays near the prior: a writer is
trusted until there is evidence against it. For a source with fewer texts than gold, the last two
counts are weighted down in proportion.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from japagen.data.labels import Floats

Writer = Literal["writer", "base_model"]

# Beta priors of a writer's reliability, mean 0.75 and 0.5: a base model that continues lists wrote
# the label asked for in 50 to 74% of texts on a task with three labels.
_WRITER_PRIORS: dict[Writer, tuple[float, float]] = {"writer": (3.0, 1.0), "base_model": (2.0, 2.0)}
# One source in ten is taken for worthless before it is seen: labels that slipped by a row, texts of
# another task. Without that, no evidence could bring a writer near 0.
_WORTHLESS, _WORTHLESS_PRIOR = 0.1, (1.0, 9.0)
# Of how well this encoder can learn a task at all, mean 2/3: on six tasks it was 0 to 0.95.
_LABELER_PRIOR = (2.0, 1.0)
# The labeler's accuracy on a source's texts is that on gold, give or take this much.
_DOMAIN_SHIFT = 0.08
# Texts of one writer resemble each other: no more of them count as independent witnesses.
_INDEPENDENT_TEXTS = 100
_GRID = np.linspace(0.0, 1.0, 101)
_INTERVAL = (0.05, 0.95)
_TINY = 1e-9

LEAST_WEIGHT = 0.05
"""A source whose texts are worth less is left out."""


@dataclass(frozen=True)
class Evidence:
    """The evidence on the labels of one source.

    Attributes:
        labels: Number of labels.
        texts: Texts of the source that were judged.
        agreed: How many of them the labeler gives the same label.
        consistent: How many of them a classifier trained on the rest of the source does.
        gold: Gold texts.
        recognized: How many of them the labeler, fitted without them, is right on.
        transferred: How many of them a classifier trained on the source alone is right on.
        off_topic: Texts of the source that are off topic with respect to gold.
    """

    labels: int
    texts: int
    agreed: int
    consistent: int
    gold: int
    recognized: int
    transferred: int
    off_topic: int = 0


@dataclass(frozen=True)
class Reliability:
    """The posterior of a source's reliability: the chance-corrected accuracy of its labels.

    Attributes:
        mean: Its mean, 0 (labels at random) to 1 (all right).
        low: Its 5% quantile.
        high: Its 95% quantile.
        squared: The mean of its square.
        evidence: What it was estimated from; None for the prior alone.
    """

    mean: float
    low: float
    high: float
    squared: float
    evidence: Evidence | None = None

    @property
    def text_weight(self) -> float:
        """How many gold texts one text of the source is worth in training, at least 0.

        The information of a noisy label about the true one grows with the square of its
        chance-corrected accuracy, hence the expected square. A text whose label is surely right
        counts like gold: so did texts of a strong LLM, and real ones, on three tasks. Texts of
        another domain may have labels that agree with each other and mean nothing here: where
        more than half are off topic, the weight falls with the square of what is left.
        """
        weight = self.squared * min(1.0, 2 * self.on_topic) ** 2
        return weight if weight >= LEAST_WEIGHT else 0.0

    @property
    def on_topic(self) -> float:
        """The share of the source's texts that are on topic."""
        known = self.evidence
        return 1 - known.off_topic / known.texts if known and known.texts else 1.0

    def accuracy(self, labels: int) -> float:
        """The expected share of right labels."""
        return 1 / labels + (1 - 1 / labels) * self.mean

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready mapping."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Reliability:
        """Reads what `to_dict` gave."""
        evidence = values["evidence"]
        return cls(**{**values, "evidence": Evidence(**evidence) if evidence else None})


def estimate_reliability(evidence: Evidence | None, prior: Writer = "writer") -> Reliability:
    """Computes the posterior over a grid of reliabilities and labeler accuracies.

    Args:
        evidence: The four counts; None, or counts without texts or gold, give the prior.
        prior: Who wrote the texts: a person or a model that follows instructions, or a base
            model that continues a list.
    """
    posterior = (1 - _WORTHLESS) * _beta(_WRITER_PRIORS[prior]) + _WORTHLESS * _beta(
        _WORTHLESS_PRIOR
    )
    if evidence is not None and evidence.texts and evidence.gold:
        posterior = posterior * _likelihood(evidence)
    else:
        evidence = None
    return _summary(posterior, evidence)


def estimate_accuracy(recognized: int, gold: int, labels: int) -> Reliability:
    """Estimates how reliable labelers are, on gold that they had not seen.

    Args:
        recognized: Gold texts that they are right on.
        gold: Gold texts.
        labels: Number of labels.
    """
    likelihood = np.exp(_log_binomial(recognized, gold, _GRID, labels))
    return _summary(_beta(_LABELER_PRIOR) * likelihood, None)


def _summary(density: Floats, evidence: Evidence | None) -> Reliability:
    posterior = density / density.sum()
    cumulative = posterior.cumsum()
    low, high = (float(_GRID[min(int(np.searchsorted(cumulative, q)), 100)]) for q in _INTERVAL)
    mean, squared = float(posterior @ _GRID), float(posterior @ _GRID**2)
    return Reliability(mean, low, high, squared, evidence)


def _likelihood(evidence: Evidence) -> Floats:
    """Of every reliability on the grid, up to a constant, the labeler's accuracy summed out."""
    reliability, labeler = _GRID[:, None], _GRID[None, :]
    gold, texts = evidence.gold, evidence.texts
    on_gold = np.exp(_log_binomial(evidence.recognized, gold, _GRID, evidence.labels))
    labeler_accuracy = _blurred(on_gold * _beta(_LABELER_PRIOR))
    independent = min(1.0, _INDEPENDENT_TEXTS / texts)
    # A source with fewer texts than gold teaches less than gold does, however right its labels.
    taught = min(1.0, texts / gold)
    log_joint = (
        taught
        * _log_binomial(evidence.transferred, gold, np.sqrt(reliability) * labeler, evidence.labels)
        + independent
        * _log_binomial(evidence.agreed, texts, reliability * labeler, evidence.labels)
        + taught
        * independent
        * _log_binomial(
            evidence.consistent,
            texts,
            np.maximum(reliability**1.5 * labeler**0.6, _corrected(evidence.consistent, evidence)),
            evidence.labels,
        )
    )
    joint: Floats = np.exp(log_joint - log_joint.max()) @ labeler_accuracy
    return joint


def _log_binomial(hits: int, trials: int, corrected: Floats, labels: int) -> Floats:
    """Log-likelihood of so many hits at a chance-corrected accuracy, peak at 0."""
    accuracy = np.clip(1 / labels + (1 - 1 / labels) * corrected, _TINY, 1 - _TINY)
    found = hits * np.log(accuracy) + (trials - hits) * np.log1p(-accuracy)
    return np.asarray(found - found.max())


def _corrected(hits: int, evidence: Evidence) -> float:
    """The chance-corrected share of a source's texts, at least 0."""
    chance = 1 / evidence.labels
    return max((hits / evidence.texts - chance) / (1 - chance), 0.0)


def _blurred(density: Floats) -> Floats:
    distance = (_GRID[:, None] - _GRID[None, :]) / _DOMAIN_SHIFT
    kernel = np.exp(-0.5 * distance**2)
    return np.asarray((kernel / kernel.sum(axis=0)) @ density)


def _beta(parameters: tuple[float, float]) -> Floats:
    inside = np.clip(_GRID, 0.005, 0.995)
    density = inside ** (parameters[0] - 1) * (1 - inside) ** (parameters[1] - 1)
    return np.asarray(density / density.sum())


_FARTHEST = 0.05
"""A text is off topic where it is farther from gold than all but this share of gold itself."""
_MOST_GOLD = 5000


def find_off_topic(gold: npt.ArrayLike, texts: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Finds off-topic texts: farther from all gold texts than gold texts are from each other.

    Args:
        gold: Encoder vectors, shape (n, d).
        texts: Encoder vectors, shape (m, d).

    Returns:
        Shape (m,). Nothing is off topic where there are fewer than two gold texts.
    """
    own, others = unit_vectors(gold), unit_vectors(texts)
    # A repeated text is as near as can be to itself, which says nothing of the others.
    own = np.unique(own.round(6), axis=0)
    own = own[:: max(1, len(own) // _MOST_GOLD)]
    if len(own) < 2 or not len(others):
        return np.zeros(len(others), dtype=bool)
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=1, metric="cosine").fit(own)
    # Of its own rows it takes none for its own neighbour.
    among, apart = (1 - nearest.kneighbors(rows)[0][:, 0] for rows in (None, others))
    return np.asarray(apart < np.quantile(among, _FARTHEST), dtype=bool)


def unit_vectors(vectors: npt.ArrayLike) -> Floats:
    """Rows of length 1; a row of zeros stays one."""
    values = np.asarray(vectors, dtype=np.float64)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))
