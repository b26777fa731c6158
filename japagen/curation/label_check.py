r"""Label verification: labelers, how they are pooled, and the threshold.

A labeler gives every text a log-probability for every label. Labelers are pooled log-linearly
(Genest & Zidek 1986),

    p(k | x)  ∝  exp(b_k + Σ_m w_m v_mk(x)),    w_m ≥ 0,

with the weights and biases of maximum likelihood on gold, each gold text scored by labelers that
had not seen it. The biases remove a labeler's preference for a label whatever the text (contextual
calibration, Zhao et al. 2021); weights above 1 sharpen an underconfident labeler, and a labeler
that knows nothing gets weight 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from japagen.curation.reliability import (
    Evidence,
    Reliability,
    Writer,
    estimate_reliability,
    find_off_topic,
    unit_vectors,
)
from japagen.data.dataset import Dataset, Rejection, assign_folds
from japagen.data.labels import Floats, Ints, label_indices

# Fits to vectors and their label indices, and gives the log-probabilities of other vectors.
Fit = Callable[[Floats, npt.NDArray[np.int64], Floats], Floats]
FILTER = "label_check"
_MOST_WEIGHT = 10.0
_FOLDS = 5
_CROSS_FITS = 8
_REPEATS = 3
_STRENGTH = 30.0  # scikit-learn's C, for unit vectors less their mean
_LEAST_CHANCE = 1e-12
_MOST_ACCURATE = 0.99  # nobody labels better, so that a text that is clearly wrong can be told


@dataclass(frozen=True, slots=True)
class Vote:
    """The log-probabilities of one labeler.

    Attributes:
        name: Of the labeler, for reports.
        gold: Log-probabilities of the gold texts under labelers that had not seen them, up to a
            constant for each text; shape (gold, labels).
        texts: The same for the texts to check; shape (texts, labels).
    """

    name: str
    gold: Floats
    texts: Floats


@dataclass(frozen=True, slots=True)
class Pool:
    """A fitted log-linear pool.

    Attributes:
        weights: Of each labeler, at least 0.
        biases: Of each label, sum 0.
    """

    weights: Floats
    biases: Floats

    def posterior(self, votes: Sequence[Floats]) -> Floats:
        """Probability of every label, shape (texts, labels)."""
        return np.asarray(np.exp(log_softmax(self._logits(votes), axis=1)))

    def _logits(self, votes: Sequence[Floats]) -> Floats:
        pooled = np.tensordot(self.weights, np.stack(votes), axes=1)
        logits: Floats = pooled + self.biases
        return logits


def fit_pool(votes: Sequence[Floats], targets: npt.NDArray[np.int64]) -> Pool:
    """Fits the weights and biases by penalised maximum likelihood on gold.

    The penalty is half the squares of the biases and of each weight's distance to 1 over the number
    of labelers; it decides where a handful of gold texts does not.

    Args:
        votes: Of each labeler on gold, shape (gold, labels).
        targets: The gold texts' label indices.
    """
    from scipy.optimize import minimize

    stacked = np.stack([log_softmax(v, axis=1) for v in votes])
    labelers, rows, labels = stacked.shape
    rows_at = np.arange(rows)
    equal = 1.0 / labelers

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weights, biases = parameters[:labelers], parameters[labelers:]
        log_p = log_softmax(np.tensordot(weights, stacked, axes=1) + biases, axis=1)
        error = np.exp(log_p)
        error[rows_at, targets] -= 1
        value = -log_p[rows_at, targets].sum()
        value += (((weights - equal) ** 2).sum() + (biases**2).sum()) / 2
        gradient_weights = (stacked * error).sum((1, 2)) + weights - equal
        return float(value), np.concatenate([gradient_weights, error.sum(0) + biases])

    start = np.concatenate([np.full(labelers, equal), np.zeros(labels)])
    bounds = [(0.0, _MOST_WEIGHT)] * labelers + [(None, None)] * labels
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Pool(found[:labelers], found[labelers:] - found[labelers:].mean())


def held_out_posterior(
    votes: Sequence[Floats], targets: npt.NDArray[np.int64], seed: int = 0
) -> Floats:
    """The pool's posterior of gold texts that it was not fitted to, shape (gold, labels)."""
    found = np.empty((len(targets), votes[0].shape[1]))
    folds = assign_folds(targets, _FOLDS, seed)
    for fold in range(_FOLDS):
        held = folds == fold
        pool = fit_pool([v[~held] for v in votes], targets[~held])
        found[held] = pool.posterior([v[held] for v in votes])
    return found


def beats_guessing(posterior: Floats, targets: npt.NDArray[np.int64]) -> bool:
    """Whether accuracy on gold beats the majority class by two standard errors.

    Args:
        posterior: Of gold texts that the labelers had not seen, shape (gold, labels).
        targets: The gold texts' label indices.
    """
    guessed = float(np.bincount(targets).max() / len(targets))
    right = float((posterior.argmax(axis=1) == targets).mean())
    return bool(right > guessed + 2 * np.sqrt(guessed * (1 - guessed) / len(targets)))


def with_writer(posterior: Floats, own: npt.NDArray[np.int64], accuracy: float) -> Floats:
    """Combines the labelers' posterior with the writer's own label (naive Bayes).

    A writer of high accuracy is overruled only by labelers that are surer still.

    Args:
        posterior: Of the labelers, shape (texts, labels).
        own: Index of the label that the writer gave each text, shape (texts,).
        accuracy: How often the writer is expected to be right, 0 to 1.

    Returns:
        Probability of every label, shape (texts, labels).
    """
    labels = posterior.shape[1]
    accuracy = min(max(accuracy, 1 / labels), _MOST_ACCURATE)
    odds = np.full(posterior.shape, (1 - accuracy) / max(labels - 1, 1))
    odds[np.arange(len(own)), own] = accuracy
    found = np.maximum(posterior, _LEAST_CHANCE) * odds
    settled: Floats = found / found.sum(axis=1, keepdims=True)
    return settled


def settle_labels(
    dataset: Dataset,
    labels: Sequence[str],
    posterior: Floats,
    miss: Literal["relabel", "reject", "keep"],
    least: float,
) -> Dataset:
    """Relabels or rejects texts, and sets `weight_label` to the probability of each label.

    Args:
        dataset: Examples; rows that arrive rejected stay as they are.
        labels: Every label, in the order of the columns of ``posterior``.
        posterior: Probability of every label for every row, shape (rows, labels).
        miss: With ``relabel`` a text gets the likeliest label if that is as likely as ``least``;
            ``keep`` rejects nothing; otherwise a text less likely than ``least`` is rejected.
            `label_asked` goes on saying what was asked for.
        least: Least probability of a text's label.

    Returns:
        The same rows in the same order.
    """
    own = label_indices(dataset, labels)
    rows = np.arange(len(dataset))
    if miss == "relabel":
        best = posterior.argmax(axis=1)
        own = np.where(dataset.kept_mask & (posterior[rows, best] >= least), best, own)
    probability = posterior[rows, own]
    rejections = [
        row.rejected
        if row.rejected or miss == "keep" or sure >= least
        else Rejection(FILTER, round(float(sure), 3), least, labels[int(chances.argmax())])
        for row, chances, sure in zip(dataset, posterior, probability, strict=True)
    ]
    settled = dataset.with_columns(label=[labels[i] for i in own], weight_label=probability)
    return settled.with_rejections(rejections)


def cross_fitted_vote(
    fit: Fit, gold: Floats, targets: npt.NDArray[np.int64], texts: Floats, seed: int = 0
) -> Vote:
    """Cross-fits a classifier: each gold text is scored by one that was fitted without it.

    Args:
        fit: Fits to vectors and their label indices, and gives the log-probabilities of others.
        gold: Of the gold texts, shape (gold, width).
        targets: Their label indices.
        texts: Of the texts to check, shape (texts, width).
        seed: Of the folds.
    """
    on_texts = fit(gold, targets, texts)
    on_gold = np.zeros((len(gold), on_texts.shape[1]))
    for repeat in range(_REPEATS):
        folds = assign_folds(targets, _CROSS_FITS, seed + repeat)
        for fold in range(_CROSS_FITS):
            held = folds == fold
            if held.any():
                on_gold[held] += fit(gold[~held], targets[~held], gold[held]) / _REPEATS
    return Vote("encoder", on_gold, on_texts)


@dataclass(frozen=True)
class VerifiedLabels:
    """The texts after label verification, with the evidence.

    Attributes:
        dataset: With `weight_label`, relabelled or rejected where the evidence says so.
        reliability: Of each source's labels.
        labelers: Each labeler's weight among them.
        right: Share of gold texts that the labelers are right on without having seen them.
    """

    dataset: Dataset
    reliability: Mapping[str, Reliability]
    labelers: Mapping[str, float]
    right: float


def verify_labels(
    dataset: Dataset,
    gold_targets: Ints,
    votes: Sequence[Vote],
    vectors: tuple[Floats, Floats],
    *,
    labels: Sequence[str],
    priors: Mapping[str, Writer],
    miss: Literal["relabel", "reject", "keep"],
    least: float,
    seed: int,
) -> VerifiedLabels:
    """Estimates the reliability of each source, and settles each label by all labelers.

    Args:
        dataset: Examples with the name of their source; rejected ones stay as they are.
        gold_targets: Label index of each gold text, shape (gold,).
        votes: Of the labelers, on gold and on the kept texts.
        vectors: Encoder vectors of gold and of the kept texts.
        labels: Every label.
        priors: Who wrote each source.
        miss: See `settle_labels`.
        least: See `settle_labels`.
        seed: Of the folds.
    """
    kept = dataset.kept
    own = label_indices(kept, labels)
    on_gold = [vote.gold for vote in votes]
    pool = fit_pool(on_gold, gold_targets)
    recognized = held_out_posterior(on_gold, gold_targets, seed).argmax(axis=1) == gold_targets
    labelers = pool.posterior([vote.texts for vote in votes])
    posterior, reliability = labelers.copy(), {}
    sources = np.array(kept.column("source"), dtype=object)
    for name in dict.fromkeys(dataset.column("source")):
        rows = np.flatnonzero(sources == name)
        evidence = _evidence(
            (vectors[0], gold_targets),
            (vectors[1][rows], own[rows]),
            labelers[rows],
            recognized=int(recognized.sum()),
            # Vectors of pairs say how both texts compare, not what they are about.
            topical=not kept.is_pair,
            seed=seed,
        )
        found = reliability[name] = estimate_reliability(evidence, priors[name])
        posterior[rows] = with_writer(labelers[rows], own[rows], found.accuracy(len(labels)))
    every = np.full((len(dataset), len(labels)), 1 / len(labels))
    every[dataset.kept_mask] = posterior
    return VerifiedLabels(
        settle_labels(dataset, labels, every, miss, least),
        reliability,
        {v.name: float(w) for v, w in zip(votes, pool.weights, strict=True)},
        float(recognized.mean()),
    )


def _evidence(
    gold: tuple[Floats, Ints],
    source: tuple[Floats, Ints],
    labelers: Floats,
    *,
    recognized: int,
    topical: bool,
    seed: int,
) -> Evidence:
    """The evidence on a source's labels, of vectors with their label indices."""
    # Texts of a writer and gold stand apart as a whole: each is centred by itself.
    on_gold, texts = _directions(gold[0]), _directions(source[0])
    targets = source[1]
    folds = assign_folds(targets, _FOLDS, seed)
    consistent = sum(
        _hits(
            texts[folds != fold],
            targets[folds != fold],
            texts[folds == fold],
            targets[folds == fold],
        )
        for fold in range(_FOLDS)
    )
    return Evidence(
        labels=labelers.shape[1],
        texts=len(texts),
        agreed=int((labelers.argmax(axis=1) == targets).sum()),
        consistent=consistent,
        gold=len(on_gold),
        recognized=recognized,
        transferred=_hits(texts, targets, on_gold, gold[1]),
        off_topic=int(find_off_topic(gold[0], source[0]).sum()) if topical else 0,
    )


def _hits(seen: Floats, targets: Ints, others: Floats, theirs: Ints) -> int:
    """The number of other texts that a logistic regression classifies correctly."""
    from sklearn.linear_model import LogisticRegression

    if not len(others) or not len(seen):
        return 0
    if len(np.unique(targets)) < 2:
        return int((theirs == targets[0]).sum())
    model = LogisticRegression(C=_STRENGTH, max_iter=500).fit(seen, targets)
    return int((model.predict(others) == theirs).sum())


def _directions(vectors: Floats) -> Floats:
    """Unit vectors less their mean."""
    unit = unit_vectors(vectors)
    return np.asarray(unit - unit.mean(axis=0)) if len(unit) else unit
