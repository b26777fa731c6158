"""Label-equivalent value of synthetic text: its saturation curve and gold's learning curve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from japagen.data.dataset import LEAST_TO_HOLD_OUT, Dataset
from japagen.data.summary import Curves, Point, Worth
from japagen.evaluation.metrics import macro_f1
from japagen.mixing.cross_validation import Evidence, Floats, Ints, gather

if TYPE_CHECKING:
    from japagen.training.trainer import FrozenTraining


_TINY = 1e-12
_LEAST_GOLD = 2
_PARTS = (0.125, 0.25, 0.5, 1.0)
_DRAWS = 1000
_INTERVAL = (0.025, 0.975)
# A curve is read on past its end for one more doubling, and no further.
_REACH = 2.0


@dataclass(frozen=True)
class Judged:
    """Out-of-fold predictions, scored.

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

    One temperature is fitted to all predictions: a head's confidence depends on how many rows it
    saw, and the shipped classifier is calibrated afterwards.
    """
    repeats, n, labels = probabilities.shape
    logits = np.log(np.maximum(probabilities, _TINY))
    truth = np.broadcast_to(targets, (repeats, n))
    weights = _balanced(targets)

    def losses(log_temperature: float) -> Floats:
        log_p = log_softmax(logits / np.exp(log_temperature), axis=2)
        return np.asarray(-np.take_along_axis(log_p, truth[..., None], axis=2)[..., 0])

    best = minimize_scalar(
        lambda t: float((losses(t) @ weights).mean()), bounds=(-3, 3), method="bounded"
    )
    found = losses(float(best.x))
    once, classes = np.ones((1, n)), np.eye(labels)
    f1 = [macro_f1(once, classes[targets], classes[rows.argmax(axis=1)]) for rows in probabilities]
    return Judged(found, float((found @ weights).mean()), float(np.mean(f1)), float(np.exp(best.x)))


def _balanced(targets: Ints) -> Floats:
    """Sample weights, adding up to 1, under which every label counts alike."""
    counts = np.bincount(targets)
    weights = 1.0 / counts[targets]
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def curves(evidence: Evidence, seed: int) -> Curves:
    """Measures both curves with the same folds and the same head.

    The worth is where the gold curve, against the logarithm of the number of texts, comes down
    to the loss with all synthetic text. Past its end the curve is read on along its last two
    doublings: learning curves flatten (Figueroa et al. 2012), so that this overstates what more
    gold would do and understates the worth.

    Args:
        evidence: Folds with their vectors and weights.
        seed: Of the bootstrap.
    """
    targets = evidence.gold_targets
    folds = [fold for repeat in evidence.repeats for fold in repeat]
    most = max(len(rows) for fold in folds for rows in fold.gold_order)
    sizes = _sizes(most)
    by_gold = [judge(evidence.predict(0.0, size), targets) for size in sizes]
    by_part = [judge(evidence.predict(part), targets) for part in _PARTS]
    base = _per_label([len(rows) for fold in folds for rows in fold.gold_order])
    usable = _per_label([len(rows) for fold in folds for rows in fold.order])
    draws = _draws(targets, len(evidence.repeats), seed)
    places = [_trained_on(folds, size) for size in sizes]
    parts = [_point(by_gold[-1], 0.0, draws)]
    parts += [_point(j, usable * p, draws) for j, p in zip(by_part, _PARTS, strict=True)]
    whole = _worth(places, by_gold, by_part[-1], draws, base)
    names = sorted({n for n, m in zip(evidence.sources, evidence.mass, strict=True) if m > 0})
    each = {names[0]: whole} if len(names) == 1 else {}
    for name in names if len(names) > 1 else ():
        with_source = judge(evidence.predict(1.0, source=name), targets)
        each[name] = _worth(places, by_gold, with_source, draws, base)
    return Curves(
        tuple(_point(j, place, draws) for j, place in zip(by_gold, places, strict=True)),
        tuple(parts),
        whole,
        each,
    )


def _sizes(most: int) -> list[int]:
    """About two sizes a doubling, up to all there are."""
    found = {most}
    size = float(_LEAST_GOLD)
    while size < most:
        found.add(round(size))
        size *= np.sqrt(2)
    return sorted(found)


def _per_label(counts: Sequence[int]) -> float:
    return float(np.mean(counts)) if counts else 0.0


def _trained_on(folds: Sequence[Any], size: int) -> float:
    return _per_label([min(len(rows), size) for fold in folds for rows in fold.gold_order])


def _draws(targets: Ints, repeats: int, seed: int) -> Floats:
    """Bootstrap weights, shape (draws + 1, repeats * n); the first row is the sample itself.

    Texts are drawn within their label, repeats among themselves; every label counts alike.
    """
    rng = np.random.default_rng(seed)
    labels, counts = np.unique(targets, return_counts=True)
    texts = np.zeros((_DRAWS + 1, len(targets)))
    for label, count in zip(labels, counts, strict=True):
        shares = rng.multinomial(count, np.full(count, 1 / count), size=_DRAWS) / count
        texts[1:, targets == label] = shares
        texts[0, targets == label] = 1 / count
    texts /= len(labels)
    turns = rng.multinomial(repeats, np.full(repeats, 1 / repeats), size=_DRAWS) / repeats
    turns = np.concatenate([np.full((1, repeats), 1 / repeats), turns])
    return np.asarray((turns[:, :, None] * texts[:, None, :]).reshape(len(texts), -1))


def _drawn(judged: Judged, draws: Floats) -> Floats:
    return np.asarray(draws @ judged.losses.ravel())


def _point(judged: Judged, per_label: float, draws: Floats) -> Point:
    losses = _drawn(judged, draws)
    low, high = np.quantile(losses[1:], _INTERVAL)
    return Point(per_label, float(losses[0]), float(low), float(high), judged.macro_f1)


def _worth(
    places: Sequence[float],
    by_gold: Sequence[Judged],
    with_synthetic: Judged,
    draws: Floats,
    base: float,
) -> Worth:
    gold = np.stack([_drawn(judged, draws) for judged in by_gold], axis=1)
    mixed = _drawn(with_synthetic, draws)
    more = np.array([worth_of(places, row, loss) for row, loss in zip(gold, mixed, strict=True)])
    ordered = np.sort(more[1:])
    low, high = (float(ordered[int(q * (len(ordered) - 1))]) for q in _INTERVAL)
    return Worth(
        _finite(float(more[0])),
        _finite(low),
        _finite(high),
        base,
        places[-1] * (_REACH - 1),
        bool(more[0] > 0),
    )


def worth_of(places: Sequence[float], losses: Floats, wanted: float) -> float:
    """How many more texts than its last point a learning curve needs to reach a loss.

    A curve of few texts is not smooth: its end is taken as measured, and its shape from a
    falling (isotonic) fit on the way back, from a line over the last two doublings on the way
    on.

    Args:
        places: Numbers of texts, ascending.
        losses: Loss at each of them.
        wanted: The loss to reach.

    Returns:
        Negative where the curve reaches the loss earlier, at least ``places[0] - places[-1]``;
        infinite where it does so more than a doubling past its end.
    """
    from sklearn.isotonic import IsotonicRegression

    at = np.log2(np.asarray(places, dtype=np.float64))
    gain = float(losses[-1]) - wanted
    if gain <= 0:
        fall = IsotonicRegression(increasing=False).fit_transform(at, losses)
        return float(2 ** np.interp(gain, fall[-1] - fall, at) - places[-1])
    late = at >= at[-1] - 2
    slope = -float(np.polyfit(at[late], losses[late], 1)[0]) if late.sum() > 1 else 0.0
    reach = np.log2(_REACH)
    if slope * reach < gain:
        return float("inf")
    return float(places[-1] * (2 ** (gain / slope) - 1))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


_LEAST_USABLE = 4


def measure_worth(
    gold: Dataset,
    kept: Dataset,
    frozen: FrozenTraining,
    *,
    text_weight: float,
    seed: int,
    repeats: int,
) -> dict[str, Any] | None:
    """Cross-validates heads on growing parts of gold, and on gold with the synthetic texts.

    Args:
        gold: Training gold; `why_not` must have nothing against it.
        kept: Synthetic examples with their weights.
        frozen: Fits the heads.
        text_weight: Gold texts that a synthetic text counts for on average.
        seed: The seed that shots were drawn with.
        repeats: Repeats of the cross-validation.

    Returns:
        JSON-ready ``provenance``, ``folds`` and ``curves``; None where some fold may use hardly
        any text.
    """
    evidence = gather(
        gold,
        kept,
        frozen.labels,
        (
            frozen.features(gold),
            frozen.features(kept),
        ),
        text_weight=text_weight,
        seed=seed,
        repeats=repeats,
        head=frozen.probabilities,
    )
    folds = _folds(evidence)
    if min(folds["usable"]) < _LEAST_USABLE:
        return None
    return {
        "provenance": provenance(kept),
        "folds": folds,
        "curves": asdict(curves(evidence, seed)),
    }


def why_not(gold: Dataset, kept: Dataset) -> str | None:
    """A code for why nothing can be measured, or None."""
    if not len(gold):
        return "no_gold"
    if not len(kept):
        return "no_synthetic"
    if not all(isinstance(label, str) for label in gold.labels):
        return "labels"
    if min(Counter(gold.labels).values()) < LEAST_TO_HOLD_OUT:
        return "few_gold"
    return None


def provenance(kept: Dataset) -> str:
    """Lineage: which gold texts each synthetic text was generated from, where known.

    Returns:
        ``known``: every text names the gold that it was written from, or was written from none.
        ``unknown``: some came from elsewhere; they may descend from gold that was held out.
    """
    origins = zip(kept.column("shot_ids"), kept.column("request_id"), strict=True)
    return "known" if all(shots or request for shots, request in origins) else "unknown"


def _folds(evidence: Evidence) -> dict[str, Any]:
    folds = [fold for repeat in evidence.repeats for fold in repeat]
    first = evidence.repeats[0]
    return {
        "repeats": len(evidence.repeats),
        "usable": [len(fold.split.usable) for fold in first],
        "synthetic": len(evidence.synthetic),
        "train": float(np.mean([len(fold.split.train) for fold in folds])),
        "gold": len(evidence.gold),
    }
