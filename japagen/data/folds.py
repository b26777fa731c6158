"""Splits gold into blocks, so that the gold behind a text can be kept apart from the rest.

Shots are drawn from as few blocks of a label as hold them, and cross-validation holds out whole
blocks: a synthetic text then judges the blocks that its prompt did not touch.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np
import numpy.typing as npt

from japagen.data.dataset import Dataset

# Many small blocks: of n texts with s shown, whole blocks leave up to 1 - s/n of them untouched,
# and a fold that holds out one block of eight still trains on seven eighths of the gold.
BLOCKS = 8
# Labels with fewer texts show all they have in every prompt: there is nothing to hold out.
LEAST_TO_HOLD_OUT = 4


def gold_blocks(gold: Dataset, seed: int) -> dict[str, int]:
    """Assigns each label's texts to at most `BLOCKS` blocks of sizes that differ by one at most.

    The deal depends on ids, labels and the seed, not on the order of rows. Repetitions of one
    text share a block: one of them held out must not be known from the other.

    Args:
        gold: Labelled texts.
        seed: Of the deal.

    Returns:
        Id to the number of its block within its label, from 0.
    """
    copies: dict[tuple[str, str, str | None], list[str]] = defaultdict(list)
    columns = (gold.column(name) for name in ("text", "text_pair", "id"))
    for label, text, pair, id_ in zip(gold.labels, *columns, strict=True):
        copies[str(label), text, pair].append(id_)
    by_label: dict[str, list[list[str]]] = defaultdict(list)
    for (label, _, _), ids in copies.items():
        by_label[label].append(sorted(ids))
    found = {}
    for label, groups in by_label.items():
        groups.sort(key=lambda ids: hash_rank(f"{seed}/blocks/{label}/{ids[0]}"))
        number = min(BLOCKS, len(groups))
        found.update({id_: at % number for at, ids in enumerate(groups) for id_ in ids})
    return found


def hash_rank(key: str) -> str:
    """A key's place in an order that looks random and depends on nothing else."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def assign_folds(targets: npt.NDArray[np.int64], count: int, seed: int) -> npt.NDArray[np.int64]:
    """Deals rows into folds at random, each label evenly; shape (rows,)."""
    order = np.random.default_rng(seed).permutation(len(targets))
    order = order[np.argsort(targets[order], kind="stable")]
    folds = np.empty(len(targets), dtype=np.int64)
    folds[order] = np.arange(len(targets)) % count
    return folds
