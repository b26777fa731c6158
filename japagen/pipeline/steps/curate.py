"""The step "curate": filters, registers, refinement, the audit, and people's decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from japagen.config.curation import Curation, Judge, Refinement
from japagen.config.fields import FieldSet
from japagen.config.task import Task
from japagen.curation import filters, llm_judge, refinement
from japagen.curation.audit import Audit, audit
from japagen.curation.filters import treat_personal_data
from japagen.curation.label_check import (
    beats_guessing,
    cross_fitted_vote,
    fit_pool,
    held_out_posterior,
)
from japagen.curation.near_duplicates import reject_near_vectors
from japagen.curation.register_control import (
    Rewriter,
    Rewritten,
    Wanted,
    control_registers,
    rewrite_by_model,
    rewrite_by_rules,
)
from japagen.data.dataset import Dataset, Example
from japagen.data.files import read_json, write_json
from japagen.data.formats import read_table, write_table
from japagen.data.labels import Floats, label_indices
from japagen.data.summary import CriterionScores, JudgeAgreement, JudgeSummary
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.listener import Listener
from japagen.llm.backend import GeneratorInfo
from japagen.llm.client import LLMClient
from japagen.llm.requests import label_variables
from japagen.pipeline.cache import Step, only
from japagen.pipeline.context import Asking, RunContext, TextEncoder, need_some
from japagen.pipeline.review import decisions_of
from japagen.pipeline.sources import only_of
from japagen.review.decisions import Decision
from japagen.review.feedback import apply_decisions, human_verified, judge_agreement

if TYPE_CHECKING:
    from japagen.training.trainer import FrozenTraining

_CURATE = Step("curate", 5, ("curated.parquet",))
_REGISTERS = Step("registers", 5, ("registers.parquet",))
_REFINE = Step("refine", 3, ("refined.parquet",))
_RUBRIC = Step(llm_judge.RUBRIC, 1, ("judged.parquet",))
_REVIEW = Step("review", 3, ("reviewed.parquet",))
# Settings of curation that no filter reads.
_READ_LATER = {
    "label_miss",
    "label_confidence",
    "register_miss",
    "rewrite_attempts",
    "judge",
}


@dataclass(frozen=True)
class TextFilter:
    """The filters of a run with all that they read; what is none of a task's is None.

    Attributes:
        settings: Thresholds.
        gold: Training gold.
        phrases: Sentences that prompts showed besides gold.
        passages: Material that prompts showed.
        analyzer: Finds names and registers.
        encoder: Compares meanings.
    """

    settings: Curation
    gold: Dataset | None
    phrases: Sequence[str]
    passages: Sequence[str]
    analyzer: RegisterAnalyzer
    encoder: TextEncoder | None

    @classmethod
    def of(cls, run: RunContext, passages: Sequence[str]) -> TextFilter:
        """The filters that a run's task asks for."""
        curation = run.task.curation
        return cls(
            settings=only(curation, *(set(Curation.model_fields) - _READ_LATER)),
            gold=run.gold,
            phrases=run.prompts.phrases,
            passages=passages,
            analyzer=run.analyzer,
            encoder=run.encoder if curation.max_meaning_similarity is not None else None,
        )

    def __call__(self, texts: Dataset, first: int = 0) -> Dataset:
        """Treats personal data, applies the filters and, if wanted, compares meanings.

        Args:
            texts: Synthetic examples.
            first: Rows before this one went through all this before. They are left alone, and the
                others are compared with those of them that were kept.
        """
        settings, gold, tagger = self.settings, self.gold, self.analyzer.tagger
        treated = treat_personal_data(texts, settings.personal_data, tagger, first=first)
        found = filters.curate(
            treated, settings, gold, self.phrases, self.passages, tagger, first=first
        )
        most = settings.max_meaning_similarity
        if most is None or self.encoder is None:
            return found
        vectors = self.encoder.vectors(found), self.encoder.vectors(gold)
        return reject_near_vectors(found, most, vectors[0], gold, vectors[1], first)


def curate(run: RunContext, texts: Dataset, text_filter: TextFilter) -> Dataset:
    """Finds the registers of all texts and filters them."""
    uses = {"listener": run.listener}
    found = run.cache.step(_CURATE, _filtered, uses=uses, texts=texts, text_filter=text_filter)
    return need_some(run, found, _CURATE)


def _filtered(texts: Dataset, text_filter: TextFilter, listener: Listener) -> Dataset:
    rows = listener.track(texts.texts, len(texts), "curate")
    return text_filter(texts.with_registers([*text_filter.analyzer.registers(rows)]))


@dataclass(frozen=True, kw_only=True)
class ModelRewriter(Asking):
    """Has the task's generator rewrite what it wrote itself, into other registers.

    Attributes:
        source: Whose texts it rewrites.
        analyzer: Reads the registers of the answers.
    """

    source: str | None
    analyzer: RegisterAnalyzer

    @classmethod
    def of(cls, run: RunContext) -> ModelRewriter:
        """That of a run."""
        curation, generation = run.task.curation, run.task.generation
        return cls.through(
            run.client,
            run,
            "rewrite",
            [f"rewrite.{run.client.info.prompt_kind}"],
            task=only(
                run.task,
                "text_type",
                "seed",
                curation=only(curation, "rewrite_attempts"),
                generation=only(generation, "max_tokens"),
            ),
            source=run.task.generator_source,
            analyzer=run.analyzer,
        )

    def __call__(self, wanted: Wanted) -> Sequence[Rewritten]:
        """Rewrites each text into the register beside it, or says why not."""

        def rewrite(own: Wanted) -> Sequence[Rewritten]:
            return rewrite_by_model(
                own, self.task, self.prompts, self.generator, self.analyzer, self.ask
            )

        return only_of(self.source, rewrite)(wanted)


def hold_registers(
    run: RunContext, texts: Dataset, text_filter: TextFilter, *, ask: bool
) -> Dataset:
    """Keeps, rewrites or rejects what is not in the register asked for."""
    settings, model = register_control(run, ask=ask)
    held = run.cache.step(
        _REGISTERS,
        held_to_registers,
        unanswered=model.unanswered if model else (),
        texts=texts,
        settings=settings,
        text_filter=text_filter,
        model=model,
    )
    return need_some(run, held, _REGISTERS)


def register_control(run: RunContext, *, ask: bool) -> tuple[Curation, ModelRewriter | None]:
    """What a run's register control reads, and who rewrites what rules cannot, if wanted."""
    settings = only(run.task.curation, "register_miss", "rewrite_attempts")
    return settings, ModelRewriter.of(run) if ask and settings.rewrite_attempts else None


def held_to_registers(
    texts: Dataset, settings: Curation, text_filter: TextFilter, model: Rewriter | None
) -> Dataset:
    """Filtered texts, kept, rewritten or rejected by their registers; rewrites are filtered."""
    if settings.register_miss == "ignore":
        return texts

    def by_rules(wanted: Wanted) -> list[Rewritten]:
        return rewrite_by_rules(wanted, text_filter.analyzer)

    controlled, children = control_registers(texts, settings.register_miss, by_rules, model)
    if children is None:
        return controlled
    return text_filter(Dataset.concat([controlled, children]), len(texts))


def why_not_refined(task: Task, gold: bool, generator: GeneratorInfo) -> str:
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

    A generator of its own for this is asked through the same ledger.
    """
    settings, task = run.task.refinement, run.task
    if not settings.rounds:
        return _unrefined(run, texts)
    client = run.client.other(settings.generator) if settings.generator else run.client
    with closing(client) if settings.generator else nullcontext():
        if reason := why_not_refined(task, run.gold is not None, client.info):
            run.listener.note(f"No text is refined: {reason}.")
            return _unrefined(run, texts)
        rewriter = Refiner.of(run, client)
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
    rewriter: Refiner,
    text_filter: TextFilter,
    encoder: TextEncoder,
    max_length: int,
    seed: int,
    note: Callable[[str], None],
) -> Dataset:
    score = label_scorer(gold, encoder.frozen(labels, max_length, is_pair=False), seed)
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


@dataclass(frozen=True, kw_only=True)
class Refiner(Asking):
    """Has a chat model rewrite what the task's generator wrote; files stay as another wrote them.

    Attributes:
        source: Whose texts it rewrites.
    """

    source: str | None

    @classmethod
    def of(cls, run: RunContext, client: LLMClient) -> Refiner:
        """That of a run, who is asked through a client."""
        names = ("labels", "text_type", "domain", "label_type", "description", "seed")
        generation = only(run.task.generation, "max_tokens", "instruction")
        return cls.through(
            client,
            run,
            _REFINE.name,
            [f"{name}.chat" for name in (refinement.CRITICISE, refinement.REFINE)],
            task=only(run.task, *names, generation=generation),
            source=run.task.generator_source,
        )

    def __call__(self, rows: Sequence[Example], number: int) -> list[Example | None]:
        """A child of each text that may have one and got an answer; see `Rewriter.rewrite`."""
        rewriter = refinement.Rewriter(
            self.prompts,
            self.generator,
            self.ask,
            partial(label_variables, self.task),
            self.task.seed,
            self.task.generation.max_tokens,
        )
        own = [row.source == self.source for row in rows]
        mine = [row for row, is_own in zip(rows, own, strict=True) if is_own]
        made = iter(rewriter.rewrite(mine, number))
        return [next(made) if is_own else None for is_own in own]


def _unrefined(run: RunContext, texts: Dataset) -> Dataset:
    """The texts as they are; what an earlier run of the task refined is not what follows them."""
    run.cache.directory.file(_REFINE.files[0]).unlink(missing_ok=True)
    return texts


def why_not_judged(generator: GeneratorInfo) -> str:
    """Why no text can be scored by a rubric; empty when texts can be."""
    if generator.prompt_kind == "document":
        return (
            f"{generator.name} continues documents and follows no instructions; name a chat model "
            "in curation.judge.generator"
        )
    return ""


def judge_texts(run: RunContext, texts: Dataset) -> Dataset:
    """Has a chat model score the kept texts by the task's rubric.

    A generator of its own for this is asked through the same ledger.
    """
    settings = run.task.curation.judge
    if settings is None:
        return _unjudged(run, texts)
    if settings.generator is None and run.task.generator_source is None:
        run.listener.note("No text is scored: name a chat model in curation.judge.generator.")
        return _unjudged(run, texts)
    client = run.client.other(settings.generator) if settings.generator else run.client
    with closing(client) if settings.generator else nullcontext():
        if reason := why_not_judged(client.info):
            run.listener.note(f"No text is scored: {reason}.")
            return _unjudged(run, texts)
        judge = RubricJudge.of(run, client, settings)
        judged = run.cache.step(
            _RUBRIC,
            lambda texts, judge: judge(texts),
            unanswered=judge.unanswered,
            texts=texts,
            judge=judge,
        )
    return need_some(run, judged, _RUBRIC)


def _unjudged(run: RunContext, texts: Dataset) -> Dataset:
    run.cache.directory.file(_RUBRIC.files[0]).unlink(missing_ok=True)
    return texts


@dataclass(frozen=True, kw_only=True)
class RubricJudge(Asking):
    """A chat model that scores texts by a rubric.

    Attributes:
        settings: The rubric, and the scores that a text may have.
    """

    settings: Judge

    @classmethod
    def of(cls, run: RunContext, client: LLMClient, settings: Judge) -> RubricJudge:
        """That of a run, who is asked through a client."""
        names = ("kind", "labels", "text_type", "domain", "label_type", "seed")
        task = only(run.task, *names)
        templates = [f"{llm_judge.RUBRIC}.chat"]
        return cls.through(
            client,
            run,
            _RUBRIC.name,
            templates,
            task=task,
            settings=only(settings, "criteria", "least"),
        )

    def __call__(self, texts: Dataset) -> Dataset:
        """Scores the kept texts and rejects those with too low a score."""
        settings, rows = self.settings, np.flatnonzero(texts.kept_mask).tolist()
        requests = llm_judge.rubric_requests(
            [*texts.kept], self.task, settings.criteria, self.prompts, self.generator
        )
        answers = self.ask(requests)
        found = [answers.get(request.id) for request in requests]
        return llm_judge.with_judgement(texts, rows, found, list(settings.criteria), settings.least)


def judge_summary(run: RunContext, texts: Dataset) -> JudgeSummary | None:
    """What the judge scored, and how far people agree; None where nothing was scored."""
    settings = run.task.curation.judge
    scored = [(example.scores, example.rejected) for example in texts if example.scores]
    if settings is None or not scored:
        return None
    criteria = {}
    for name in settings.criteria:
        given = [scores[name] for scores, _ in scored]
        low = [r for _, r in scored if r and (r.filter, r.detail) == (llm_judge.FILTER, name)]
        counts = Counter(str(round(score)) for score in given)
        criteria[name] = CriterionScores(
            mean=float(np.mean(given)), counts=dict(sorted(counts.items())), rejected=len(low)
        )
    decisions = decisions_of(run.cache.directory.path)
    found = judge_agreement(texts, decisions, settings.bounds)
    shown = JudgeAgreement.model_validate(asdict(found)) if found else None
    return JudgeSummary(texts=len(scored), criteria=criteria, agreement=shown)


def label_scorer(
    gold: Dataset, frozen: FrozenTraining, seed: int
) -> Callable[[Dataset], Floats] | None:
    """Returns what tells how likely every row's label is, or None where it would only guess.

    Args:
        gold: What the classifier is trained on.
        frozen: The frozen encoder, with the labels.
        seed: Of the folds.
    """
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


def _save_audit(path: Path, made: Audit) -> None:
    write_table(path.with_suffix(".parquet"), made.table)
    write_json(path, made.summary)


def _load_audit(path: Path) -> Audit:
    return Audit(read_table(path.with_suffix(".parquet")), read_json(path))


_AUDIT = Step("audit", 2, ("audit.json", "audit.parquet"), _save_audit, _load_audit)


def run_audit(run: RunContext, written: Dataset, curated: Dataset) -> dict[str, Any]:
    """Looks for personal data, memory of gold and skews in what was accepted.

    Leaves ``audit.json`` and ``audit.parquet`` in the run.

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
    run: RunContext, texts: Dataset, text_filter: TextFilter, derived: str | None = None
) -> tuple[Dataset, set[str]]:
    """Applies the decisions of the run's review, if there was one.

    With ``derived``, only on texts derived in this way: they have come since the others were.

    Returns:
        The examples, and the ids of those that people have verified.
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
    edited = any(decision.edited for decision in decisions.values())
    reviewed = run.cache.step(
        step,
        _reviewed,
        texts=texts,
        decisions=decisions,
        text_filter=text_filter if edited else None,
        asked=run.task.generation.asked_fields() if edited else None,
    )
    return need_some(run, reviewed, step), human_verified(reviewed, decisions)


def _reviewed(
    texts: Dataset,
    decisions: Mapping[str, Decision],
    text_filter: TextFilter | None,
    asked: FieldSet | None,
) -> Dataset:
    """Examples as people decided; what they edited is filtered as all texts are."""
    decided = apply_decisions(texts, decisions, asked.edited if asked else None)
    if text_filter is None or len(decided) == len(texts):
        return decided
    edited = decided[len(texts) :]
    read = text_filter.analyzer.registers(edited.texts)
    seen = [e.register_seen or register for e, register in zip(edited, read, strict=True)]
    whole = Dataset.concat([decided[: len(texts)], edited.with_registers(seen)])
    return text_filter(whole, len(texts))
