r"""Chooses, for each label, the texts whose mean gradient is nearest to gold's.

With a text's gradients at all checkpoints in one vector aᵢ, each checkpoint divided by the length
of gold's goal there, and g gold's goals divided alike, texts are added one at a time: the one after
which the mean is nearest to gold's,

    minimise  ‖ (s + aᵢ)/(t + 1) − g ‖²

with s the sum over the t chosen so far. Only inner products are needed, and
aᵢ·aⱼ = Σ_c (r_ci·r_cj)(hᵢ·hⱼ)/‖g_c‖².

Source: Nguyen et al. (2025), arXiv 2502.17607, for the objective; Welling (2009), Herding
dynamical weights to learn, for the greedy mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from japagen.curation.label_check import label_indices
from japagen.examples import Dataset, Rejection
from japagen.gradmm.privacy import private_target
from japagen.gradmm.target import (
    GradientTarget,
    Ints,
    deal_texts,
    extended_shots,
    gold_targets,
    residuals,
)
from japagen.running.stage_runner import StageRunner, fingerprint_of
from japagen.tasks.gradmm_settings import Selection
from japagen.tasks.tasks import Task

FILTER = "gradient_selection"


def select_texts(
    task: Task,
    dataset: Dataset,
    gold: Dataset | None,
    vectors: Sequence[npt.NDArray[np.floating]],
    stages: StageRunner,
) -> Dataset:
    """Rejects what was not chosen; without ``selection.per_label`` nothing changes.

    Args:
        task: Settings and labels.
        dataset: Examples with the labels that they are to be trained with.
        gold: Training gold.
        vectors: Of gold and of the examples, in this order; more may follow.
        stages: Where the result is kept.
    """
    from japagen.training.encoders import encoder_identity

    settings = task.selection
    if settings.per_label is None or gold is None:
        return dataset
    labels = list(task.labels)
    fingerprint = {
        "examples": dataset.fingerprint,
        "gold": fingerprint_of(gold),
        "selection": settings.model_dump(mode="json"),
        "encoder": encoder_identity(task.training.encoder),
        "labels": labels,
        "seed": task.seed,
    }

    def make() -> Dataset:
        known = (dataset, gold, vectors[1], vectors[0], labels)
        return select_by_gradient(*known, settings=settings, seed=task.seed)

    return stages.dataset("select", "selected.parquet", fingerprint, make)


def select_by_gradient(
    dataset: Dataset,
    gold: Dataset,
    vectors: npt.NDArray[np.floating],
    gold_vectors: npt.NDArray[np.floating],
    labels: Sequence[str],
    *,
    settings: Selection,
    seed: int = 0,
) -> Dataset:
    """Rejects the texts that are not among those whose mean gradient is nearest to gold's.

    No text is chosen by all of gold: see `japagen.gradmm.target`. With privacy it is, since every
    look at gold would cost.

    Args:
        dataset: Synthetic examples of any origin, some of them rejected already.
        gold: Training gold.
        vectors: Frozen encoder vectors of the examples, shape (n, d).
        gold_vectors: Of gold, shape (m, d).
        labels: Every label.
        settings: How many of each label are chosen, and how.
        seed: The one that shots were drawn with. Private noise is never seeded: it must not be
            drawn again.

    Returns:
        The same rows. Those that were chosen descend from the gold that they were chosen by, where
        the choice is not private. Deterministic but for private noise.

    Raises:
        JapagenError: If a row has another label.
        MissingExtraError: If privacy is asked for and its accountant is not installed.
    """
    kept = np.flatnonzero(dataset.kept_mask)
    if not len(kept):
        return dataset
    texts, own = dataset.take(kept), vectors[kept]
    asked, true = label_indices(texts, labels), label_indices(gold, labels)
    known = (gold_vectors, true, own, asked, len(labels))
    if settings.privacy is not None:
        targets = [private_target(*known, settings.privacy)]
    else:
        targets = gold_targets(gold, *known, seed=seed)
    dealt = deal_texts(texts, asked, targets, seed)
    shots, requests = dataset.column("shot_ids"), dataset.column("request_id")
    chosen: set[int] = set()
    for label in range(len(labels)):
        groups = [np.flatnonzero((asked == label) & (dealt == n)) for n in range(len(targets))]
        # As many of each target as its share of the label's texts, and all together as wanted.
        ends = np.cumsum([len(mine) for mine in groups])
        wanted = min(settings.per_label or len(texts), int(ends[-1]))
        quotas = np.diff(ends * wanted // max(int(ends[-1]), 1), prepend=0)
        for mine, quota, target in zip(groups, quotas, targets, strict=True):
            for row in kept[mine[choose(target, own[mine], label, int(quota))]].tolist():
                chosen.add(row)
                shots[row] = extended_shots(shots[row], requests[row], target.ids[label])
    detail = f"{len(chosen)} of {len(kept)} texts were chosen"
    rejections = dataset.rejections
    for row in set(kept.tolist()) - chosen:
        rejections[row] = Rejection(FILTER, 0.0, float(len(chosen)), detail)
    return dataset.with_rejections(rejections).with_columns(shot_ids=shots)


def choose(
    target: GradientTarget, vectors: npt.NDArray[np.floating], label: int, wanted: int
) -> Ints:
    """The rows of ``wanted`` texts of one label, no more than there are, in order of choice."""
    features = target.scaling(vectors)
    left = residuals(target.heads, features, np.full(len(features), label))
    products, goals = features @ features.T, target.goals[:, label]
    lengths = (goals**2).sum(axis=(1, 2))
    # aᵢ·aⱼ and aᵢ·g, checkpoints averaged.
    gram, pull = np.zeros(products.shape), np.zeros(len(features))
    for c in np.flatnonzero(lengths):
        gram += (left[c] @ left[c].T) * products / lengths[c]
        pull += ((left[c] @ goals[c]) * features).sum(axis=1) / lengths[c]
    # Of the sum so far, its inner product with every text; its own length is the same for all.
    with_sum, own = np.zeros(len(features)), np.diag(gram)
    free = np.ones(len(features), dtype=bool)
    chosen: list[int] = []
    for step in range(1, min(wanted, len(features)) + 1):
        distance = (2 * with_sum + own) / step**2 - 2 * pull / step
        chosen.append(int(np.where(free, distance, np.inf).argmin()))
        free[chosen[-1]] = False
        with_sum = with_sum + gram[chosen[-1]]
    return np.array(chosen, dtype=np.int64)
