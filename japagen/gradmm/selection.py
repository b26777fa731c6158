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
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from japagen.curation.label_check import label_indices
from japagen.examples import Dataset, Rejection
from japagen.gradmm.privacy import private_target
from japagen.gradmm.target import (
    Floats,
    GradientTarget,
    Ints,
    Subset,
    deal_texts,
    extended_shots,
    gold_subsets,
    residuals,
)
from japagen.running.stage_runner import StageRunner, fingerprint_of
from japagen.tasks.gradmm_settings import Selection
from japagen.tasks.tasks import Task

FILTER = "gradient_selection"
_TINY = 1e-12


@dataclass(frozen=True)
class Choice:
    """Texts chosen.

    Attributes:
        rows: Indices of the chosen texts, in the order of choice within each label.
        cosines: Cosine of the chosen texts' mean gradient with gold's, for each label; NaN for a
            label without gold or texts.
        gold_ids: For each chosen text, the ids of the gold that it was chosen by; none where the
            choice was private.
    """

    rows: Ints
    cosines: Floats
    gold_ids: tuple[tuple[str, ...], ...]


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
        kept = dataset.kept_mask
        texts, own = dataset.where(kept), vectors[1][kept]
        choice = select_by_gradient(
            texts, gold, own, vectors[0], labels, settings=settings, seed=task.seed
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

    No text is chosen by all of gold: see `japagen.gradmm.target`. With privacy it is, since every
    look at gold would cost.

    Args:
        examples: Synthetic examples of any origin, none of them rejected.
        gold: Training gold.
        vectors: Frozen encoder vectors of the examples, shape (n, d).
        gold_vectors: Of gold, shape (m, d).
        labels: Every label.
        settings: How many, and how.
        seed: The one that shots were drawn with. Private noise is never seeded: it must not be
            drawn again.

    Returns:
        The choice; deterministic but for private noise.

    Raises:
        JapagenError: If a row has another label.
        MissingExtraError: If privacy is asked for and its accountant is not installed.
    """
    asked, true = label_indices(examples, labels), label_indices(gold, labels)
    wanted = settings.per_label or len(examples)
    cosines = np.full(len(labels), np.nan)
    if not len(examples):
        return Choice(np.zeros(0, dtype=np.int64), cosines, ())
    private, names = settings.privacy, len(labels)
    if private is not None:
        bounds = private.model_dump()
        target = private_target(gold_vectors, true, vectors, asked, names, **bounds)
        subsets = [Subset(target, ((),) * names, (frozenset(),) * names)]
    else:
        subsets = gold_subsets(gold, gold_vectors, true, vectors, asked, names, seed=seed)
    shots = examples.column("shot_ids")
    dealt = deal_texts(examples.column("id"), asked, shots, subsets, seed)
    rows: list[Ints] = []
    gold_ids: list[tuple[str, ...]] = []
    for label in range(names):
        groups = [np.flatnonzero((asked == label) & (dealt == n)) for n in range(len(subsets))]
        found = []
        for mine, number, subset in zip(groups, _quotas(groups, wanted), subsets, strict=True):
            chosen, cosine = choose(subset.target, vectors[mine], label, number)
            rows.append(mine[chosen])
            gold_ids += [subset.ids[label]] * len(chosen)
            found.append(cosine)
        if not np.isnan(found).all():
            cosines[label] = np.nanmean(found)
    return Choice(np.concatenate(rows), cosines, tuple(gold_ids))


def _quotas(groups: Sequence[Ints], wanted: int) -> list[int]:
    """How many texts to choose of each group: in proportion to their sizes, ``wanted`` in all."""
    ends = np.cumsum([len(rows) for rows in groups])
    most = min(wanted, int(ends[-1]))
    return [int(n) for n in np.diff(ends * most // max(int(ends[-1]), 1), prepend=0)]


def choose(
    target: GradientTarget, vectors: npt.NDArray[np.floating], label: int, wanted: int
) -> tuple[Ints, float]:
    """Chooses ``wanted`` of the texts of one label, no more than there are.

    Returns:
        Their rows in the order of choice, and the cosine of their mean gradient with gold's; NaN
        without gold or texts.
    """
    features = target.scaling(vectors)
    left = residuals(target.heads, features, np.full(len(features), label))
    products, goals = features @ features.T, target.goals[:, label]
    lengths = np.sqrt((goals**2).sum(axis=(1, 2)))
    used = np.flatnonzero(lengths > _TINY)
    # aᵢ·aⱼ and aᵢ·g, checkpoints averaged.
    gram, pull = np.zeros(products.shape), np.zeros(len(features))
    for c in used:
        scale = lengths[c] ** 2 * len(used)
        gram += (left[c] @ left[c].T) * products / scale
        pull += ((left[c] @ goals[c]) * features).sum(axis=1) / scale
    own = np.diag(gram)
    # Of the sum so far: its inner product with every text, and its squared length.
    with_sum, length = np.zeros(len(own)), 0.0
    free = np.ones(len(own), dtype=bool)
    chosen: list[int] = []
    for step in range(1, min(wanted, len(own)) + 1):
        distance = (length + 2 * with_sum + own) / step**2 - 2 * pull / step
        best = int(np.where(free, distance, np.inf).argmin())
        chosen.append(best)
        free[best] = False
        length += 2 * with_sum[best] + own[best]
        with_sum = with_sum + gram[best]
    cosine = float(pull[chosen].sum()) / np.sqrt(length) if length > _TINY else np.nan
    return np.array(chosen, dtype=np.int64), float(cosine)


def keep_chosen(dataset: Dataset, choice: Choice) -> Dataset:
    """Rejects the kept rows that were not chosen.

    Those that were chosen descend from the gold that they were chosen by.

    Args:
        dataset: Rows, some of them rejected already.
        choice: Rows of ``dataset.kept``.
    """
    kept = np.flatnonzero(dataset.kept_mask)
    chosen = kept[choice.rows]
    detail = f"{len(chosen)} of {len(kept)} texts were chosen"
    left = Rejection(FILTER, 0.0, float(len(chosen)), detail)
    rejections = [row and Rejection(**row) for row in dataset.column("rejected")]
    for row in np.setdiff1d(kept, chosen):
        rejections[row] = left
    shots, requests = dataset.column("shot_ids"), dataset.column("request_id")
    for row, ids in zip(chosen, choice.gold_ids, strict=True):
        shots[row] = extended_shots(shots[row], requests[row], ids)
    return dataset.with_rejections(rejections).with_columns(shot_ids=shots)
