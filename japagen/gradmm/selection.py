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

from japagen.config.sections import GradientPrivacy, Selection
from japagen.data.dataset import Dataset, Rejection
from japagen.data.labels import label_indices
from japagen.errors import MissingExtraError
from japagen.gradmm.target import (
    GradientTarget,
    Ints,
    Scaling,
    deal_texts,
    descend,
    extended_shots,
    gold_targets,
    mean_gradients,
    residuals,
)

FILTER = "gradient_selection"


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


# Gold's gradients with differential privacy: each clipped, their sum noised.
#
# Two sets of gold are neighbours if one text is replaced by another of the same label; how many
# texts a label has is public. The gradients of a text at all checkpoints are one vector, scaled
# down to length C where it is longer, so that the sum over gold moves by 2C at most. One release
# of the sum with Gaussian noise of 2C·m a coordinate is (ε, δ)-private, with the noise multiplier
# m from the privacy loss distribution of the Gaussian mechanism (dp-accounting): tighter than the
# classical m = √(2 ln(1.25/δ))/ε, which is proven for ε < 1 alone.
#
# The guarantee covers the target alone. Prompts that show gold, the check of labels and alignment
# read gold too.


def noise_multiplier(epsilon: float, delta: float) -> float:
    """Standard deviation of the noise over the sensitivity, for one Gaussian release.

    Raises:
        MissingExtraError: If dp-accounting is not installed.
    """
    try:
        from dp_accounting import get_sigma_gaussian
    except ModuleNotFoundError as error:
        raise MissingExtraError("dp-accounting", "privacy", "A private choice of texts") from error
    return float(get_sigma_gaussian(epsilon, delta))


def private_target(
    gold: npt.NDArray[np.floating],
    labels: Ints,
    public: npt.NDArray[np.floating],
    public_labels: Ints,
    names: int,
    settings: GradientPrivacy,
    *,
    seed: int | None = None,
) -> GradientTarget:
    """Takes gold's gradients at heads trained on public texts, clips and noises them.

    Args:
        gold: Encoder vectors of gold, shape (m, d).
        labels: Their label indices.
        public: Vectors of texts that reveal nothing of gold, shape (n, d).
        public_labels: Their label indices.
        names: Number of labels.
        settings: ε, δ and C.
        seed: Of the noise; keep it secret, or None for noise that nobody can draw again.

    Returns:
        A target of all gold, which names none of it.

    Raises:
        MissingExtraError: If dp-accounting is not installed.
    """
    clip = settings.clip
    sigma = 2 * clip * noise_multiplier(settings.epsilon, settings.delta)
    scaling = Scaling.of(public)
    heads, features = descend(scaling(public), public_labels, names), scaling(gold)
    left = residuals(heads, features, labels)
    # ‖r ⊗ h‖ = ‖r‖ ‖h‖, so that clipping never needs the products.
    lengths = np.sqrt((left**2).sum(axis=(0, 2)) * (features**2).sum(axis=1))
    clipped = features * np.minimum(1.0, clip / np.maximum(lengths, 1e-12))[:, None]
    goals = mean_gradients(left, clipped, labels)
    noise = np.random.default_rng(seed).normal(0.0, sigma, goals.shape)
    counts = np.maximum(np.bincount(labels, minlength=names), 1)
    noised = goals + noise / counts[None, :, None, None]
    return GradientTarget(scaling, heads, noised, ((),) * names)
