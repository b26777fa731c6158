"""Two sections of a task file: which texts are trained on, and how they are synthesised anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from japagen.tasks.settings import Count, Section

if TYPE_CHECKING:
    from japagen.tasks.tasks import Task

STRATEGY = "gradient_matching"


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
        privacy: Clips and noises gold's gradients; None reads them as they are.
    """

    per_label: Count | None = None
    privacy: GradientPrivacy | None = None


class GradientMatching(Section):
    """How ``generation.strategy: gradient_matching`` synthesises texts anew.

    Attributes:
        perplexity: Most that a text's perplexity may grow, over the text's as it was.
    """

    perplexity: Annotated[float, Field(ge=1)] = 1.5


def check_gradients(task: Task) -> None:
    """Raises ValueError where a task wants gradients matched and lacks what that needs."""
    if task.selection.per_label is not None and task.kind != "classification":
        raise ValueError(f"selection.per_label: only for classification, found {task.kind}")
    if task.selection.per_label is not None and task.gold is None:
        raise ValueError("selection.per_label: needs gold, whose gradients are to be matched")
    if task.generation.strategy != STRATEGY:
        return
    key = f"generation.strategy: {STRATEGY}"
    if task.kind != "classification" or task.pair is not None:
        found = "pairs" if task.pair is not None else task.kind
        raise ValueError(
            f"{key}: expected single texts with one label each, found {found}; use few_shot"
        )
    if task.gold is None:
        raise ValueError(
            f"{key}: expected gold, whose gradients are to be matched, found none; give gold "
            "or use zero_shot"
        )
    if task.selection.privacy is not None:
        raise ValueError(
            f"{key}: expected no selection.privacy, found one; what synthesises texts reads "
            "gold without noise"
        )
    if task.generator.backend not in ("embedded", "hf"):
        raise ValueError(
            f"{key}: expected the generator embedded or hf, found {task.generator.backend}; give "
            "texts of another as a source"
        )
