"""Cross-validates mixes of gold and synthetic text on gold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from japagen.data.dataset import Dataset, gold_blocks
from japagen.data.labels import label_indices

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
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
