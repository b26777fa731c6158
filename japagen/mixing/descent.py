"""Which synthetic texts may stand beside which held-out gold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from japagen.examples import Dataset
from japagen.folds import BLOCKS, gold_blocks
from japagen.mixing.linear_head import Ints


@dataclass(frozen=True)
class Split:
    """Gold held out, and what may be learnt from meanwhile.

    Attributes:
        train: Rows of gold.
        held: Rows of gold.
        usable: Rows of the synthetic set that descend from none of the held ones.
    """

    train: Ints
    held: Ints
    usable: Ints


def split_gold(
    gold: Dataset, synthetic: Dataset, seed: int, repeats: int
) -> list[tuple[Split, ...]]:
    """Cross-validation splits, each gold text held out once a repeat.

    The blocks are those that shots were drawn from. Every repeat pairs the blocks of the
    labels anew: text of a label descends from that label's gold alone, so that the folds of
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
    found = []
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        fold = np.empty(len(ids), dtype=np.int64)
        for name in names:
            of_label = labels == name
            fold[of_label] = rng.permutation(BLOCKS)[block[of_label]]
        splits = []
        for number in range(BLOCKS):
            held = np.flatnonzero(fold == number)
            if len(held):
                usable = np.flatnonzero(kept & ~touches[:, held].any(axis=1))
                splits.append(Split(np.flatnonzero(fold != number), held, usable))
        found.append(tuple(splits))
    return found


def _touches(
    ids: Sequence[str], synthetic: Dataset
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Shape (synthetic, gold): whether a text descends from a gold text."""
    at = {id_: column for column, id_ in enumerate(ids)}
    out = np.zeros((len(synthetic), len(ids)), dtype=bool)
    for row, shots in enumerate(synthetic.column("shot_ids")):
        for shot in shots:
            if shot in at:
                out[row, at[shot]] = True
    return out
