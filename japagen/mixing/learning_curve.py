"""Label-equivalent value of synthetic text, from gold that mixes of both are cross-validated on.

It is read off the saturation curve of synthetic text and the learning curve of gold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from japagen.data.dataset import LEAST_TO_HOLD_OUT, Dataset, gold_blocks
from japagen.data.labels import Floats, Ints, label_indices
from japagen.data.summary import Curves, Point, Worth
from japagen.evaluation.metrics import macro_f1

if TYPE_CHECKING:
    from japagen.training.trainer import FrozenTraining


# Fits to vectors, their targets and their weights in gold texts, and gives the probabilities of
# other vectors.
FitHead = Callable[[Floats, Ints, Floats, Floats], Floats]


@dataclass(frozen=True)
class Split:
    """Held-out gold, and the rows that may be trained on.

    Attributes:
        train: Rows of gold.
        held: Rows of gold.
        usable: Rows of the synthetic set with none of the held ones in their lineage.
    """

    train: Ints
    held: Ints
    usable: Ints


def split_gold(
    gold: Dataset, synthetic: Dataset, seed: int, repeats: int
) -> list[tuple[Split, ...]]:
    """Cross-validation splits; each repeat holds out every gold text once.

    The blocks are those that shots were drawn from. Every repeat pairs the blocks of the
    labels differently: a text is generated from gold of its own label only, so that the folds of
    the repeats differ although no block is ever split.

    Args:
        gold: Gold; its order does not matter.
        synthetic: Rows with ``shot_ids``; rejected ones are never usable, nor are those of later
            rounds, which were asked for by what all of gold has and the first round lacked.
        seed: The seed that shots were drawn with.
        repeats: Number of repeats.

    Returns:
        For each repeat its splits, without those that would hold out nothing.
    """
    blocks = gold_blocks(gold, seed)
    ids = gold.column("id")
    block = np.array([blocks[id_] for id_ in ids])
    labels = np.array([str(label) for label in gold.labels])
    touches = _touches(ids, synthetic)
    kept = synthetic.kept_mask & (np.array(synthetic.column("round")) == 0)
    names = sorted(set(labels.tolist()))
    # No more folds than blocks: each then holds out texts of as many labels as can be.
    number = int(block.max(initial=0)) + 1
    found = []
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        fold = np.empty(len(ids), dtype=np.int64)
        for name in names:
            of_label = labels == name
            fold[of_label] = rng.permutation(number)[block[of_label]]
        splits = []
        for at in range(number):
            held = np.flatnonzero(fold == at)
            if len(held):
                usable = np.flatnonzero(kept & ~touches[:, held].any(axis=1))
                splits.append(Split(np.flatnonzero(fold != at), held, usable))
        found.append(tuple(splits))
    return found


def _touches(
    ids: Sequence[str], synthetic: Dataset
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Shape (synthetic, gold): whether a gold text is in the lineage of a synthetic one."""
    at = {id_: column for column, id_ in enumerate(ids)}
    out = np.zeros((len(synthetic), len(ids)), dtype=bool)
    for row, shots in enumerate(synthetic.column("shot_ids")):
        for shot in shots:
            if shot in at:
                out[row, at[shot]] = True
    return out


@dataclass(frozen=True)
class Fold:
    """One split of gold, with the rows to train on by label, in random order.

    Attributes:
        split: Which rows are on which side.
        gold_order: Rows of `split.train`.
        order: Rows of `split.usable`.
    """

    split: Split
    gold_order: tuple[Ints, ...]
    order: tuple[Ints, ...]


@dataclass(frozen=True)
class Evidence:
    """Gold and synthetic vectors with the folds of every repeat.

    Attributes:
        gold: Shape (n, d).
        gold_targets: Shape (n,): label indices.
        synthetic: Shape (m, d).
        targets: Shape (m,): label indices of the synthetic texts.
        mass: Shape (m,): gold texts that each synthetic text counts for.
        sources: Shape (m,): name of each synthetic text's source.
        labels: Number of labels.
        repeats: The folds of each repeat.
        head: How a head is fitted.
    """

    gold: Floats
    gold_targets: Ints
    synthetic: Floats
    targets: Ints
    mass: Floats
    sources: Sequence[str]
    labels: int
    repeats: tuple[tuple[Fold, ...], ...]
    head: FitHead

    def predict(
        self, part: float, per_label: int | None = None, source: str | None = None
    ) -> Floats:
        """Classifies each gold text by heads trained without it and the texts generated from it.

        Args:
            part: Part of each label's synthetic texts to use, 0 to 1; a smaller part lies
                within a larger one.
            per_label: Gold texts per label to train on; all that the fold has when None.
            source: The only source to use; every source when None.

        Returns:
            Probabilities, shape (repeats, n, labels).
        """
        own = np.array([source in (None, name) for name in self.sources], dtype=bool)
        out = np.zeros((len(self.repeats), len(self.gold), self.labels))
        for repeat, folds in enumerate(self.repeats):
            for fold in folds:
                train = np.concatenate([rows[:per_label] for rows in fold.gold_order])
                usable = [rows[own[rows] & (self.mass[rows] > 0)] for rows in fold.order]
                used = np.concatenate([rows[: int(np.ceil(part * len(rows)))] for rows in usable])
                held = fold.split.held
                out[repeat, held] = self.head(
                    np.concatenate([self.gold[train], self.synthetic[used]]),
                    np.concatenate([self.gold_targets[train], self.targets[used]]),
                    np.concatenate([np.ones(len(train)), self.mass[used]]),
                    self.gold[held],
                )
        return out


def gather(
    gold: Dataset,
    synthetic: Dataset,
    labels: Sequence[str],
    vectors: tuple[Floats, Floats],
    *,
    text_weight: float,
    seed: int,
    repeats: int,
    head: FitHead,
) -> Evidence:
    """Splits gold so that no held-out text is scored by a head that saw texts generated from it.

    Labels and weights of synthetic texts were derived from all of gold. That leaks a little about
    the held-out part, so the curves are slightly too good for synthetic text.

    Args:
        gold: Gold.
        synthetic: Kept synthetic examples with their weights.
        labels: Every label.
        vectors: Vectors of gold and of synthetic, in the rows' order.
        text_weight: Gold texts that a synthetic text counts for on average.
        seed: The seed that shots were drawn with.
        repeats: Number of repeats.
        head: How the heads that are compared are fitted.
    """
    gold_targets, targets = label_indices(gold, labels), label_indices(synthetic, labels)
    ranks = _ranks(gold), _ranks(synthetic)
    made = []
    for repeat, splits in enumerate(split_gold(gold, synthetic, seed, repeats)):
        folds = []
        for split in splits:
            rng = np.random.default_rng([seed, repeat, int(split.held.min())])
            sides = (split.train, gold_targets, ranks[0]), (split.usable, targets, ranks[1])
            gold_order, order = (
                _shuffled(rows, own[rows], rank[rows], rng, len(labels))
                for rows, own, rank in sides
            )
            folds.append(Fold(split, gold_order, order))
        made.append(tuple(folds))
    return Evidence(
        gold=vectors[0],
        gold_targets=gold_targets,
        synthetic=vectors[1],
        targets=targets,
        mass=np.asarray(text_weight * synthetic.weights, dtype=np.float64),
        sources=synthetic.column("source"),
        labels=len(labels),
        repeats=tuple(made),
        head=head,
    )


def _ranks(dataset: Dataset) -> Ints:
    """Each row's place among the ids, so that draws do not depend on the order of rows."""
    return np.argsort(np.argsort(np.array(dataset.column("id"))))


def _shuffled(
    rows: Ints, targets: Ints, ranks: Ints, rng: np.random.Generator, labels: int
) -> tuple[Ints, ...]:
    """The rows of each label in random order."""
    order = np.argsort(ranks)
    rows, targets = rows[order], targets[order]
    return tuple(rng.permutation(rows[targets == label]) for label in range(labels))


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
    trained = np.array([len(rows) for fold in folds for rows in fold.gold_order])
    sizes = _sizes(int(trained.max()))
    by_gold = [judge(evidence.predict(0.0, size), targets) for size in sizes]
    by_part = [judge(evidence.predict(part), targets) for part in _PARTS]
    base = float(trained.mean())
    usable = float(np.mean([len(rows) for fold in folds for rows in fold.order]))
    draws = _draws(targets, len(evidence.repeats), seed)
    places = [float(np.minimum(trained, size).mean()) for size in sizes]
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
        (frozen.features(gold), frozen.features(kept)),
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
