r"""What gold's gradients are along a head's training, and which texts have alike ones.

For a linear head (W, b) on a frozen encoder's vectors h, the gradient of the cross-entropy of a
text with label y is (softmax(W h + b) − onehot(y)) ⊗ [h; 1]: a product of two short vectors, so
that no gradient is ever stored. The goal of a label is the mean gradient of its gold, at heads
along plain gradient descent from zero: a text that helps early need not help late. The heads are
trained on the texts to be matched. With heads of gold, a text would descend from the gold of all
labels, and next to no fold of a cross-validation could use it.

For the same reason no text is matched to all of gold. Some targets each leave out a quarter of the
blocks (`japagen.data.dataset`) of every label, and each text is matched to one of them: of its
label, it then descends from the gold of that target alone.

With a text's gradients at all checkpoints in one vector aᵢ, each checkpoint divided by the length
of gold's goal there, and g gold's goals divided alike, texts are added one at a time: the one after
which the mean is nearest to gold's,

    minimise  ‖ (s + aᵢ)/(t + 1) − g ‖²

with s the sum over the t chosen so far. Only inner products are needed, and
aᵢ·aⱼ = Σ_c (r_ci·r_cj)(hᵢ·hⱼ)/‖g_c‖².

Source: Nguyen et al. (2025), Synthetic Text Generation for Training Large Language Models via
Gradient Matching, arXiv 2502.17607. The checkpoints follow Pruthi et al. (2020), Estimating
Training Data Influence by Tracing Gradient Descent, arXiv 2002.08484, and the greedy
mean Welling (2009), Herding dynamical weights to learn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from japagen.config.curation import GradientPrivacy, Selection
from japagen.data.dataset import LEAST_TO_HOLD_OUT, Dataset, Rejection, gold_blocks, hash_rank
from japagen.data.labels import label_indices
from japagen.errors import MissingExtraError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CHECKPOINTS = (0, 5, 20, 80)
"""Steps of the head's gradient descent after which gradients are taken."""
TARGETS = 4
"""Targets that texts are dealt to; each leaves out one in so many of a label's blocks."""
_RATE = 2.0
_DECAY = 0.01


@dataclass(frozen=True)
class Scaling:
    """Centre, shape (d,), and one scale: vectors are then about one unit long."""

    centre: Floats
    scale: float

    @classmethod
    def of(cls, vectors: npt.NDArray[np.floating]) -> Scaling:
        """Scales by the vectors of at least one text."""
        rows = np.asarray(vectors, dtype=np.float64)
        centre = rows.mean(axis=0)
        spread = float(((rows - centre) ** 2).sum(axis=1).mean())
        return cls(centre, float(np.sqrt(max(spread, 1e-12))))

    def __call__(self, vectors: npt.NDArray[np.floating]) -> Floats:
        """Returns shape (n, d + 1): the scaled vectors and a 1 for the bias."""
        scaled = (np.asarray(vectors, dtype=np.float64) - self.centre) / self.scale
        return np.hstack([scaled, np.ones((len(scaled), 1))])


@dataclass(frozen=True)
class GradientTarget:
    """Gold's mean gradients, and the heads that they were taken at.

    Attributes:
        scaling: Of the vectors.
        heads: Weights with the bias last, shape (checkpoints, labels, d + 1).
        goals: Gold's mean gradient for each label, shape (checkpoints, labels, labels, d + 1):
            the second axis is the label of the texts. Zero for a label without gold.
        ids: For each label, the ids of the gold that a text matched to it descends from.
    """

    scaling: Scaling
    heads: Floats
    goals: Floats
    ids: tuple[tuple[str, ...], ...]


def residuals(heads: Floats, features: Floats, labels: Ints) -> Floats:
    """Softmax less one-hot at every checkpoint, shape (checkpoints, n, labels)."""
    hot = np.eye(heads.shape[1])[labels]
    return np.stack([softmax(features @ head.T, axis=1) - hot for head in heads])


def mean_gradients(residuals: Floats, features: Floats, labels: Ints) -> Floats:
    """Mean gradient of each label's texts, shape (checkpoints, labels, labels, d + 1)."""
    steps, _, names = residuals.shape
    found = np.zeros((steps, names, names, features.shape[1]))
    for label in np.unique(labels):
        mine = labels == label
        found[:, label] = np.einsum("cik,id->ckd", residuals[:, mine], features[mine]) / mine.sum()
    return found


def descend(features: Floats, labels: Ints, names: int) -> Floats:
    """Heads along plain gradient descent from zero, labels weighing alike.

    Features have the 1 for the bias, shape (n, d + 1); heads are of shape
    (checkpoints, names, d + 1).
    """
    head = np.zeros((names, features.shape[1]))
    counts = np.bincount(labels, minlength=names)
    mass = 1.0 / (np.maximum(counts, 1)[labels] * max((counts > 0).sum(), 1))
    kept = []
    for step in range(max(CHECKPOINTS) + 1):
        if step in CHECKPOINTS:
            kept.append(head.copy())
        error = residuals(head[None], features, labels)[0] * mass[:, None]
        head = head - _RATE * (error.T @ features + _DECAY * head)
    return np.stack(kept)


def gold_targets(
    gold: Dataset,
    vectors: npt.NDArray[np.floating],
    labels: Ints,
    texts: npt.NDArray[np.floating],
    text_labels: Ints,
    names: int,
    *,
    seed: int = 0,
) -> list[GradientTarget]:
    """Makes `TARGETS` targets, each of a part of gold.

    Args:
        gold: Labelled texts.
        vectors: Encoder vectors of gold, shape (m, d).
        labels: Gold's label indices, shape (m,).
        texts: Vectors of the texts that are to be matched, shape (n, d); at least one.
        text_labels: Their label indices.
        names: Number of labels.
        seed: The one that shots were drawn with.
    """
    scaling = Scaling.of(texts)
    heads, features = descend(scaling(texts), text_labels, names), scaling(vectors)
    left = residuals(heads, features, labels)
    blocks, ids = gold_blocks(gold, seed), gold.column("id")
    own = np.array([blocks[id_] for id_ in ids], dtype=np.int64)
    members = [np.flatnonzero(labels == label) for label in range(names)]
    found = []
    for number in range(TARGETS):
        has = np.ones(len(ids), dtype=bool)
        for rows in members:
            parts = min(TARGETS, int(own[rows].max(initial=0)) + 1)
            # Of fewer texts, a fold can hold none out anyhow.
            if parts > 1 and len(rows) >= LEAST_TO_HOLD_OUT:
                has[rows] = own[rows] % parts != number % parts
        goals = mean_gradients(left[:, has], features[has], labels[has])
        kept = tuple(tuple(ids[row] for row in rows if has[row]) for rows in members)
        found.append(GradientTarget(scaling, heads, goals, kept))
    return found


def deal_texts(
    texts: Dataset, labels: Ints, targets: Sequence[GradientTarget], seed: int = 0
) -> Ints:
    """Deals texts to the targets, each label evenly.

    A text goes to the target that has most of the gold that its prompt has shown, so that some
    fold can still use it.

    Args:
        texts: What is to be matched.
        labels: Their label indices.
        targets: One or more.
        seed: Of the order in which texts take their turns.

    Returns:
        For each text the number of its target; it does not depend on the order of the texts.
    """
    ids, shots = texts.column("id"), texts.column("shot_ids")
    dealt = np.zeros(len(ids), dtype=np.int64)
    taken: Counter[tuple[int, int]] = Counter()
    for row in sorted(range(len(ids)), key=lambda row: hash_rank(f"{seed}/targets/{ids[row]}")):
        label = int(labels[row])
        known = [len(set(shots[row]).intersection(target.ids[label])) for target in targets]
        best = min(range(len(targets)), key=lambda n: (-known[n], taken[label, n], n))
        taken[label, best] += 1
        dealt[row] = best
    return dealt


def extended_shots(shots: Sequence[str], request_id: str | None, ids: Sequence[str]) -> list[str]:
    """What a text descends from once it was matched to the gold ``ids``.

    Nothing where nobody knows what the text was written from, as it must not look like a text of
    known descent.
    """
    if not shots and request_id is None:
        return []
    return list(dict.fromkeys([*shots, *ids]))


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
