"""Gold and synthetic rows with vectors whose usefulness is known."""

from __future__ import annotations

from functools import cache

import numpy as np
from sklearn.linear_model import LogisticRegression

from japagen.data.dataset import Dataset, Example, gold_blocks
from japagen.data.labels import Floats, Ints
from japagen.mixing.learning_curve import Evidence, gather

LABELS = ["赤", "青", "黄"]
WIDTH = 24


def _vectors(labels: list[str], rng: np.random.Generator, noise: float) -> Floats:
    centres = np.random.default_rng(7).normal(size=(len(LABELS), WIDTH))
    rows = np.array([LABELS.index(label) for label in labels])
    return np.asarray(centres[rows] + noise * rng.normal(size=(len(rows), WIDTH)))


def gold_set(per_label: int) -> Dataset:
    return Dataset.of(
        Example(f"{label}の文{n}", label, id=f"g-{label}-{n}", split="train")
        for n in range(per_label)
        for label in LABELS
    )


def synthetic_set(gold: Dataset, per_label: int, seed: int = 0) -> Dataset:
    """Texts whose shots come from five of their label's blocks."""
    rng = np.random.default_rng(seed)
    blocks = gold_blocks(gold, seed)
    rows = []
    for label in LABELS:
        own = [e.id for e in gold if e.label == label]
        number = max(blocks[i] for i in own) + 1
        for n in range(per_label):
            shown = set(rng.choice(number, size=max(1, number * 5 // 8), replace=False).tolist())
            shots = tuple(i for i in own if blocks[i] in shown)
            rows.append(
                Example(
                    f"{label}の合成{n}",
                    label,
                    id=f"s-{label}-{n}",
                    request_id=f"r-{n}",
                    shot_ids=shots,
                )
            )
    return Dataset.of(rows)


def vectors_of(
    gold: Dataset, synthetic: Dataset, kind: str, noise: float = 2.0
) -> tuple[Floats, Floats]:
    """Vectors of both: synthetic ones as good as gold, or of labels drawn at random."""
    rng = np.random.default_rng(1)
    labels = list(synthetic.labels)
    if kind == "random":
        rng.shuffle(labels)
    return _vectors(gold.labels, rng, noise), _vectors(labels, rng, noise)


@cache
def planted(kind: str, per_label: int = 16, synthetic: int = 100, repeats: int = 1) -> Evidence:
    gold = gold_set(per_label)
    made = synthetic_set(gold, synthetic)
    return gather(
        gold,
        made,
        LABELS,
        vectors_of(gold, made, kind),
        text_weight=0.1,
        seed=0,
        repeats=repeats,
        head=_head,
    )


def _head(vectors: Floats, targets: Ints, weights: Floats, others: Floats) -> Floats:
    """Multinomial logistic regression; its penalty acts alike whatever the width."""
    present = weights > 0
    vectors, targets, weights = vectors[present], targets[present], weights[present]
    out = np.zeros((len(others), len(LABELS)))
    seen = np.unique(targets)
    if not len(others):
        return out
    if len(seen) < 2:
        out[:, seen] = 1.0
        return out
    centre = np.average(vectors, axis=0, weights=weights)
    scale = np.sqrt(np.average((vectors - centre) ** 2, axis=0, weights=weights)) + 1e-6
    head = LogisticRegression(C=10 / vectors.shape[1], max_iter=500)
    head.fit((vectors - centre) / scale, targets, sample_weight=weights)
    out[:, head.classes_] = head.predict_proba((others - centre) / scale)
    return out
