"""What cross-validation of a mix needs: vectors, targets, and every fold's own weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from japagen.examples import Dataset
from japagen.mixing.descent import Split, split_gold
from japagen.mixing.linear_head import FitHead, Floats, Ints, head_probabilities, loss_mass
from japagen.mixing.mix import Mix

# Weights synthetic rows by trust and alignment, given a fold's training gold and its judge's
# probability of every synthetic row's label.
Weigh = Callable[[Dataset, Dataset, Floats], Floats]
Progress = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass(frozen=True)
class Fold:
    """One split with everything that was learnt from its training gold.

    Attributes:
        split: Which rows are on which side.
        targets: Shape (usable,): label index of each usable synthetic row, as the training
            gold alone would settle it.
        weights: Shape (usable,): weight of each usable synthetic row, mean 1.
        gold_order: Rows of `split.train`, by label, in random order.
        order: Positions in `split.usable`, by label, in random order.
    """

    split: Split
    targets: Ints
    weights: Floats
    gold_order: tuple[Ints, ...]
    order: tuple[Ints, ...]

    def choose(self, mix: Mix) -> Ints:
        """The positions in `split.usable` that a mix takes."""
        if mix.share == 0:
            return np.zeros(0, dtype=np.int64)
        taken = []
        for rows in self.order:
            if not mix.at_random:
                rows = rows[np.argsort(-self.weights[rows], kind="stable")]
            taken.append(rows[: int(np.ceil(mix.part * len(rows)))])
        return np.concatenate(taken)


@dataclass(frozen=True)
class Evidence:
    """Gold and synthetic vectors with the folds of every repeat.

    Attributes:
        gold: Shape (n, d).
        gold_targets: Shape (n,): label indices.
        synthetic: Shape (m, d).
        labels: Number of labels.
        repeats: The folds of each repeat.
        head: How a head is fitted; None for logistic regression alone.
    """

    gold: Floats
    gold_targets: Ints
    synthetic: Floats
    labels: int
    repeats: tuple[tuple[Fold, ...], ...]
    head: FitHead | None = None

    def predict(self, mix: Mix, per_label: int | None = None) -> Floats:
        """Classifies each gold text by heads that saw neither it nor its descendants.

        Args:
            mix: What of the synthetic texts to use, and how much it weighs.
            per_label: Gold texts a label to train on; all that the fold has when None.

        Returns:
            Probabilities, shape (repeats, n, labels).
        """
        out = np.zeros((len(self.repeats), len(self.gold), self.labels))
        for repeat, folds in enumerate(self.repeats):
            for fold in folds:
                train = np.concatenate([rows[:per_label] for rows in fold.gold_order])
                which = fold.choose(mix)
                used = fold.split.usable[which]
                vectors = np.concatenate([self.gold[train], self.synthetic[used]])
                targets = np.concatenate([self.gold_targets[train], fold.targets[which]])
                share = self.fold_share(mix, len(train), len(used))
                mass = loss_mass(len(train), fold.weights[which], share)
                held = fold.split.held
                out[repeat, held] = (
                    head_probabilities(vectors, targets, mass, self.gold[held], self.labels)
                    if self.head is None
                    else self.head(vectors, targets, mass, len(train), self.gold[held])
                )
        return out

    def fold_share(self, mix: Mix, train: int, used: int) -> float:
        """The share of a fold's loss at which each synthetic text weighs what it will in the end.

        A fold has a part of the synthetic texts. Were they to carry the share of all, each of
        them, and whatever is wrong with it, would weigh a multiple.
        """
        if mix.share in (0.0, 1.0) or not used:
            return mix.share
        of_mix = used / (mix.part * len(self.synthetic))
        odds = mix.share / (1 - mix.share) * of_mix * len(self.gold) / train
        return odds / (1 + odds)


def gather(
    gold: Dataset,
    synthetic: Dataset,
    labels: Sequence[str],
    vectors: tuple[Floats, Floats],
    weigh: Weigh,
    *,
    seed: int,
    repeats: int,
    relabel: float | None = None,
    head: FitHead | None = None,
    vouched: Collection[str] = (),
    progress: Progress = lambda folds, _: folds,
) -> Evidence:
    """Splits gold and settles and weights each fold's synthetic text from its training gold alone.

    A label that was settled with all of gold in sight would tell a fold of what it holds out, so
    each fold begins from the label asked for, unless a person has given it. Which texts were
    rejected is taken as it is.

    Args:
        gold: Gold.
        synthetic: Synthetic examples; rejected ones are not used.
        labels: Every label.
        vectors: Vectors of gold and of synthetic, in the rows' order.
        weigh: Weights synthetic text.
        seed: The seed that shots were drawn with.
        repeats: Number of repeats.
        relabel: A text gets the label that the fold's judge finds this likely; None keeps labels.
        head: How the heads that are compared are fitted; logistic regression alone if None.
        vouched: Ids of texts whose label a person has vouched for: it stays, trusted entirely.
        progress: Wraps the folds (iterable, total).
    """
    at = {label: index for index, label in enumerate(labels)}
    gold_vectors, synthetic_vectors = vectors
    gold_targets = np.array([at[label] for label in gold.labels])
    settled = np.array([at[label] for label in synthetic.labels])
    sure = np.array([id_ in vouched for id_ in synthetic.column("id")], dtype=bool)
    asked = zip(synthetic.column("label_asked"), settled, strict=True)
    begun = np.array([own if label is None else at[label] for label, own in asked])
    targets = np.where(sure, settled, begun)
    ranks = _ranks(gold), _ranks(synthetic)
    shares: Floats = np.bincount(
        settled, weights=np.asarray(synthetic.weights, dtype=np.float64), minlength=len(labels)
    ).astype(np.float64)

    def fold(place: tuple[int, Split]) -> Fold:
        repeat, split = place
        train = split.train
        seen = gold_vectors[train], gold_targets[train], np.ones(len(train))
        judged = (
            head_probabilities(*seen, synthetic_vectors[split.usable], len(labels))
            if head is None
            else head(*seen, len(train), synthetic_vectors[split.usable])
        )
        rows = np.arange(len(split.usable))
        own = targets[split.usable]
        if relabel is not None and len(own):
            best = judged.argmax(axis=1)
            own = np.where((judged[rows, best] >= relabel) & ~sure[split.usable], best, own)
        named = synthetic.take(split.usable).with_columns(label=[labels[i] for i in own])
        trust = np.where(sure[split.usable], 1.0, judged[rows, own])
        weights = weigh(named, gold.take(train), trust)
        weights = _brought_to(shares, own, weights)
        rng = np.random.default_rng([seed, repeat, int(split.held.min())])
        return Fold(
            split,
            own,
            weights,
            _in_turn(train, gold_targets[train], ranks[0][train], rng, len(labels)),
            _in_turn(
                rows,
                own,
                ranks[1][split.usable],
                rng,
                len(labels),
            ),
        )

    places = [
        (repeat, split)
        for repeat, splits in enumerate(split_gold(gold, synthetic, seed, repeats))
        for split in splits
    ]
    made: list[list[Fold]] = [[] for _ in range(repeats)]
    for place in progress(places, len(places)):
        made[place[0]].append(fold(place))
    return Evidence(
        gold_vectors,
        gold_targets,
        synthetic_vectors,
        len(labels),
        tuple(tuple(folds) for folds in made),
        head,
    )


def _ranks(dataset: Dataset) -> Ints:
    """Each row's place among the ids, so that draws do not depend on the order of rows."""
    return np.argsort(np.argsort(np.array(dataset.column("id"))))


def _brought_to(shares: Floats, targets: Ints, weights: Floats) -> Floats:
    """Gives every label its share of the weight, mean 1.

    Which texts a fold can use is chance; the labels' shares of the whole set are not.
    """
    own = np.bincount(targets, weights=weights, minlength=len(shares))
    scaled = weights * np.divide(shares, own, out=np.zeros(len(own)), where=own > 0)[targets]
    return np.asarray(scaled * (len(scaled) / max(scaled.sum(), 1e-12)), dtype=np.float64)


def _in_turn(
    rows: Ints, targets: Ints, ranks: Ints, rng: np.random.Generator, labels: int
) -> tuple[Ints, ...]:
    """The rows of each label in random order."""
    by_id = rows[np.argsort(ranks)], targets[np.argsort(ranks)]
    return tuple(rng.permutation(by_id[0][by_id[1] == label]) for label in range(labels))
