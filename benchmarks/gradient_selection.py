"""Texts chosen by gold's gradients, beside as many at random, for a head on frozen vectors.

    python benchmarks/gradient_selection.py GOLD SYNTHETIC TEST [--sizes 20] [--draws 5] [--gold 16]
    python benchmarks/gradient_selection.py GOLD SYNTHETIC TEST --quick

The files have columns text and label; SYNTHETIC has any LLM's texts, with the labels asked for. A
draw takes --gold texts per label of GOLD. Printed is the macro-F1 on TEST of the head that
`japagen.train` fits, mean and standard deviation over draws: trained on the texts alone, and with
gold, which then carries 60% of the loss. The private choice needs dp-accounting. --quick makes one
draw from 40 texts per label of each file: it shows that this runs, not what is better.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score

from japagen.config.curation import GradientPrivacy, Selection
from japagen.data.dataset import Dataset
from japagen.data.formats import read_examples
from japagen.data.labels import LabelSpace, label_indices
from japagen.gradmm.target import select_by_gradient
from japagen.training.encoder import text_vectors
from japagen.training.head import Head, Labelled, fit_head

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
SHARE = 0.4
QUICK = 40
ARMS = {"random": None, "greedy": None, "epsilon 8": 8.0, "epsilon 1": 1.0}


def first_of_each(data: Dataset, labels: Sequence[str]) -> Dataset:
    """The first texts of each label."""
    own = label_indices(data, labels)
    return data.take(np.concatenate([np.flatnonzero(own == k)[:QUICK] for k in range(len(labels))]))


def head_of(labels: Sequence[str], vectors: Floats, own: Ints, mass: Floats) -> Head:
    """The linear head that `japagen.training` fits, without descriptions of the labels."""
    space, none = LabelSpace("classification", tuple(labels)), np.zeros(0, dtype=np.int64)
    rows = Labelled([{}] * len(vectors), np.eye(len(labels))[own], mass / mass[0], [], none, space)
    return fit_head(rows, vectors, np.zeros((0, vectors.shape[1])))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name in ("gold_file", "synthetic_file", "test_file"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--sizes", default="20", help="texts chosen a label")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--gold", type=int, default=16, help="gold texts per label")
    parser.add_argument(
        "--quick", action="store_true", help=f"one draw, {QUICK} texts per label of each file"
    )
    given = parser.parse_args()
    files = (given.gold_file, given.synthetic_file, given.test_file)
    pool, texts, test = (read_examples(path, require_label=True) for path in files)
    labels = sorted({str(label) for label in pool.labels})
    if given.quick:
        given.draws = 1
        pool, texts, test = (first_of_each(data, labels) for data in (pool, texts, test))
    real, made, unseen = (v.astype(np.float64) for v in text_vectors([pool, texts, test]))
    true, asked, right = (label_indices(data, labels) for data in (pool, texts, test))
    print(f"{len(texts)} texts, {len(labels)} labels, {len(test)} test texts")

    def score(seed: int, arm: str, size: int) -> tuple[float, float]:
        rng = np.random.default_rng(seed)
        mine = [np.flatnonzero(true == k) for k in range(len(labels))]
        rows = np.concatenate([rng.permutation(own)[: given.gold] for own in mine])
        gold: Dataset = pool.take(rows)
        if arm == "random":
            each = [np.flatnonzero(asked == k) for k in range(len(labels))]
            chosen = np.concatenate([rng.permutation(own)[:size] for own in each])
        else:
            epsilon = ARMS[arm]
            privacy = None if epsilon is None else GradientPrivacy(epsilon=epsilon)
            settings = Selection(per_label=size, privacy=privacy)
            known = (texts, gold, made, real[rows], labels)
            found = select_by_gradient(*known, settings=settings, seed=seed)
            chosen = np.flatnonzero(found.kept_mask)
        ones = np.ones(len(chosen))
        mass = np.full(len(rows), (1 - SHARE) / SHARE * len(chosen) / len(rows))
        both = (
            np.concatenate([real[rows], made[chosen]]),
            np.concatenate([true[rows], asked[chosen]]),
        )
        heads = (
            head_of(labels, made[chosen], asked[chosen], ones),
            head_of(labels, both[0], both[1], np.concatenate([mass, ones])),
        )
        alone, with_gold = (
            float(f1_score(right, head.logits(unseen).argmax(axis=1), average="macro"))
            for head in heads
        )
        return alone, with_gold

    for size in map(int, given.sizes.split(",")):
        for arm in ARMS:
            scores = np.array([score(seed, arm, size) for seed in range(given.draws)])
            told = [
                f"{m:.3f} ± {s:.3f}" for m, s in zip(scores.mean(0), scores.std(0), strict=True)
            ]
            print(f"{size:4} a label  {arm:10} alone {told[0]}  with gold {told[1]}", flush=True)


if __name__ == "__main__":
    main()
