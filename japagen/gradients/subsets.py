r"""Gold's gradients without a part of gold, so that no text is matched to all of it.

Cross-validation on gold leaves out every text that descends from what it holds out. A text that
was chosen or changed by all of gold would be left out of every fold. Here some targets each leave
out a quarter of the blocks (`japagen.folds`) of every label, and each text is matched to one of
them: of its label, it then descends from the gold of that target alone.

A target's goal for a label is the mean gradient of that label's gold; the heads that gradients are
taken at are trained on the texts themselves. With heads trained on gold, a text would descend from
the gold of all labels, and next to no fold could use it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from japagen.examples import Dataset
from japagen.folds import LEAST_TO_HOLD_OUT, gold_blocks
from japagen.gradients.target import GradientTarget, Ints, Scaling, descend, goals_of

TARGETS = 4
"""Targets that texts are dealt to; each leaves out one in so many of a label's blocks."""


@dataclass(frozen=True)
class Subset:
    """A target with a part of gold.

    Attributes:
        target: Gradients of the gold that it has.
        ids: For each label, the ids of this gold.
        left_out: For each label, the ids of the other gold.
    """

    target: GradientTarget
    ids: tuple[tuple[str, ...], ...]
    left_out: tuple[frozenset[str], ...]


def gold_subsets(
    gold: Dataset,
    vectors: npt.NDArray[np.floating],
    labels: Ints,
    texts: npt.NDArray[np.floating],
    text_labels: Ints,
    names: int,
    *,
    seed: int = 0,
) -> list[Subset]:
    """Makes the targets.

    Args:
        gold: Labelled texts.
        vectors: Encoder vectors of gold, shape (m, d).
        labels: Gold's label indices, shape (m,).
        texts: Vectors of the texts that are to be matched, shape (n, d); at least one.
        text_labels: Their label indices.
        names: Number of labels.
        seed: The one that shots were drawn with.
    """
    scaling = Scaling.of(np.asarray(texts, dtype=np.float64))
    heads = descend(scaling(texts), text_labels, names)
    places = _places(gold, labels, seed)
    ids = np.array(gold.column("id"), dtype=object)
    found = []
    for number in range(TARGETS):
        has = np.array([number not in place for place in places])
        target = goals_of(vectors[has], labels[has], scaling, heads)
        rows = [labels == label for label in range(names)]
        found.append(
            Subset(
                target,
                tuple(tuple(ids[mine & has].tolist()) for mine in rows),
                tuple(frozenset(ids[mine & ~has].tolist()) for mine in rows),
            )
        )
    return found


def _places(gold: Dataset, labels: Ints, seed: int) -> list[Collection[int]]:
    """For each gold text, the targets that leave it out."""
    blocks = gold_blocks(gold, seed)
    own = np.array([blocks[id_] for id_ in gold.column("id")], dtype=np.int64)
    found: list[Collection[int]] = [()] * len(own)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        parts = min(TARGETS, int(own[rows].max()) + 1)
        if parts < 2 or len(rows) < LEAST_TO_HOLD_OUT:
            continue  # nothing can be held out anyhow
        for row in rows:
            found[row] = [n for n in range(TARGETS) if n % parts == own[row] % parts]
    return found


def deal_texts(
    ids: Sequence[str],
    labels: Ints,
    shots: Sequence[Collection[str]],
    subsets: Sequence[Subset],
    seed: int = 0,
) -> Ints:
    """Deals texts to the targets, each label evenly.

    A text goes to the target that leaves out what its prompt has shown least of, so that some
    fold can still use it.

    Args:
        ids: Of the texts.
        labels: Their label indices.
        shots: For each text, the ids of gold that it descends from.
        subsets: The targets.
        seed: Of the order in which texts take their turns.

    Returns:
        For each text the number of its target; it does not depend on the order of the texts.
    """

    def rank(row: int) -> str:
        key = f"{seed}/targets/{ids[row]}"
        return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()

    dealt = np.zeros(len(ids), dtype=np.int64)
    taken: Counter[tuple[int, int]] = Counter()
    for row in sorted(range(len(ids)), key=rank):
        label = int(labels[row])
        shown = set(shots[row])
        costs = [len(shown & subset.left_out[label]) for subset in subsets]
        best = min(range(len(subsets)), key=lambda n: (costs[n], taken[label, n], n))
        taken[label, best] += 1
        dealt[row] = best
    return dealt


def extended_shots(shots: Sequence[str], request_id: str | None, ids: Collection[str]) -> list[str]:
    """What a text descends from once it was matched to gold.

    Args:
        shots: What it descended from before.
        request_id: Of the request that produced it.
        ids: The gold that it was matched to.

    Returns:
        Both; nothing where nobody knows what the text was written from, which must not look
        like a text of known descent.
    """
    if not shots and request_id is None:
        return []
    return list(dict.fromkeys([*shots, *ids]))
