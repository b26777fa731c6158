"""The section ``selection`` of a task file: which of the kept texts are trained on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from japagen.tasks.settings import Count, Section


class GradientPrivacy(Section):
    """Differential privacy of what the choice of texts reads of gold.

    Attributes:
        epsilon: ε, of replacing one gold text by another of the same label.
        delta: δ; below one over the number of gold texts to mean anything.
        clip: Longest gradient of one text, all checkpoints together.
    """

    epsilon: Annotated[float, Field(gt=0)]
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    clip: Annotated[float, Field(gt=0)] = 1.0


class Selection(Section):
    """Which of the texts that curation kept are trained on.

    Attributes:
        per_label: Keep so many texts of each label, those whose mean gradient is nearest to
            gold's; None keeps all.
        method: ``greedy`` adds the text that brings the mean nearest, ``matching_pursuit`` the
            one that explains most of what is left (orthogonal matching pursuit).
        diversity: What a text's likeness to those chosen costs ``greedy``; 0 for nothing.
        privacy: Clips and noises gold's gradients; None reads them as they are.
    """

    per_label: Count | None = None
    method: Literal["greedy", "matching_pursuit"] = "greedy"
    diversity: Annotated[float, Field(ge=0)] = 0.0
    privacy: GradientPrivacy | None = None

    def check(self, kind: str, has_gold: bool) -> None:
        """Refuses what gradients cannot choose for.

        Raises:
            ValueError: If texts are to be chosen and there is no gold, or labels are no classes.
        """
        if self.per_label is None:
            return
        if kind != "classification":
            raise ValueError(f"selection.per_label: only for classification, found {kind}")
        if not has_gold:
            raise ValueError("selection.per_label: needs gold, whose gradients are to be matched")
