"""The section ``gradient_matching`` of a task file: how that strategy changes texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from japagen.tasks.settings import Section

if TYPE_CHECKING:
    from japagen.tasks.tasks import Task

STRATEGY = "gradient_matching"
_HERE = ("embedded", "hf")


class GradientMatching(Section):
    """How ``generation.strategy: gradient_matching`` changes texts.

    Attributes:
        method: ``edit`` changes a few words of a text, ``synthesise`` all that it wants to (ADMM
            from the text as it is).
        edits: Most words that ``edit`` changes in a text.
        perplexity: Most that a text's perplexity may grow, over the unchanged text's.
        model: The causal language model that says which words are likely: ``gemma3-270m``, a GGUF
            path, a directory or a Hub name; the generator's own, where it is one in this process.
    """

    method: Literal["edit", "synthesise"] = "edit"
    edits: Annotated[int, Field(ge=1, le=10)] = 2
    perplexity: Annotated[float, Field(ge=1)] = 1.5
    model: str | None = None

    def check(self, task: Task) -> None:
        """Refuses what texts cannot be matched for.

        Raises:
            ValueError: If the task wants the strategy and lacks what it needs.
        """
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
                f"{key}: expected no selection.privacy, found one; what changes texts reads gold "
                "without noise"
            )
        if self.model is None and task.generator.backend not in _HERE:
            raise ValueError(
                f"{key}: expected a causal language model in this process, found the generator "
                f"{task.generator.backend}; set gradient_matching.model, such as gemma3-270m"
            )
