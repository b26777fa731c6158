"""The step "curate": filters, registers, the audit, and people's decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from japagen.config.sections import Curation
from japagen.curation.audit import Audit, audit
from japagen.curation.filters import filter_texts
from japagen.curation.register_control import (
    Rewriter,
    Rewritten,
    Wanted,
    control_registers,
    rewrite_by_model,
    rewrite_by_rules,
)
from japagen.data.dataset import Dataset
from japagen.data.files import read_json, write_json
from japagen.data.formats import read_table, write_table
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.listener import Listener
from japagen.llm.backend import Answer, Request
from japagen.pipeline.cache import Step, only
from japagen.pipeline.context import RunContext, TextEncoder, need_some
from japagen.pipeline.review import decisions_of
from japagen.pipeline.sources import only_of
from japagen.review.feedback import apply_decisions, vouched_for

_CURATE = Step("curate", 5, ("curated.parquet",))
_REGISTERS = Step("registers", 5, ("registers.parquet",))
_REVIEW = Step("review", 2, ("reviewed.parquet",))
# Settings of curation that no filter reads.
_READ_LATER = {"label_miss", "label_confidence", "register_miss", "rewrite_attempts"}


@dataclass(frozen=True)
class TextFilter:
    """The filters of a run with all that they read; what is none of a task's is None.

    Attributes:
        settings: Thresholds.
        gold: Training gold.
        phrases: Sentences that prompts showed besides gold.
        passages: Material that prompts showed.
        analyzer: Finds names and registers.
        seed: Of fakes for personal data.
        encoder: Compares meanings.
    """

    settings: Curation
    gold: Dataset | None
    phrases: Sequence[str]
    passages: Sequence[str]
    analyzer: RegisterAnalyzer
    seed: int | None
    encoder: TextEncoder | None

    @classmethod
    def of(cls, run: RunContext, passages: Sequence[str]) -> TextFilter:
        """The filters that a run's task asks for."""
        curation, seed = run.task.curation, run.task.seed
        return cls(
            settings=only(curation, *(set(Curation.model_fields) - _READ_LATER)),
            gold=run.gold,
            phrases=run.prompts.phrases,
            passages=passages,
            analyzer=run.analyzer,
            seed=seed if curation.personal_data == "replace" else None,
            encoder=run.encoder if curation.max_meaning_similarity is not None else None,
        )

    def __call__(self, texts: Dataset, first: int = 0) -> Dataset:
        """Filters the rows from ``first`` on; see `filter_texts`."""
        return filter_texts(
            texts,
            self.settings,
            self.gold,
            phrases=self.phrases,
            passages=self.passages,
            tagger=self.analyzer.tagger,
            seed=self.seed or 0,
            embed=self.encoder.vectors if self.encoder else None,
            first=first,
        )


def curate(run: RunContext, texts: Dataset, text_filter: TextFilter) -> Dataset:
    """Finds the registers of all texts and filters them."""
    uses = {"listener": run.listener}
    found = run.cache.step(_CURATE, _filtered, uses=uses, texts=texts, text_filter=text_filter)
    return need_some(run, found, _CURATE)


def _filtered(texts: Dataset, text_filter: TextFilter, listener: Listener) -> Dataset:
    rows = listener.track(texts.texts, len(texts), "curate")
    reports = text_filter.analyzer.analyze_all(rows)
    return text_filter(texts.with_registers([report.register for report in reports]))


class ModelRewriter:
    """Has the task's generator rewrite what it wrote itself, into other registers.

    Attributes:
        unanswered: Requests that got no answer.
    """

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self.unanswered: list[str] = []

    @property
    def identity(self) -> list[Any]:
        """Who is asked what; how often is a setting of curation."""
        task, info = self._run.task, self._run.client.info
        template = self._run.prompts.template_hash(f"rewrite.{info.prompt_kind}")
        asked = [task.text_type, task.generation.max_tokens, task.seed]
        return [info.identity, template, *asked, task.generator_source]

    def __call__(self, wanted: Wanted) -> Sequence[Rewritten]:
        """Rewrites each text into the register beside it, or says why not."""
        return only_of(self._run.task.generator_source, self._by_model)(wanted)

    def _by_model(self, wanted: Wanted) -> Sequence[Rewritten]:
        run = self._run
        info = run.client.info
        return rewrite_by_model(wanted, run.task, run.prompts, info, run.analyzer, self._send)

    def _send(self, requests: Sequence[Request]) -> Mapping[str, Answer]:
        asked = self._run.client.ask(requests, "rewrite")
        self.unanswered.extend(asked.failures)
        return asked.answers


def hold_registers(
    run: RunContext, texts: Dataset, text_filter: TextFilter, *, ask: bool
) -> Dataset:
    """Keeps, rewrites or rejects what is not in the register asked for.

    Args:
        run: The run.
        texts: Curated examples.
        text_filter: Filters what was rewritten.
        ask: Whether the generator may be asked to rewrite what it wrote.
    """
    settings = only(run.task.curation, "register_miss", "rewrite_attempts")
    model = ModelRewriter(run) if ask and settings.rewrite_attempts else None
    held = run.cache.step(
        _REGISTERS,
        _held,
        unanswered=model.unanswered if model else (),
        texts=texts,
        settings=settings,
        text_filter=text_filter,
        model=model,
    )
    return need_some(run, held, _REGISTERS)


def _held(
    texts: Dataset, settings: Curation, text_filter: TextFilter, model: Rewriter | None
) -> Dataset:
    if settings.register_miss == "ignore":
        return texts

    def by_rules(wanted: Wanted) -> list[Rewritten]:
        return rewrite_by_rules(wanted, text_filter.analyzer)

    controlled, children = control_registers(texts, settings.register_miss, by_rules, model)
    if children is None:
        return controlled
    return text_filter(Dataset.concat([controlled, children]), len(texts))


def _save_audit(path: Path, made: Audit) -> None:
    write_table(path.with_suffix(".parquet"), made.table)
    write_json(path, made.summary)


def _load_audit(path: Path) -> Audit:
    return Audit(read_table(path.with_suffix(".parquet")), read_json(path))


_AUDIT = Step("audit", 2, ("audit.json", "audit.parquet"), _save_audit, _load_audit)


def run_audit(run: RunContext, written: Dataset, curated: Dataset) -> dict[str, Any]:
    """Looks for personal data, memory of gold and skews in what was accepted.

    Leaves ``audit.json`` and ``audit.parquet`` in the run.

    Args:
        run: The run.
        written: Examples as they were generated.
        curated: The same and their rewrites after curation.

    Returns:
        The summary of `japagen.curation.audit.Audit`.
    """
    found = run.cache.step(
        _AUDIT,
        audit,
        written=written,
        curated=curated,
        gold=run.gold,
        labels=list(run.task.labels),
        action=run.task.curation.personal_data,
        tagger=run.analyzer.tagger,
    )
    return found.summary


def apply_reviews(
    run: RunContext, texts: Dataset, derived: str | None = None
) -> tuple[Dataset, set[str]]:
    """Applies the decisions of the run's review, if there was one.

    Args:
        run: The run.
        texts: Examples.
        derived: Only decide on texts derived in this way: they have come since the others were.

    Returns:
        The examples, and the ids of those that people have vouched for.
    """
    decisions = decisions_of(run.cache.directory.path)
    step = _REVIEW
    if derived is not None:
        rows = zip(texts.column("id"), texts.column("derived"), strict=True)
        own = {id_ for id_, how in rows if how == derived}
        decisions = {name: d for name, d in decisions.items() if name in own}
        step = _REVIEW.named(f"review-{derived}", f"reviewed-{derived}.parquet")
    if not decisions:
        return texts, set()
    reviewed = run.cache.step(step, apply_decisions, dataset=texts, decisions=decisions)
    return need_some(run, reviewed, step), vouched_for(texts, decisions)
