"""Refines a run's doubtful texts: who is asked, what they are judged by, where it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from japagen.config.sections import Refinement
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
from japagen.llm.backend import Answer, GeneratorInfo, Request
from japagen.llm.client import Asker
from japagen.pipeline.cache import Step, only
from japagen.pipeline.context import RunContext, TextEncoder, need_some
from japagen.pipeline.steps.curate import TextFilter

if TYPE_CHECKING:
    from japagen.training.trainer import FrozenTraining

_REFINE = Step("refine", 3, ("refined.parquet",))


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


def refine_doubtful(run: RunContext, texts: Dataset, text_filter: TextFilter) -> Dataset:
    """Has a chat model criticise and rewrite the texts whose label gold makes doubtful.

    Args:
        run: The run; a generator of its own for this is asked through the same ledger.
        texts: Curated examples.
        text_filter: Filters what was rewritten.
    """
    settings, task = run.task.refinement, run.task
    if not settings.rounds:
        return _unrefined(run, texts)
    client = run.client.other(settings.generator) if settings.generator else run.client
    with closing(client) if settings.generator else nullcontext():
        if reason := why_not(task, run.gold is not None, client.info):
            run.listener.note(f"No text is refined: {reason}.")
            return _unrefined(run, texts)
        rewriter = _Rewriter(run, client)
        refined = run.cache.step(
            _REFINE,
            _refined,
            uses={"note": run.listener.note},
            unanswered=rewriter.unanswered,
            texts=texts,
            gold=run.gold,
            labels=task.labels,
            settings=only(settings, "rounds", "doubt"),
            rewriter=rewriter,
            text_filter=text_filter,
            encoder=run.encoder,
            max_length=task.training.max_length,
            seed=task.seed,
        )
    return need_some(run, refined, _REFINE)


def _refined(
    texts: Dataset,
    gold: Dataset,
    labels: Mapping[str, str],
    settings: Refinement,
    rewriter: _Rewriter,
    text_filter: TextFilter,
    encoder: TextEncoder,
    max_length: int,
    seed: int,
    note: Callable[[str], None],
) -> Dataset:
    score = _scorer(gold, encoder.frozen(labels, max_length, is_pair=False), seed)
    if score is None:
        note("No text is refined: labels cannot be told by the gold.")
        return texts
    return refinement.refine(
        texts,
        settings.rounds,
        settings.doubt,
        score=score,
        rewrite=rewriter,
        filtered=text_filter,
        analyzer=text_filter.analyzer,
    )


class _Rewriter:
    """Has a chat model rewrite what the task's generator wrote; files stay as another wrote them.

    Attributes:
        unanswered: Requests that got no answer.
    """

    def __init__(self, run: RunContext, client: Asker) -> None:
        self._run = run
        self._client = client
        self.unanswered: list[str] = []

    @property
    def identity(self) -> list[Any]:
        """Who is asked what."""
        task, prompts = self._run.task, self._run.prompts
        templates = (refinement.CRITICISE, refinement.REFINE)
        return [
            self._client.info.identity,
            [prompts.template_hash(f"{name}.chat") for name in templates],
            only(task, "text_type", "domain", "label_type", "description", "labels", "pair"),
            [task.generation.max_tokens, task.generation.instruction],
            [task.generator_source, task.seed],
        ]

    def __call__(self, rows: Sequence[Example], number: int) -> list[Example | None]:
        """A child of each text that may have one and got an answer; see `Rewriter.rewrite`."""
        task = self._run.task
        rewriter = refinement.Rewriter(
            self._run.prompts,
            self._client.info,
            self._send,
            partial(label_variables, task),
            task.seed,
            task.generation.max_tokens,
        )
        own = [row.source == task.generator_source for row in rows]
        mine = [row for row, is_own in zip(rows, own, strict=True) if is_own]
        made = iter(rewriter.rewrite(mine, number))
        return [next(made) if is_own else None for is_own in own]

    def _send(self, requests: Sequence[Request]) -> Mapping[str, Answer]:
        found = self._client.ask(requests, _REFINE.name)
        self.unanswered.extend(found.failures)
        return found.answers


def _unrefined(run: RunContext, texts: Dataset) -> Dataset:
    """The texts as they are; what an earlier run of the task refined is not what follows them."""
    run.cache.directory.file(_REFINE.files[0]).unlink(missing_ok=True)
    return texts


def _scorer(gold: Dataset, frozen: FrozenTraining, seed: int) -> Callable[[Dataset], Floats] | None:
    """How likely every row's label is, by a classifier of gold; None if that only guesses."""
    targets, on_gold = label_indices(gold, frozen.labels), frozen.features(gold)
    vote = cross_fitted_vote(frozen.log_probabilities, on_gold, targets, on_gold[:0], seed)
    held_out = held_out_posterior([vote.gold], targets, seed)
    if not beats_guessing(held_out, targets):
        return None
    pool = fit_pool([vote.gold], targets)

    def score(rows: Dataset) -> Floats:
        on_rows = frozen.log_probabilities(on_gold, targets, frozen.features(rows))
        own = label_indices(rows, frozen.labels)
        chances: Floats = pool.posterior([on_rows])[np.arange(len(rows)), own]
        return chances

    return score
