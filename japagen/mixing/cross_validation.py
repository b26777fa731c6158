"""Cross-validation on gold with synthetic text beside it, for learning curves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from japagen.examples import Dataset
from japagen.mixing.descent import Split, split_gold
from japagen.mixing.linear_head import FitHead, Floats, Ints

Progress = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass(frozen=True)
class Fold:
    """One split of gold.

    Attributes:
        split: Which rows are on which side.
        gold_order: Rows of `split.train`, by label, in random order.
        order: Rows of `split.usable`, by label, in random order.
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
        """Classifies each gold text by heads that saw neither it nor its descendants.

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
    """Splits gold so that no held-out text meets a synthetic text that descends from it.

    Labels and weights of synthetic texts are what all of gold made of them: a fold is told that
    much of what it holds out, and the curves flatter synthetic text by it.

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
    at = {label: index for index, label in enumerate(labels)}
    gold_targets = np.array([at[label] for label in gold.labels])
    targets = np.array([at[label] for label in synthetic.labels], dtype=np.int64)
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
