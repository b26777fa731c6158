"""What is learnt for each kind of label: the loss, and what comes of the logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from japagen.kinds import LabelSpace
from japagen.training.heads import head_features, last_linear

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier

Floats = npt.NDArray[np.float64]
# scikit-learn's C of a tag. From 3 to 100 made little difference on the tagging of notices.
_TAG_STRENGTH = 10.0


def row_losses(space: LabelSpace, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Loss of every row, shape (n,).

    Cross-entropy for classes, the mean binary cross-entropy for tags, and for numbers the
    squared error in units of the scale's spread, so that learning rates mean the same for 0 to
    1 and for 0 to 100.

    Args:
        space: The labels.
        logits: Shape (n, outputs), float32.
        targets: `LabelSpace.codes`, or soft ones of the same shape.
    """
    if space.kind == "classification":
        return nn.functional.cross_entropy(logits, targets, reduction="none")
    if space.kind == "multi_label":
        losses = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return losses.mean(dim=1)
    return ((logits - targets) / space.spread).square().mean(dim=1)


def probe_head(
    classifier: Classifier,
    rows: Sequence[dict[str, list[int]]],
    targets: Floats,
    mass: Floats,
) -> None:
    """Sets the head to a weighted linear model of the targets on the frozen encoder.

    Args:
        classifier: Changed in place.
        rows: Encoded texts.
        targets: `LabelSpace.codes` of each row's label.
        mass: Loss weight of each row, mean 1.
    """
    features = head_features(classifier, rows)
    centre = np.average(features, axis=0, weights=mass)
    # One number: scaling each dimension by itself lifts those that hold nothing.
    scale = float(np.sqrt(np.average(((features - centre) ** 2).sum(axis=1), weights=mass))) or 1.0
    fitted = linear_head(classifier.space, (features - centre) / scale, targets, mass)
    if fitted is None:
        return
    weight, bias = fitted
    linear = last_linear(classifier.model)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight / scale))
        linear.bias.copy_(torch.from_numpy(bias - (weight / scale) @ centre))


def linear_head(
    space: LabelSpace,
    features: Floats,
    targets: Floats,
    mass: Floats,
) -> tuple[Floats, Floats] | None:
    """A weighted linear model of the targets: logistic for classes and tags, ridge for numbers.

    Texts with a tag and those without it weigh alike: with a few texts a tag and many tags, all
    would else be found unlikely and none be given.

    Args:
        space: The labels.
        features: Centred, at a root mean square distance of 1 from there, shape (n, width).
        targets: `LabelSpace.codes`.
        mass: Loss weight of each row, mean 1.

    Returns:
        Weights, shape (outputs, width), and biases, shape (outputs,); None where all targets
        are alike.
    """
    if space.kind == "regression":
        return _ridge(features, targets[:, 0], mass)
    if space.kind == "classification":
        return _classes(features, targets, mass)
    return _tags(features, targets, mass)


def _ridge(features: Floats, targets: Floats, mass: Floats) -> tuple[Floats, Floats] | None:
    from sklearn.linear_model import Ridge

    scale = float(targets.std())
    if not scale:
        return None
    fitted = Ridge(alpha=1.0).fit(features, targets / scale, sample_weight=mass)
    return fitted.coef_[None, :] * scale, np.array([fitted.intercept_ * scale])


def _classes(features: Floats, targets: Floats, mass: Floats) -> tuple[Floats, Floats] | None:
    from sklearn.linear_model import LogisticRegression

    classes = targets.argmax(axis=1)
    if len(set(classes.tolist())) < 2:
        return None
    probe = LogisticRegression(max_iter=500).fit(features, classes, sample_weight=mass)
    coefficients, intercepts = probe.coef_, probe.intercept_
    if len(coefficients) == 1:
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight, bias = np.zeros((targets.shape[1], features.shape[1])), np.zeros(targets.shape[1])
    # A class without a text is as unlikely as the least likely of the others.
    bias[:] = intercepts.min()
    weight[probe.classes_], bias[probe.classes_] = coefficients, intercepts
    return weight, bias


def _tags(features: Floats, targets: Floats, mass: Floats) -> tuple[Floats, Floats] | None:
    from sklearn.linear_model import LogisticRegression

    weight, bias = np.zeros((targets.shape[1], features.shape[1])), np.zeros(targets.shape[1])
    for tag, column in enumerate(targets.T):
        share = float(np.average(column, weights=mass))
        if len(set(column.tolist())) < 2:
            # Never or always there: the log odds of one more text of the other kind.
            n = len(column)
            bias[tag] = np.log((share * n + 0.5) / ((1 - share) * n + 0.5))
            continue
        probe = LogisticRegression(C=_TAG_STRENGTH, class_weight="balanced", max_iter=500)
        probe.fit(features, column.astype(int), sample_weight=mass)
        weight[tag], bias[tag] = probe.coef_[0], probe.intercept_[0]
    return weight, bias
