"""Estimates what a run will request, cost and take."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, sqrt
from pathlib import Path
from typing import Any, Literal, TypeVar

from japagen.config.generation import STRATEGY, GeneratorSettings, Knowledge, UntilKept
from japagen.config.task import Task
from japagen.config.task_data import TaskData, load_data, load_sources
from japagen.curation import llm_judge
from japagen.curation.refinement import Rewriter
from japagen.curation.register_control import (
    Rewritten,
    Wanted,
    control_registers,
    rewrite_by_model,
    rewrite_by_rules,
)
from japagen.data.dataset import Dataset, Example
from japagen.generation import planner
from japagen.japanese.registers import OTHER
from japagen.llm.backend import (
    AmbiguousOptionsError,
    Answer,
    Generator,
    GeneratorInfo,
    OptionScorer,
    Prompt,
    Request,
    load_generator,
    scores_options,
)
from japagen.llm.client import BudgetTracker
from japagen.llm.requests import label_variables, prepare
from japagen.pipeline.context import TaskContext, find_registers
from japagen.pipeline.costs import (
    NOTHING_ASKED,
    Past,
    Rate,
    StepCost,
    foretell_memory,
    measured,
    recorded,
    sums,
    totals,
)
from japagen.pipeline.preview import all_requests, prompt_text, shown
from japagen.pipeline.steps.baselines import questions_on, zero_shot_requests
from japagen.pipeline.steps.curate import TextFilter, why_not_judged, why_not_refined
from japagen.pipeline.steps.generate import not_to_copy
from japagen.pipeline.steps.labels import chat_labeler, sample_of
from japagen.pipeline.summary import seed_use

T = TypeVar("T")
# Fewer texts than these say too little of the others.
_LEAST = 20


@dataclass(frozen=True, slots=True)
class ExpectedYield:
    """What becomes of texts.

    Attributes:
        kept: Share that curation and register control keep, rewritten or not.
        rewrites: Requests to a model to rewrite one, for each text.
        texts: How many they were found on.
    """

    kept: float
    rewrites: float
    texts: int


def expected_yield(
    context: TaskContext, requests: Sequence[Request], answers: Mapping[str, Answer]
) -> ExpectedYield | None:
    """Finds it out on the texts that were answered; None where there are too few, and of pairs."""
    task, analyzer = context.task, context.analyzer
    asked = [r for r in requests if r.id in answers]
    if len(asked) < _LEAST or task.pair:
        return None
    settings = task.curation
    rows = planner.to_dataset(asked, answers, {}, "", task.label_space().label)
    text_filter = TextFilter(
        settings,
        context.gold,
        context.prompts.phrases,
        not_to_copy(context, asked),
        analyzer,
        # Comparing meanings takes an encoder, which a plan need not wait for.
        encoder=None,
    )
    kept = text_filter(find_registers(rows, analyzer))
    if settings.register_miss == "ignore":
        return ExpectedYield(len(kept.kept) / len(rows), 0.0, len(rows))
    to_model: list[str] = []

    def refuse(wanted: Wanted) -> list[Rewritten]:
        to_model.extend(example.id for example, _ in wanted)
        return [Rewritten(refused="not asked") for _ in wanted]

    held, children = control_registers(
        kept, settings.register_miss, lambda wanted: rewrite_by_rules(wanted, analyzer), refuse
    )
    # Those that a model would be asked for may come out well.
    number = len(held.kept) + (len(children) if children is not None else 0) + len(to_model)
    rewrites = len(to_model) * settings.rewrite_attempts
    return ExpectedYield(min(1.0, number / len(rows)), rewrites / len(rows), len(rows))


def stand_ins(gold: Dataset, number: int) -> Dataset:
    """Texts of the right length, in place of those that are not there yet."""
    return gold.take([i % len(gold) for i in range(number)])


def notes_on(
    task: Task,
    info: GeneratorInfo,
    refiner: GeneratorInfo | None = None,
    judge: GeneratorInfo | None = None,
) -> list[str]:
    """What a table of requests does not show."""
    notes = []
    if info.prompt_kind == "document" and any(
        len(task.generation.grid(label)) > 1 for label in task.labels
    ):
        notes.append(
            f"{info.name} continues documents: of generation.attributes it is told the first alone."
        )
    if info.prompt_kind == "document" and (task.generation.texts_per_request or 1) > 1:
        notes.append(f"{info.name} continues documents: it writes one text per request.")
    if task.generation.strategy == STRATEGY:
        notes.append(
            "Gradient matching rewrites texts in this process once their labels were checked: "
            "no requests, but time that is not in the table."
        )
    if task.refinement.rounds:
        reason = why_not_refined(task, task.gold is not None, refiner or info)
        notes += [f"No text will be refined: {reason}."] if reason else []
    if task.curation.judge is not None and (reason := why_not_judged(judge or info)):
        notes.append(f"No text will be scored: {reason}.")
    return notes


# Prompts whose tokens are counted for a step that has its prompts only when the texts are there.
_PROMPTS = 16
# Prompts weighed to time it: the first reads what all share, the others show what a text costs.
_WEIGHED = 3


def _labeler_notes(task: Task, data: TaskData) -> list[str]:
    """What the embedded chat model is asked, which labels unlabelled texts free of charge."""
    texts = sample_of(task, data)
    if texts is None or data.gold is None or chat_labeler(task) is None:
        return []
    asked = len(texts) + len(data.gold)
    minutes = max(1, round(asked * _LABELER_SECONDS / 60))
    return [
        f"The embedded chat model labels {len(texts)} unlabelled texts and {len(data.gold)} gold "
        f"texts, for about {minutes} minutes of one processor."
    ]


def estimate(task: Task, run: Path | None = None, sample: int | None = None) -> dict[str, Any]:
    """Says what a run would take, in requests, tokens, time and yen.

    Time and the length of answers are measured: on what ``run`` has in its ledger, or else on
    a few requests that are sent now.

    Args:
        task: The task.
        run: A run directory of the task; ``runs/NAME`` when None. It need not exist.
        sample: Requests to send if the ledger says nothing; when None, 4 to a generator on this
            machine and none to one elsewhere.

    Returns:
        ``steps``: of ``generate``, ``rewrite`` (into the register asked for), ``refine`` (texts in
        doubt), ``rubric`` (scores by ``curation.judge``), ``trust`` (the label check, and labels
        for unlabelled texts) and ``zero_shot``
        (labels for test texts, as a baseline), each with
        ``requests`` (at most), ``expected_requests``, ``answered`` (in the ledger already),
        ``prompt_tokens``, ``max_completion_tokens``, and for what is not answered yet
        ``max_tokens_left``, ``completion_tokens``, ``seconds``, ``yen`` (expected; None where it
        is not known) and ``max_yen`` (None without a price). The same names
        outside ``steps`` are sums, of what is known; ``unknown`` names the steps that are not.
        Of generation: ``texts`` (how many are asked for), ``rounds`` (requests of each), ``cells``
        (label, register, requests, texts), ``until`` (``requests`` and ``kept``, the share of texts
        that is, from to; None where texts are asked for once), ``knowledge`` (label, kind, item,
        and as ``requests`` the texts that are to name it) and ``shared_prompt_tokens`` (every
        distinct prompt counted once). And ``measured_on`` (ledger or sample), ``batch`` (the share
        of the price that the batch API takes, or None), ``budget``, ``notes`` (sentences on what
        this generator will not be asked, or may be asked besides), ``seed_rows`` (of the seed
        table: file, order, rows, and how many are used; None without one), ``masked`` and
        ``peak_bytes`` (see `foretell_memory`).
        ``sources`` are the files that texts are read from (name, file, texts), which cost
        nothing; where the generator writes nothing, ``steps`` is empty and it is not loaded.
        What later rounds name because the earlier ones lack it is not known before they are
        asked, and not in it.
    """
    given = load_sources(task)
    files = [
        {"name": s.name, "file": s.path.name, "texts": len(given[s.name])}
        for s in task.sources
        if s.path is not None
    ]
    refines = task.refinement.generator if task.refinement.rounds else None
    judges = task.curation.judge.generator if task.curation.judge else None
    if task.generator_source is None:
        data = load_data(task)
        notes = [*NOTHING_ASKED["notes"], *_labeler_notes(task, data)]
        memory, head = foretell_memory(task, data, sum(map(len, given.values())))
        notes += _memory_notes(head)
        empty = {**NOTHING_ASKED, "sources": files, "peak_bytes": memory}
        if judges is None:
            return {**empty, "notes": [*data.notes, *notes]}
        with closing(load_generator(judges)) as scorer:
            context, past = TaskContext.open(task, data), Past({}, None, {})
            known = _Forecast(context, scorer, None, past, None, None, (), judge=scorer)
            scored = known.scoring(list(task.labels), sum(map(len, given.values())))
        rows = [step.to_dict(task) for step in scored]
        found = {"generator": scorer.info.name, "steps": rows, **sums(rows)} if rows else {}
        notes = [*data.notes, *notes_on(task, scorer.info), *notes[bool(rows) :]]
        return {**empty, "notes": notes, **found}
    with (
        closing(load_generator(task.generator)) as generator,
        _second(refines) as refiner,
        _second(judges) as judge,
    ):
        # A budget in yen without a price is refused here as it would be later.
        BudgetTracker(task.generation.budget, task.generator.price)
        context = TaskContext.open(task, load_data(task))
        requests = all_requests(context, generator.info)
        dictionary = task.japanese.user_dictionary
        outgoing = prepare(requests, generator.info, task.privacy, dictionary)
        requests = list(outgoing.requests)
        tokens = {t: generator.count_tokens(t) for t in {prompt_text(r) for r in requests}}
        test_requests = zero_shot_requests(context, generator.info)
        past = recorded(requests, test_requests, generator, run or Path("runs") / task.name)
        waiting = [r for r in requests if r.id not in past.answers]
        rate = past.rate or measured(waiting, generator, sample)
        yields = expected_yield(context, requests, past.answers) if past.answers else None
        wanted = task.generation.until
        until = _Until.of(wanted, requests, yields) if wanted else None
        known = _Forecast(
            context, generator, rate, past, yields, refiner, test_requests, until, judge
        )
        texts_asked = sum(r.texts for r in requests) + sum(map(len, given.values()))
        steps = [
            known.generation(requests, waiting, tokens),
            *known.rewriting(requests),
            *known.refining(requests),
            *known.scoring([r.label for r in requests], texts_asked),
            *known.label_check(texts_asked),
            *known.zero_shot(),
        ]
    rows = [s.to_dict(task, paid=s.max_tokens > 0) for s in steps]
    seeds = seed_use(task, context.data, [row for r in requests for row in r.seed_rows])
    cells, texts = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for r in requests:
        cells[r.label, r.register.name] += 1
        texts[r.label, r.register.name] += r.texts
    memory, head = foretell_memory(task, context.data, texts_asked)
    named = Counter((r.label, _shown(Knowledge.parse(k))) for r in requests for k in r.knowledge)
    return {
        "sources": files,
        **totals(task, generator, rows, rate),
        "cells": [
            {"label": label, "register": preset, "requests": n, "texts": texts[label, preset]}
            for (label, preset), n in cells.items()
        ],
        "texts": texts.total(),
        "until": until and {"requests": [until.low, until.high], "kept": list(until.texts)},
        "rounds": [n for _, n in sorted(Counter(r.round for r in requests).items())],
        "knowledge": [
            {"label": label, "kind": known.kind, "item": known.item, "requests": n}
            for (label, known), n in named.items()
        ],
        "shared_prompt_tokens": sum(tokens.values()),
        "notes": [
            *context.data.notes,
            *_undescribed(task),
            *([until.note(task.generation.first_texts)] if until else []),
            *notes_on(
                task,
                generator.info,
                refiner.info if refiner else None,
                judge.info if judge else None,
            ),
            *_labeler_notes(task, context.data),
            *_seed_notes(seeds),
            *_memory_notes(head),
        ],
        "peak_bytes": memory,
        "seed_rows": seeds,
        "masked": sum(sum(found.values()) for found in outgoing.masked.values()),
    }


# Of the embedded chat model for one short text; 0.8 to 1.5 were measured (docs/generators.md).
_LABELER_SECONDS = 1.2


def _memory_notes(head: int | None) -> list[str]:
    if head is None:
        return []
    return [
        "How many texts are kept decides whether training tunes the encoder, for which the memory "
        f"is; a head alone takes about {head / 1e9:.1f} GB."
    ]


def _undescribed(task: Task) -> list[str]:
    labels = [label for label, text in task.labels.items() if not text]
    if not labels:
        return []
    return [
        f"Without a description prompts say the name alone, and texts are worse: "
        f"{', '.join(labels)}. Describe them under labels."
    ]


def _seed_notes(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    used, rows, file, order = (found[name] for name in ("used", "rows", "file", "order"))
    return [f"{used:,} of {rows:,} rows of {file} are used (order: {order})."]


@contextmanager
def _second(settings: GeneratorSettings | None) -> Iterator[Generator | None]:
    """A second model, if the task names one that is asked."""
    if settings is None:
        yield None
        return
    with closing(load_generator(settings)) as generator:
        yield generator


def _shown(known: Knowledge) -> Knowledge:
    """What a plan lists: passages are counted, not shown one by one."""
    return replace(known, item="generation.corpus") if known.kind == "passage" else known


# Shares of texts that are kept, where none have been seen: docs/closed_loop.md has what was
# measured, which lies in the upper part.
_ASSUMED_YIELD = (0.5, 1.0)
# A measured yield is known to two standard errors.
_YIELD_ERRORS = 2.0


@dataclass(frozen=True, slots=True)
class _Until:
    """How many requests it may take until enough texts are kept.

    Attributes:
        low: If as many texts are kept as can be expected.
        high: If as few are.
        most: If every label is asked for in full in every round.
        texts: What is kept, low and high, as a share.
        measured: Whether that was seen in earlier answers.
    """

    low: int
    high: int
    most: int
    texts: tuple[float, float]
    measured: bool

    @classmethod
    def of(
        cls, until: UntilKept, requests: Sequence[Request], yields: ExpectedYield | None
    ) -> _Until:
        """By the yield that was seen on texts of the first round, or an assumed one."""
        few, many = _ASSUMED_YIELD
        if yields is not None:
            error = _YIELD_ERRORS * sqrt(yields.kept * (1 - yields.kept) / yields.texts)
            few, many = yields.kept - error, min(1.0, yields.kept + error)
        few, most = max(few, until.least_yield), len(requests) * until.rounds
        low, high = (min(most, ceil(len(requests) / share)) for share in (max(many, few), few))
        return cls(low, high, most, (few, max(many, few)), yields is not None)

    @property
    def expected(self) -> int:
        """Between the two."""
        return round((self.low + self.high) / 2)

    def note(self, wanted: int) -> str:
        """The range in a sentence."""
        shares = "–".join(f"{100 * share:.0f}" for share in self.texts)
        source = "measured on earlier answers" if self.measured else "assumed, nothing is known yet"
        return (
            f"Until {wanted} texts of each label are kept: "
            f"{'–'.join((f'{self.low:,}', f'{self.high:,}'))} requests if {shares}% of the texts "
            f"are kept ({source}), {self.most:,} at most."
        )


def _some(items: Sequence[T]) -> Sequence[T]:
    """A few, spread over all."""
    return items[:: max(1, len(items) // _PROMPTS)][:_PROMPTS]


@dataclass(frozen=True)
class _Forecast:
    """What is known of a run when its steps are estimated."""

    context: TaskContext
    generator: Generator
    rate: Rate | None
    past: Past
    yields: ExpectedYield | None
    refiner: Generator | None
    alone: Sequence[Request]
    until: _Until | None = None
    judge: Generator | None = None

    @property
    def task(self) -> Task:
        """The task."""
        return self.context.task

    def label_seconds(self, asked: Sequence[Request]) -> float | None:
        """Seconds for a label: recorded, or measured, or else those for a text."""
        if self.past.judging or not self.rate:
            return self.past.judging
        # Prompts of a sample are not masked, so none goes to a generator elsewhere.
        sampled = self.rate.source == "sample" and self.generator.info.local
        found = measured(asked, self.generator, None) if sampled else None
        return (found or self.rate).seconds

    def generation(
        self, requests: Sequence[Request], waiting: Sequence[Request], tokens: Mapping[str, int]
    ) -> StepCost:
        """The texts themselves; ``waiting`` are the requests without an answer."""
        number = max(1, len(requests))
        texts = sum(r.texts for r in requests) / number
        most, expected, answered = len(requests), len(requests), len(requests) - len(waiting)
        read = sum(tokens[prompt_text(r)] for r in requests)
        unread = sum(tokens[prompt_text(r)] for r in waiting)
        if self.until:
            most = self.until.most
            answered = min(most, max(answered, self.past.counts.get("generate", 0)))
            expected = max(self.until.expected, answered)
            unread = round(read / number * (most - answered))
            read = round(read / number * most)
        return StepCost(
            "generate",
            requests=most,
            expected=expected,
            answered=answered,
            prompt_tokens=read,
            waiting_tokens=unread,
            max_tokens=sum(r.sampling.max_tokens for r in requests) / number,
            completion=texts * self.rate.completion_tokens if self.rate else None,
            seconds=texts * self.rate.seconds if self.rate else None,
        )

    def _stand_ins(self, rows: Sequence[Mapping[str, Any]]) -> list[Example]:
        """Examples of some fields, with texts about as long as those that are asked for."""
        gold = self.context.gold
        texts = self.context.prompts.phrases if gold is None else gold.texts
        return [Example(texts[i % len(texts)], id=f"s-{i}", **row) for i, row in enumerate(rows)]

    def rewriting(self, requests: Sequence[Request]) -> list[StepCost]:
        """Texts that are not in the register asked for and that no rule can put into it."""
        curation = self.task.curation
        rewrites = curation.register_miss != "ignore" and "rewrite" in curation.register_miss
        left_alone = self.task.pair or self.task.generation.fields
        if left_alone or not rewrites or not curation.rewrite_attempts:
            return []
        texts = expected_texts = sum(r.texts for r in requests)
        if self.until:
            texts = round(texts * self.until.most / len(requests))
            expected_texts = round(expected_texts * self.until.expected / len(requests))
        asked: list[Request] = []

        def send(sent: Sequence[Request]) -> Mapping[str, Answer]:
            asked.extend(sent)
            return {}

        # Spread over the registers asked for.
        registers = [n for r in requests if (n := r.register.name) != OTHER] or ["polite"]
        spread_out, context = _some(registers), self.context
        wanted = [*zip(self._stand_ins([{}] * len(spread_out)), spread_out, strict=True)]
        info = self.generator.info
        rewrite_by_model(wanted, self.task, context.prompts, info, context.analyzer, send)
        answered = self.past.counts.get("rewrite", 0)
        expected = None
        if self.yields is not None:
            expected = max(round(self.yields.rewrites * expected_texts), answered)
        counts = (texts * curation.rewrite_attempts, expected, answered)
        return [self._step("rewrite", counts, asked)]

    def refining(self, requests: Sequence[Request]) -> list[StepCost]:
        """Texts in doubt: each round a critique, and a new text; how many only they can tell."""
        task, rounds = self.task, self.task.refinement.rounds
        info = (self.refiner or self.generator).info
        if not rounds or why_not_refined(task, task.gold is not None, info):
            return []
        asked: list[Request] = []

        def send(sent: Sequence[Request]) -> Mapping[str, Answer]:
            asked.extend(sent)
            # A critique about as long as they come.
            said = json.dumps({"text": "指摘" * 40}, ensure_ascii=False)
            return {r.id: Answer(r.id, said, "stop") for r in sent}

        variables = partial(label_variables, task)
        rows = self._stand_ins(
            [{"label": r.label, "register_asked": r.register} for r in _some(requests)]
        )
        tokens = task.generation.max_tokens
        Rewriter(self.context.prompts, info, send, variables, task.seed, tokens).rewrite(rows, 1)
        most = 2 * rounds * sum(r.texts for r in requests)
        answered = sum(self.past.counts.get(name, 0) for name in ("criticise", "refine"))
        counts = (most, None, answered)
        if self.refiner is None:
            return [self._step("refine", counts, asked)]
        step = self._asking(self.refiner)._step("refine", counts, asked)
        return [replace(step, asked=task.refinement.generator)]

    def scoring(self, labels: Sequence[str], texts: int) -> list[StepCost]:
        """Scores by a rubric: of each text that is kept."""
        settings, info = self.task.curation.judge, (self.judge or self.generator).info
        if settings is None or why_not_judged(info):
            return []
        space, criteria = self.task.label_space(), settings.criteria
        rows = self._stand_ins([{"label": space.label(label)} for label in _some(labels)])
        prompts = self.context.prompts
        asked = llm_judge.rubric_requests(rows, self.task, criteria, prompts, info)
        answered = self.past.counts.get(llm_judge.RUBRIC, 0)
        kept = texts if self.yields is None else round(self.yields.kept * texts)
        counts = (texts, max(kept, answered), answered)
        one = self._asking(self.judge) if self.judge else self
        said = one._mean_tokens([json.dumps(dict.fromkeys(criteria, 5), ensure_ascii=False)])
        step = one._step(llm_judge.RUBRIC, counts, asked)
        return [replace(step, completion=said, asked=settings.generator)]

    def _asking(self, generator: Generator) -> _Forecast:
        """The same with another model, of whose speed nothing is known."""
        return replace(self, generator=generator, rate=None)

    def label_check(self, texts: int) -> list[StepCost]:
        """Gold once, and other texts once for each fold of it; once if the judge is shown none."""
        task, data, info = self.task, self.context.data, self.generator.info
        # The embedded chat model labels these by itself: a note says so.
        unlabelled = 0 if chat_labeler(task) else len(sample_of(task, data) or ())
        texts = texts if task.alignment.label_trust == "pool" else 0
        gold = data.gold
        if gold is None or task.kind != "classification" or not texts + unlabelled:
            return []
        how = self._judging
        if how is None:
            return []
        times = 1 if how == "letters" else llm_judge.FOLDS
        kept = texts if self.yields is None else round(self.yields.kept * texts)
        most, expected = (times * (n + unlabelled) + len(gold) for n in (texts, kept))
        questions = llm_judge.plan_questions(stand_ins(gold, _PROMPTS), gold, task.seed)
        if how != "answers":
            return [self._weighing("trust", how, questions, (most, expected), llm_judge.FOLDS)]
        some = questions[:: max(1, len(questions) // _PROMPTS)]
        asked = llm_judge.requests(some, task, self.context.prompts, info)
        answered = self.past.counts.get("judge", 0)
        return [self._labelling("trust", (most, max(expected, answered), answered), asked)]

    def zero_shot(self) -> list[StepCost]:
        """A test text each, as a baseline."""
        asked, test, how = self.alone, self.context.data.test, self._judging
        if not asked or test is None or how is None:
            return []
        if how != "answers":
            counts = (len(asked), len(asked))
            return [self._weighing("zero_shot", how, questions_on(self.task, test), counts, 1)]
        answered = self.past.counts.get("zero_shot", 0)
        return [self._labelling("zero_shot", (len(asked), len(asked), answered), asked[:_PROMPTS])]

    @property
    def _judging(self) -> Literal["letters", "names", "answers"] | None:
        """How the generator says which label a text has; None where it does not.

        In this process a chat model weighs letters, without shots, and a base model the labels'
        names; other models answer, base models only if their answers come with scores.
        """
        document = self.generator.info.prompt_kind == "document"
        if isinstance(self.generator, OptionScorer):
            if document:
                return "names"
            return "letters" if llm_judge.has_letters(self.task.labels) else "answers"
        return None if document and not scores_options(self.generator) else "answers"

    def _labelling(
        self, name: str, counts: tuple[int, int, int], asked: Sequence[Request]
    ) -> StepCost:
        """Answers that name a label."""
        names = [f'{{"label": "{label}"}}' for label in self.task.labels]
        said = self._mean_tokens(names) if self.rate else None
        step = self._step(name, counts, asked)
        return replace(step, completion=said, seconds=self.label_seconds(asked))

    def _step(
        self,
        name: str,
        counts: tuple[int, int | None, int],
        prompts: Sequence[Request],
    ) -> StepCost:
        """Requests like the given prompts, each answered with a text."""
        most, expected, answered = counts
        each = self._mean_tokens([prompt_text(r) for r in prompts])
        return StepCost(
            name,
            requests=most,
            expected=expected,
            answered=answered,
            prompt_tokens=each * most,
            waiting_tokens=each * max(0, most - answered),
            max_tokens=max(r.sampling.max_tokens for r in prompts),
            completion=self.rate.completion_tokens if self.rate else None,
            seconds=self.rate.seconds if self.rate else None,
        )

    def _mean_tokens(self, texts: Sequence[str]) -> float:
        return sum(map(self.generator.count_tokens, texts)) / max(len(texts), 1)

    def _weighing(
        self,
        name: str,
        how: Literal["letters", "names"],
        questions: Sequence[llm_judge.Question],
        counts: tuple[int, int],
        readings: int,
    ) -> StepCost:
        """No answers, only time: what prompts share is read ``readings`` times, or once."""
        task, prompts, gold = self.task, self.context.prompts, self.context.data.gold
        if how == "letters":
            # A chat model in this process is shown no gold.
            assert gold is not None
            names, readings = llm_judge.letters(list(task.labels)), 1
            texts = stand_ins(gold, _WEIGHED)
            alone = llm_judge.plan_zero_shot(texts, texts)[:_WEIGHED]
            asked = llm_judge.weighing_prompts(alone, task, prompts, names, zero_shot=True)
        else:
            names = list(task.labels)
            asked = llm_judge.weighing_prompts(questions[:_WEIGHED], task, prompts, names)
        most, expected = counts
        each = self._mean_tokens([shown(prompt) for prompt in asked])
        sampled = self.rate is not None and self.rate.source == "sample"
        times = self._weighed(asked, names) if sampled else []
        # What prompts share is read with the first; what follows it is only the text.
        first, rest = (times[0], sum(times[1:]) / len(times[1:])) if times else (0.0, None)
        return StepCost(
            name,
            requests=most,
            expected=expected,
            prompt_tokens=each * most,
            completion=0.0,
            seconds=rest,
            extra_seconds=readings * first,
        )

    def _weighed(self, prompts: Sequence[Prompt], names: Sequence[str]) -> list[float]:
        assert isinstance(self.generator, OptionScorer)
        times = []
        try:
            for prompt in prompts:
                began = time.perf_counter()
                list(self.generator.choose([prompt], names))
                times.append(time.perf_counter() - began)
        except AmbiguousOptionsError:
            texts = [prompt for prompt in prompts if isinstance(prompt, str)]
            if len(texts) < len(prompts):
                raise
            return self._weighed(texts, llm_judge.letters(names))
        return times
