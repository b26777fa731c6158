"""Calibration: a temperature for probabilities, and the confidence below which to abstain.

A text is left to a person where the classifier is not sure, or where it resembles none of the
texts that the classifier was trained for.

Both are fitted to out-of-fold predictions on gold. A synthetic text generated from a held-out gold
text is left out with it: it would leak the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from japagen.data.labels import Floats, Ints, LabelSpace
from japagen.training.classifier import Scope, distances_between, nearest_distances
from japagen.training.head import Head, Labelled

# Logits of the second rows from what was fitted to the first.
Judge = Callable[[Ints, Ints], Floats]

FOLDS = 5
TYPICAL_TEMPERATURE = 0.5
"""Temperature of a head trained on a few texts per label, which is underconfident."""
TUNED_TEMPERATURE = 1.0
"""The same for a tuned encoder; with 16 texts per label of three tasks 0.7 to 1.7 was best."""
ZERO_GOLD_TEMPERATURE = 0.25
"""The same for a head without gold; on three tasks 0.14 to 0.34 was best."""
IN_SCOPE = 0.95
"""The share of gold and unlabelled texts that are not to be called out of scope."""
_MOST_VECTORS = 1000
_SAME = 1e-6
# How far the numbers of a head are stretched.
_SLOPES = (0.5, 4.0)
_LOG_BOUNDS = (np.log(0.05), np.log(10.0))


def fold_of(
    labels: Ints, seed: int, folds: int = FOLDS, texts: Sequence[Hashable] | None = None
) -> Ints:
    """Assigns the texts of each label to folds; returns each text's fold, shape (n,).

    Args:
        labels: Label indices, shape (n,).
        seed: Of the assignment.
        folds: How many.
        texts: Repetitions of one text share a fold: one of them held out must not be known from
            the other. All count as different when None.
    """
    rng = np.random.default_rng(seed)
    out = np.zeros(len(labels), dtype=np.int64)
    rows_at = np.arange(len(labels))
    at: dict[Hashable, int] = {}
    first = np.array([at.setdefault(t, i) for i, t in enumerate(texts)]) if texts else rows_at
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero((labels == label) & (first == rows_at)))
        # Where a label has fewer texts than folds, they do not all fall into the first ones.
        out[rows] = (np.arange(len(rows)) + rng.integers(folds)) % folds
    found: Ints = out[first]
    return found


def out_of_fold_logits(
    data: Labelled,
    gold_ids: Sequence[str],
    shot_ids: Sequence[Sequence[str] | None],
    judge: Judge,
    seed: int,
    folds: int = FOLDS,
    most: int | None = None,
) -> tuple[Ints, Floats]:
    """Out-of-fold logits of gold, from heads fitted without it and the texts generated from it.

    Args:
        data: Gold first, then synthetic text.
        gold_ids: Of the first rows.
        shot_ids: For each synthetic text, the gold that its prompt showed.
        judge: Fits to some rows and gives the logits of others.
        seed: Of the folds.
        folds: How many the texts are split into.
        most: How many of them are held out in turn; all when None.

    Returns:
        The rows of gold that were held out, shape (m,), and their logits, shape (m, outputs).
    """
    golds = len(gold_ids)
    # Of a pair that is compared, the second text's tokens stand by themselves.
    texts = [(*row["input_ids"], -1, *row.get("second_input_ids", ())) for row in data.rows[:golds]]
    of_fold = fold_of(data.targets[:golds].argmax(axis=1), seed, folds, texts)
    out = np.zeros((golds, data.targets.shape[1]))
    held_out = np.unique(of_fold)[:most]
    for fold in held_out:
        rows = np.flatnonzero(of_fold == fold)
        held = {gold_ids[int(i)] for i in rows}
        free = [held.isdisjoint(shots or ()) for shots in shot_ids]
        keep = np.flatnonzero(np.concatenate([of_fold != fold, np.array(free, dtype=bool)]))
        if len(keep):
            out[rows] = judge(keep, rows)
    judged = np.flatnonzero(np.isin(of_fold, held_out))
    return judged, out[judged]


def fit_temperature(
    logits: Floats, targets: Floats, space: LabelSpace, typical: float = TYPICAL_TEMPERATURE
) -> float:
    """Fits the temperature that logits are divided by (Guo et al. 2017).

    Minimises the negative log-likelihood plus (log T - log T0)^2: a dozen texts that all happen
    to be right would otherwise drive T to 0.

    Args:
        logits: Of classes or tags, shape (n, labels).
        targets: `LabelSpace.codes` of the labels.
        space: The labels.
        typical: T0 of classes; that of tags is 1.
    """
    classes = space.kind == "classification"
    typical = typical if classes else 1.0

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        fit = (
            -(targets * log_softmax(scaled, axis=1)).sum()
            if classes
            else -log_expit(np.where(targets > 0, scaled, -scaled)).sum()
        )
        return float(fit + (log_temperature - np.log(typical)) ** 2)

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_BOUNDS, method="bounded").x))


def calibrate(
    head: Head,
    logits: Floats,
    targets: Floats,
    space: LabelSpace,
    typical: float = TYPICAL_TEMPERATURE,
) -> tuple[Head, list[tuple[float, bool]]]:
    """Calibrates a head's probabilities; their order stays as it is.

    Args:
        head: What to calibrate.
        logits: Of gold, from heads that have not seen it, shape (n, outputs).
        targets: `LabelSpace.codes` of gold.
        space: The labels.
        typical: T0, the mode of the prior on the temperature.

    Returns:
        The calibrated head; and of each text of gold, but for numbers, how probable the decision
        on it is and whether it is right.
    """
    if space.kind == "regression":
        slope, centre = _line(logits[:, 0], targets[:, 0])
        return Head(head.weight * slope, (head.bias - centre[0]) * slope + centre[1]), []
    temperature = fit_temperature(logits, targets, space, typical)
    found = space.from_logits(logits / temperature)
    decided = space.decide(found)
    sure = np.where(decided > 0, found, 1 - found).min(axis=1)
    if space.kind == "classification":
        sure = found.max(axis=1)
    right = (decided == targets).all(axis=1)
    return head.scaled(temperature), list(zip(sure.tolist(), right.tolist(), strict=True))


def _line(predicted: Floats, true: Floats) -> tuple[float, tuple[float, float]]:
    """Least squares of true numbers on predicted ones: the slope, and a point on the line."""
    centre = float(predicted.mean()), float(true.mean())
    spread = float(((predicted - centre[0]) ** 2).sum())
    common = float(((predicted - centre[0]) * (true - centre[1])).sum())
    # Numbers that are predicted no better than chance keep their order all the same.
    return float(np.clip(common / max(spread, 1e-12), *_SLOPES)), centre


def scope_of(
    vectors: Floats,
    gold_ids: Sequence[str],
    shot_ids: Sequence[Sequence[str] | None],
    unlabelled: Floats,
    seed: int,
) -> Scope:
    """Finds how far from what a classifier has learnt its own kind of text can lie.

    Distances are means over the five nearest texts (Sun et al. 2022). A gold text is compared
    with all but itself, its repetitions and what was written after it, and an unlabelled one with
    all that was learnt.

    Args:
        vectors: Of what was learnt, gold first, shape (n, width).
        gold_ids: Of the first rows.
        shot_ids: For each of the others, the gold that its prompt showed.
        unlabelled: Vectors of texts that were not learnt, shape (m, width).
        seed: Of the choice of texts to keep where there are many.
    """
    golds = len(gold_ids)
    others = golds + np.random.default_rng(seed).permutation(len(vectors) - golds)
    rows = np.concatenate([np.arange(golds), others])[: max(golds, _MOST_VECTORS)]
    distances = distances_between(vectors[:golds], vectors[rows])
    place = {id_: row for row, id_ in enumerate(gold_ids)}
    for at, row in enumerate(rows[golds:], start=golds):
        shown = [place[id_] for id_ in shot_ids[row - golds] or () if id_ in place]
        # Of what all gold was shown for, nothing would be left.
        if len(shown) < golds / 2:
            distances[shown, at] = np.inf
    distances[distances < _SAME] = np.inf
    known = Scope(vectors[rows].astype(np.float32), 0.0)
    own = nearest_distances(
        np.where(
            np.isinf(distances), distances.max(initial=0, where=np.isfinite(distances)), distances
        )
    )
    far = np.concatenate([own, known.distances(unlabelled)]) if len(unlabelled) else own
    return Scope(known.vectors, float(np.quantile(far, IN_SCOPE, method="higher")))
