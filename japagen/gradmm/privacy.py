r"""Gold's gradients with differential privacy: each clipped, their sum noised.

Two sets of gold are neighbours if one text is replaced by another of the same label; how many
texts a label has is public. The gradients of a text at all checkpoints are one vector, scaled
down to length C where it is longer, so that the sum over gold moves by 2C at most. One release of
the sum with Gaussian noise of 2C·m a coordinate is (ε, δ)-private, with the noise multiplier m from
the privacy loss distribution of the Gaussian mechanism (dp-accounting): tighter than the classical
m = √(2 ln(1.25/δ))/ε, which is proven for ε < 1 alone.

The guarantee covers the target alone. Prompts that show gold, the check of labels and alignment
read gold too.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from japagen.errors import MissingExtraError
from japagen.gradmm.target import (
    GradientTarget,
    Ints,
    Scaling,
    descend,
    mean_gradients,
    residuals,
)
from japagen.tasks.gradmm_settings import GradientPrivacy


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
