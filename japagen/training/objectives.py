"""What is learnt for each kind of label: the loss, and what comes of the logits."""

from __future__ import annotations

import torch
from torch import nn

from japagen.tasks.kinds import LabelSpace


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
