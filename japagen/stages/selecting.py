"""Chooses what to train on in a run: the texts whose gradients move a classifier as gold's do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from japagen.curation.label_check import label_indices
from japagen.examples import Dataset, Rejection
from japagen.gradients.privacy import private_target
from japagen.gradients.selection import Choice, choose
from japagen.gradients.subsets import deal_texts, extended_shots, gold_subsets
from japagen.gradients.target import Ints
from japagen.running.stage_runner import StageRunner, fingerprint_of
from japagen.tasks.selection_settings import Selection
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
        assert gold is not None
        kept = dataset.kept_mask
        choice = select_by_gradient(
            *(dataset.where(kept), gold, vectors[1][kept], vectors[0], labels),
            settings=settings,
            seed=task.seed,
        )
        return keep_chosen(dataset, choice)

    return stages.dataset("select", "selected.parquet", fingerprint, make)


def select_by_gradient(
    examples: Dataset,
    gold: Dataset,
    vectors: npt.NDArray[np.floating],
    gold_vectors: npt.NDArray[np.floating],
    labels: Sequence[str],
    *,
    settings: Selection,
    seed: int = 0,
) -> Choice:
    """Chooses the examples whose mean gradient is nearest to gold's, label by label.

    No text is chosen by all of gold: see `japagen.gradients.subsets`. With privacy it is, since
    every look at gold would cost.

    Args:
        examples: Synthetic examples of any origin, none of them rejected.
        gold: Training gold.
        vectors: Frozen encoder vectors of the examples, shape (n, d).
        gold_vectors: Of gold, shape (m, d).
        labels: Every label.
        settings: How many, and how.
        seed: The one that shots were drawn with. Private noise is never seeded: it must not be
            drawn again.

    Raises:
        JapagenError: If a row has another label.
        MissingExtraError: If privacy is asked for and its accountant is not installed.
    """
    asked, true = label_indices(examples, labels), label_indices(gold, labels)
    wanted = settings.per_label or len(examples)
    if not len(examples):
        return Choice(np.zeros(0, dtype=np.int64), np.zeros(0), np.full(len(labels), np.nan))
    pick = partial(choose, method=settings.method, diversity=settings.diversity)
    if settings.privacy is not None:
        private = settings.privacy
        target = private_target(
            *(gold_vectors, true, vectors, asked, len(labels)),
            epsilon=private.epsilon,
            delta=private.delta,
            clip=private.clip,
        )
        return pick(target, vectors, asked, wanted)
    subsets = gold_subsets(gold, gold_vectors, true, vectors, asked, len(labels), seed=seed)
    ids, shots = examples.column("id"), examples.column("shot_ids")
    dealt = deal_texts(ids, asked, shots, subsets, seed)
    parts = []
    for label in range(len(labels)):
        groups = [np.flatnonzero((asked == label) & (dealt == n)) for n in range(len(subsets))]
        for rows, number, subset in zip(groups, _quotas(groups, wanted), subsets, strict=True):
            made = pick(subset.target, vectors[rows], asked[rows], number)
            parts.append((label, rows[made.rows], made, subset.ids[label]))
    return _joined(parts, len(labels))


def _quotas(groups: Sequence[Ints], wanted: int) -> list[int]:
    """How many texts to choose of each group: in proportion to their sizes, ``wanted`` in all."""
    ends = np.cumsum([len(rows) for rows in groups])
    most = min(wanted, int(ends[-1]))
    return [int(n) for n in np.diff(ends * most // max(int(ends[-1]), 1), prepend=0)]


def _joined(parts: Sequence[tuple[int, Ints, Choice, tuple[str, ...]]], names: int) -> Choice:
    """One choice of the choices that were made of each label by each part of gold."""
    cosines = np.full(names, np.nan)
    for label in range(names):
        found = [made.cosines[label] for own, rows, made, _ in parts if own == label and len(rows)]
        if not np.isnan(found).all():
            cosines[label] = np.nanmean(found)
    return Choice(
        np.concatenate([rows for _, rows, _, _ in parts]),
        np.concatenate([made.weights for _, _, made, _ in parts]),
        cosines,
        tuple(ids for _, rows, _, ids in parts for _ in rows),
    )


def keep_chosen(dataset: Dataset, choice: Choice) -> Dataset:
    """Rejects the kept rows that were not chosen, or whose weight matching pursuit left at 0.

    Those that were chosen descend from the gold that they were chosen by.

    Args:
        dataset: Rows, some of them rejected already.
        choice: Rows of ``dataset.kept``.
    """
    kept = np.flatnonzero(dataset.kept_mask)
    chosen = kept[choice.rows[choice.weights > 0]]
    detail = f"{len(chosen)} of {len(kept)} texts were chosen"
    left = Rejection(FILTER, 0.0, float(len(chosen)), detail)
    rejections = [row and Rejection(**row) for row in dataset.column("rejected")]
    for row in np.setdiff1d(kept, chosen):
        rejections[row] = left
    shots, requests = dataset.column("shot_ids"), dataset.column("request_id")
    gold_ids = choice.gold_ids or [()] * len(choice.rows)
    for row, ids in zip(kept[choice.rows], gold_ids, strict=True):
        shots[row] = extended_shots(shots[row], requests[row], ids)
    return dataset.with_rejections(rejections).with_columns(shot_ids=shots)
