"""Chooses the synthetic share by cross-validated loss, and leaves the default only on evidence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize_scalar

from japagen.mixing.evidence import Evidence
from japagen.mixing.linear_head import Floats, Ints
from japagen.mixing.mix import GOLD_ALONE, Mix
from japagen.scores import macro_f1

SHARES = (0.1, 0.2, 0.4, 0.6, 0.8)
PARTS = (0.25, 0.5)
_LEAST = 1e-12


@dataclass(frozen=True)
class Judged:
    """Out-of-fold predictions of one mix, scored.

    Attributes:
        losses: Shape (repeats, n): log-loss of each gold text after one temperature, nats.
        loss: Mean over the labels of the mean loss of their texts.
        macro_f1: Mean over the repeats.
        temperature: What the logits were divided by.
    """

    losses: Floats
    loss: float
    macro_f1: float
    temperature: float


def judge(probabilities: Floats, targets: Ints) -> Judged:
    """Scores out-of-fold probabilities, shape (repeats, n, labels).

    One temperature for all predictions of the mix is fitted on them: how sure a head is depends
    on how many rows it saw, and the shipped classifier can be calibrated afterwards.
    """
    repeats, n, labels = probabilities.shape
    logits = np.log(np.maximum(probabilities, _LEAST))
    truth = np.broadcast_to(targets, (repeats, n))
    weights = _balanced(targets)

    def losses(log_temperature: float) -> Floats:
        scaled = logits / np.exp(log_temperature)
        top = scaled.max(axis=2, keepdims=True)
        normal = top[..., 0] + np.log(np.exp(scaled - top).sum(axis=2))
        own = np.take_along_axis(scaled, truth[..., None], axis=2)[..., 0]
        return np.asarray(normal - own, dtype=np.float64)

    best = minimize_scalar(
        lambda t: float((losses(t) @ weights).mean()), bounds=(-3, 3), method="bounded"
    )
    found = losses(float(best.x))
    once, classes = np.ones((1, n)), np.eye(labels)
    f1 = [macro_f1(once, classes[targets], classes[rows.argmax(axis=1)]) for rows in probabilities]
    return Judged(found, float((found @ weights).mean()), float(np.mean(f1)), float(np.exp(best.x)))


def _balanced(targets: Ints) -> Floats:
    """Weights of texts, adding up to 1, under which every label counts alike."""
    counts = np.bincount(targets)
    weights = 1.0 / counts[targets]
    return np.asarray(weights / weights.sum(), dtype=np.float64)


@dataclass(frozen=True)
class Difference:
    """How much lower the loss is than another mix's, with its standard error."""

    value: float
    error: float


def paired_difference(evidence: Evidence, one: Judged, other: Judged) -> Difference:
    """The loss of ``other`` less that of ``one``: positive where ``one`` is better.

    Means of a fold are not independent, since the folds share training texts: the variance of
    their mean is taken as (1/J + n_held/n_train) S², with S² the variance over the J folds of
    all repeats (Nadeau & Bengio 2003, Machine Learning 52, "corrected resampled t-test").
    """
    weights = _balanced(evidence.gold_targets)
    gains = (other.losses - one.losses) * weights * len(weights)
    means, ratios = [], []
    for repeat, folds in enumerate(evidence.repeats):
        for fold in folds:
            means.append(float(gains[repeat, fold.split.held].mean()))
            ratios.append(len(fold.split.held) / max(len(fold.split.train), 1))
    variance = float(np.var(means, ddof=1)) if len(means) > 1 else 0.0
    error = np.sqrt((1 / len(means) + float(np.mean(ratios))) * variance)
    return Difference(other.loss - one.loss, float(error))


@dataclass(frozen=True)
class Candidate:
    """One mix and how it did.

    Attributes:
        mix: What was tried.
        loss: Cross-validated log-loss, nats.
        macro_f1: Cross-validated macro-F1.
        over_gold: How much lower the loss is than that of gold alone.
        over_default: How much lower it is than that of the default.
    """

    mix: Mix
    loss: float
    macro_f1: float
    over_gold: Difference
    over_default: Difference


@dataclass(frozen=True)
class Choice:
    """The chosen mix and its grounds.

    Attributes:
        mix: The choice; `GOLD_ALONE` where synthetic text does not help.
        reason: ``default``, ``better`` (than the default) or ``no_help``.
        candidates: Every mix that was tried, gold alone first.
    """

    mix: Mix
    reason: Literal["default", "better", "no_help"]
    candidates: tuple[Candidate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready mapping."""
        # Tuples would come back from a file as lists.
        return dict(json.loads(json.dumps(asdict(self))))


def search(
    evidence: Evidence,
    default: Mix,
    shares: Sequence[float] = SHARES,
    parts: Sequence[float] = PARTS,
) -> Choice:
    """Scores mixes and chooses one: first the share, then how many of the texts.

    The default is left for the best share where that is better by more than one paired standard
    error, and all texts for those of most weight likewise. What is then not better than gold
    alone by more than one either gives way to gold alone: what nobody can tell apart goes to less.

    Args:
        evidence: Folds with their vectors and weights.
        default: What to keep without evidence; its share is above 0.
        shares: The others to try.
        parts: Parts of each label's texts, those of most weight, to try at the chosen share.
    """
    targets = evidence.gold_targets
    judged: dict[Mix, Judged] = {}

    def try_all(mixes: Sequence[Mix], base: Mix) -> tuple[Candidate, ...]:
        for mix in mixes:
            if mix not in judged:
                judged[mix] = judge(evidence.predict(mix), targets)
        return tuple(
            Candidate(
                mix,
                judged[mix].loss,
                judged[mix].macro_f1,
                paired_difference(evidence, judged[mix], judged[GOLD_ALONE]),
                paired_difference(evidence, judged[mix], judged[base]),
            )
            for mix in mixes
        )

    tried = sorted({0.0, default.share, *shares})
    by_share = try_all([GOLD_ALONE, *(Mix(s, default.part) for s in tried if s > 0)], default)
    first = decide(by_share, default)
    if not first.mix.share:
        return first
    sizes = [replace(first.mix, part=part) for part in parts if part != first.mix.part]
    by_part = try_all([GOLD_ALONE, first.mix, *sizes], first.mix)
    second = decide(by_part, first.mix)
    reason = first.reason if second.reason == "default" else second.reason
    more = tuple(c for c in try_all(sizes, default))
    return Choice(second.mix, reason, by_share + more)


def decide(candidates: Sequence[Candidate], default: Mix) -> Choice:
    """Applies the rule of `search` to candidates that were compared with one default."""
    by_mix = {c.mix: c for c in candidates}
    best = min((c for c in candidates if c.mix.share > 0), key=lambda c: (c.loss, c.mix))
    mix: Mix = default
    reason: Literal["default", "better", "no_help"] = "default"
    if best.over_default.value > best.over_default.error:
        mix, reason = best.mix, "better"
    over_gold = by_mix[mix].over_gold
    if over_gold.value <= over_gold.error:
        mix, reason = GOLD_ALONE, "no_help"
    return Choice(mix, reason, tuple(candidates))
