"""Estimates label shares on unlabelled text: maximum likelihood label shift, BBSE as a check.

A classifier's posteriors p(k|x), calibrated under known shares p₀, are re-weighted until they
agree with their own average (EM of Saerens, Latinne & Decaestecker 2002):

    πₖ ← (Σₓ r(k|x) + α·p₀ₖ) / (n + α),    r(k|x) ∝ p(k|x)·πₖ/p₀ₖ

The calibration is a temperature and a bias a label (Alexandari, Kundaje & Shrikumar 2020), fitted
on scores of gold texts that the classifier did not see. With 16 gold texts per label those scores
are weak and the likelihood is nearly flat, so a Dirichlet prior of α pseudo-texts at p₀ (uniform)
holds π back, the more so the more π varies over bootstrap resamples of gold and unlabelled texts;
the estimate is the average over those resamples. BBSE (Lipton, Wang & Smola 2018) solves
confusionᵀ·w = predicted shares and serves as a check.

Assumes label shift: texts of one label look the same in gold and in unlabelled text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import optimize, special

from japagen.alignment.counting import Floats, Ints
from japagen.japanese.normalization import normalize

_PENALTY = 1.0
# A synthetic label is asked for and not checked, so it counts a third of a gold one.
_SYNTHETIC_TRUST = 1.0 / 3.0
_MAX_SYNTHETIC, _MAX_UNLABELLED = 1_500, 5_000
_BOOTSTRAP = 30
_BIAS_PENALTY = 1.0
# Pseudo-texts, as a share of the unlabelled texts, when the bootstrap says all is noise. At 0.3
# estimates went too far (docs/measures.md).
_PSEUDO_SHARE = 1.0


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with the index of their label.

    Attributes:
        texts: The texts, n of them.
        codes: Shape (n,): index of the label of each.
    """

    texts: Sequence[str] = ()
    codes: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class Estimate:
    """Estimated label shares.

    Attributes:
        shares: Shape (K,), sums to 1.
        error: Root of the summed bootstrap variance of the shares. It does not cover what the
            Dirichlet prior holds back: read it with `accuracy`.
        accuracy: Mean over labels of the share of gold texts that the classifier gets right
            without having seen them.
        check: Shape (K,): what BBSE says.
    """

    shares: Floats
    error: float
    accuracy: float
    check: Floats


def estimate_shares(
    n_labels: int,
    gold: LabelledTexts,
    unlabelled: Sequence[str],
    synthetic: LabelledTexts | None = None,
    *,
    seed: int = 0,
) -> Estimate:
    """Estimates the share of each label among unlabelled texts.

    Args:
        n_labels: K; every label needs gold texts.
        gold: Labelled target texts; the classifier is calibrated on them alone.
        unlabelled: Target texts; at most 5,000 are used.
        synthetic: More texts to train the classifier on, at most 1,500 used.
        seed: Of the subsampling and the bootstrap.
    """
    rng = np.random.default_rng(seed)
    unlabelled = _sample(unlabelled, _MAX_UNLABELLED, rng)
    extra = synthetic or LabelledTexts()
    kept = _choice(len(extra.texts), _MAX_SYNTHETIC, rng)
    texts = [*gold.texts, *(extra.texts[i] for i in kept)]
    codes = np.concatenate([gold.codes, extra.codes[kept]])
    trust = np.where(np.arange(len(codes)) < len(gold.codes), 1.0, _SYNTHETIC_TRUST)
    held_out, scores = _scores(texts, codes, trust, unlabelled, n_labels)
    return _shares(held_out[: len(gold.codes)], gold.codes, scores, n_labels, rng)


def _choice(n: int, limit: int, rng: np.random.Generator) -> Ints:
    return np.sort(rng.permutation(n)[:limit])


def _sample(texts: Sequence[str], limit: int, rng: np.random.Generator) -> list[str]:
    return [texts[i] for i in _choice(len(texts), limit, rng)]


def _scores(
    texts: Sequence[str], codes: Ints, trust: Floats, others: Sequence[str], n_labels: int
) -> tuple[Floats, Floats]:
    """Scores of a ridge classifier on character n-grams.

    Ridge regression on one-hot labels has leave-one-out predictions in closed form, so every
    training text gets a score from a classifier that never saw it, for the price of one fit.

    Returns:
        Leave-one-out scores of the training texts (n, K), scores of the others (m, K).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 3), sublinear_tf=True, preprocessor=normalize
    )
    vectorizer.fit([*texts, *others])
    seen, unseen = vectorizer.transform(texts), vectorizer.transform(others)
    per_label = np.bincount(codes, weights=trust, minlength=n_labels)
    weights = trust * (trust.sum() / n_labels / np.maximum(per_label, 1e-9))[codes]
    # The constant 1 in the kernel is the intercept.
    kernel = (seen @ seen.T).toarray() + 1.0
    inverse = np.linalg.inv(kernel + np.diag(_PENALTY / weights))
    goal = np.eye(n_labels)[codes] - 1.0 / n_labels
    dual = inverse @ goal
    held_out = goal - dual / np.diag(inverse)[:, None]
    return held_out, ((unseen @ seen.T).toarray() + 1.0) @ dual


def _shares(
    held_out: Floats, codes: Ints, scores: Floats, n_labels: int, rng: np.random.Generator
) -> Estimate:
    members = [np.flatnonzero(codes == k) for k in range(n_labels)]
    posteriors = []
    for _ in range(_BOOTSTRAP):
        # Within each label, so that the calibration's own shares stay uniform.
        drawn = np.concatenate([rng.choice(rows, len(rows)) for rows in members])
        resampled = scores[rng.integers(0, len(scores), len(scores))]
        posteriors.append(_calibrated(held_out[drawn], codes[drawn], resampled))
    free = np.array([_maximise(p, 0.0) for p in posteriors])
    variance = float(free.var(axis=0).sum())
    signal = float(((free.mean(axis=0) - 1.0 / n_labels) ** 2).sum())
    pseudo = _PSEUDO_SHARE * len(scores) * variance / max(variance + signal, 1e-12)
    held = np.array([_maximise(p, pseudo) for p in posteriors])
    error = float(np.sqrt(held.var(axis=0).sum()))
    shares = held.mean(axis=0)
    right = held_out.argmax(axis=1) == codes
    accuracy = float(np.mean([right[rows].mean() for rows in members]))
    return Estimate(
        shares / shares.sum(), error, accuracy, _bbse(held_out, codes, scores, n_labels)
    )


def _calibrated(held_out: Floats, codes: Ints, scores: Floats) -> Floats:
    """Posteriors (m, K) of ``scores`` under uniform shares."""
    n_labels = held_out.shape[1]
    goal = np.eye(n_labels)[codes]
    counts = np.bincount(codes, minlength=n_labels)
    weights = (len(codes) / n_labels / np.maximum(counts, 1))[codes]

    def loss(parameters: Floats) -> tuple[float, Floats]:
        slope, bias = np.exp(parameters[0]), parameters[1:]
        logits = slope * held_out + bias
        log_p = special.log_softmax(logits, axis=1)
        wrong = (np.exp(log_p) - goal) * weights[:, None]
        value = -float((weights[:, None] * goal * log_p).sum())
        value += _BIAS_PENALTY * float(bias @ bias)
        slope_gradient = float((wrong * held_out).sum()) * slope
        bias_gradient = wrong.sum(axis=0) + 2 * _BIAS_PENALTY * bias
        return value, np.concatenate([[slope_gradient], bias_gradient])

    start = np.concatenate([[1.0], np.zeros(n_labels)])
    bounds = [(-3.0, 5.0)] + [(None, None)] * n_labels
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    posteriors: Floats = special.softmax(np.exp(found[0]) * scores + found[1:], axis=1)
    return posteriors


def _maximise(posteriors: Floats, pseudo: float) -> Floats:
    """EM for the shares, from uniform, with ``pseudo`` texts at uniform."""
    n_labels = posteriors.shape[1]
    shares: Floats = np.full(n_labels, 1.0 / n_labels)
    for _ in range(300):
        weighted = posteriors * shares
        counts = (weighted / weighted.sum(axis=1, keepdims=True)).sum(axis=0)
        updated = (counts + pseudo / n_labels) / (len(posteriors) + pseudo)
        done = float(np.abs(updated - shares).max()) < 1e-6
        shares = updated
        if done:
            break
    return shares


def _bbse(held_out: Floats, codes: Ints, scores: Floats, n_labels: int) -> Floats:
    """Shares whose predictions, under gold's confusion matrix, are what is predicted."""
    confusion = np.zeros((n_labels, n_labels))
    np.add.at(confusion, (held_out.argmax(axis=1), codes), 1.0)
    confusion /= confusion.sum(axis=0, keepdims=True)
    predicted = np.bincount(scores.argmax(axis=1), minlength=n_labels) / len(scores)
    shares, _ = optimize.nnls(confusion, predicted)
    total = float(shares.sum())
    return shares / total if total > 0 else np.full(n_labels, 1.0 / n_labels)
