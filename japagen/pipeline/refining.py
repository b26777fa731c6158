"""Refines a run's doubtful texts: who is asked, what they are judged by, where it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext

import numpy as np

from japagen.config.task import Task
from japagen.curation import refinement
from japagen.curation.label_check import (
    Floats,
    beats_guessing,
    cross_fitted_vote,
    fit_pool,
    held_out_posterior,
)
from japagen.data.dataset import Dataset, Example
from japagen.data.labels import label_indices
from japagen.generation.planner import label_variables
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.llm.backend import Answer, GeneratorInfo, Request
from japagen.llm.client import Asker
from japagen.llm.prompts import PromptLibrary
from japagen.pipeline.cache import StageRunner, fingerprint_of

_STAGE = "refine"


def why_not(task: Task, gold: bool, generator: GeneratorInfo) -> str:
    """Why no text can be refined; empty when texts can be."""
    if not gold:
        return "without gold nothing can tell which of two texts is better"
    if task.kind != "classification" or task.pair:
        return "only single texts with one label each can be compared"
    if generator.prompt_kind == "document":
        return (
            f"{generator.name} continues documents and follows no instructions; name a chat model "
            "in refinement.generator"
        )
    return ""


def refine_doubtful(
    task: Task,
    gold: Dataset | None,
    dataset: Dataset,
    asker: Asker,
    stages: StageRunner,
    analyzer: RegisterAnalyzer,
    filtered: Callable[[Dataset], Dataset],
    inputs: Mapping[str, object],
) -> Dataset:
    """Has a chat model criticise and rewrite the texts whose label gold makes doubtful.

    Args:
        task: Says how often, and whom to ask.
        gold: Training gold with registers, or None.
        dataset: Curated examples.
        asker: The task's generator; another one is asked through the same ledger.
        stages: Where the result is kept.
        analyzer: Finds registers.
        filtered: Applies the filters of curation.
        inputs: What these depend on.
    """
    from japagen.training.encoder import encoder_identity

    settings = task.refinement
    if not settings.rounds:
        return _unrefined(dataset, stages)
    own = asker.other(settings.generator) if settings.generator else None
    # The task's own generator is still wanted.
    with closing(own) if own else nullcontext():
        asked, prompts = own or asker, PromptLibrary(task.generation.prompts)
        info = asked.info
        if reason := why_not(task, gold is not None, info):
            stages.listener.note(f"No text is refined: {reason}.")
            return _unrefined(dataset, stages)
        unanswered: list[str] = []

        def send(requests: Sequence[Request]) -> Mapping[str, Answer]:
            found = asked.ask(requests, _STAGE)
            unanswered.extend(found.failures)
            return found.answers

        def make() -> Dataset:
            assert gold is not None
            score = label_scorer(task, gold)
            if score is None:
                stages.listener.note("No text is refined: labels cannot be told by the gold.")
                return dataset
            rewriter = refinement.Rewriter(
                prompts,
                info,
                send,
                lambda label: label_variables(task, label),
                task.seed,
                task.generation.max_tokens,
            )

            def rewrite(rows: Sequence[Example], number: int) -> list[Example | None]:
                """Texts of files stay as some other LLM wrote them."""
                own = [row.source == task.generator_source for row in rows]
                mine = [row for row, is_own in zip(rows, own, strict=True) if is_own]
                made = iter(rewriter.rewrite(mine, number))
                return [next(made) if is_own else None for is_own in own]

            return refinement.refine(
                dataset,
                settings.rounds,
                settings.doubt,
                score=score,
                rewrite=rewrite,
                filtered=filtered,
                analyzer=analyzer,
            )

        templates = (refinement.CRITICISE, refinement.REFINE)
        fingerprint = {
            "examples": dataset.fingerprint,
            "gold": fingerprint_of(gold),
            "refinement": settings.model_dump(mode="json", exclude={"generator"}),
            "generator": info.identity,
            "templates": [prompts.template_hash(f"{name}.chat") for name in templates],
            "texts": [task.text_type, task.domain, task.label_type, dict(task.labels)],
            "curation": task.curation.model_dump(mode="json"),
            "encoder": encoder_identity(task.training.encoder),
            "max_length": task.training.max_length,
            "seed": task.seed,
            **inputs,
        }
        refined = stages.dataset(_STAGE, "refined.parquet", fingerprint, make)
        if unanswered:
            stages.directory.forget(_STAGE)
        return refined


def _unrefined(dataset: Dataset, stages: StageRunner) -> Dataset:
    """The dataset as it is; what an earlier run of the task refined is not what follows it."""
    stages.directory.file("refined.parquet").unlink(missing_ok=True)
    return dataset


def label_scorer(task: Task, gold: Dataset) -> Callable[[Dataset], Floats] | None:
    """Returns what tells how likely every row's label is, or None where it would only guess.

    Args:
        task: Names the labels and the encoder.
        gold: What the classifier is trained on.
    """
    from japagen.training.trainer import FrozenTraining

    labels = list(task.labels)
    targets = label_indices(gold, labels)
    frozen = FrozenTraining(task.training.encoder, task.labels, task.training)
    on_gold, nothing = frozen.vectors(gold.texts), frozen.vectors([])
    vote = cross_fitted_vote(frozen.log_probabilities, on_gold, targets, nothing, task.seed)
    held_out = held_out_posterior([vote.gold], targets, task.seed)
    if not beats_guessing(held_out, targets):
        return None
    pool = fit_pool([vote.gold], targets)

    def score(rows: Dataset) -> Floats:
        on_rows = frozen.log_probabilities(on_gold, targets, frozen.vectors(rows.texts))
        own = label_indices(rows, labels)
        chances: Floats = pool.posterior([on_rows])[np.arange(len(rows)), own]
        return chances

    return score
