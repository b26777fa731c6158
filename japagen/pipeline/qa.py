"""Questions on documents: what a run of ``kind: qa`` does, and what it would ask."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

import japagen
from japagen.config.qa import QATask
from japagen.curation.qa import (
    check_closed_book,
    check_options,
    check_question,
    check_round_trip,
    check_unanswerable,
    holds_answer,
    multiple_choice,
    reject_alike,
    unanswerable,
)
from japagen.data.documents import Document, Passage, Skipped, read_documents, split_document
from japagen.data.export import export_rows, write_lines
from japagen.data.files import digest, write_json, write_text
from japagen.data.qa import (
    KINDS,
    PASSAGES,
    QUESTIONS,
    QASummary,
    Question,
    RetrievalScore,
    kept,
    read_passages,
    relevant,
)
from japagen.data.qa import read_questions as load_questions
from japagen.data.registry import QA_EXPORTS
from japagen.errors import JapagenError
from japagen.evaluation.qa import (
    BM25,
    artefacts,
    encoder_scores,
    retrieval_score,
    right_passages,
    trivial_share,
)
from japagen.generation.qa import (
    NOT_ANSWERED,
    Interview,
    not_written,
    read_choice,
    read_options,
    read_questions,
    read_reply,
)
from japagen.japanese.morphology import Tagger
from japagen.listener import Listener, Logged
from japagen.llm.answers import why_unreadable
from japagen.llm.backend import Answer, Generator, Request, load_generator
from japagen.llm.backends.offline import HERE, Elsewhere
from japagen.llm.client import BudgetTracker, LLMClient, ask_unrecorded
from japagen.llm.prompts import PromptLibrary
from japagen.llm.requests import prepare
from japagen.pipeline.cache import Cache, Step
from japagen.pipeline.costs import Rate, StepCost, measured, recorded, totals
from japagen.pipeline.preview import prompt_text
from japagen.pipeline.run_directory import RunDirectory

load = QATask.load
_QUESTIONS = Step("questions", 1, ("asked.jsonl",), write_lines, load_questions)
_ANSWERS = Step("answers", 1, ("answered.jsonl",), write_lines, load_questions)
_VARIANTS = Step("variants", 1, (QUESTIONS,), write_lines, load_questions)
_CHOICES = Step("options", 1, ("choices.json",))
_RETRIEVAL = Step("retrieval", 1, ("retrieval.json",))
# Answers that fit on a line of options.
_LONGEST_OPTION = 30
# Prompts whose tokens are counted for what is asked of questions that are not there yet.
_PROMPTS = 16
_STAND_IN = ("育児短時間勤務の申請は、開始日の何日前までに行う必要がありますか。", "開始日の30日前")


@dataclass(frozen=True)
class Material:
    """What a task asks about.

    Attributes:
        documents: The documents.
        skipped: What was left out.
        passages: What they were cut into, by id.
        asked: Those that questions are asked for on.
    """

    documents: Sequence[Document]
    skipped: Sequence[Skipped]
    passages: Mapping[str, Passage]
    asked: Sequence[Passage]


def read_material(task: QATask) -> Material:
    """Reads a task's documents and cuts them.

    Raises:
        JapagenError: If there are none, or no passage in them.
    """
    documents, skipped = read_documents(task.documents)
    cut = task.passages
    found = [
        passage
        for document in documents
        for passage in split_document(document, cut.characters, cut.overlap, cut.least)
    ]
    if not found:
        raise JapagenError(
            f"Expected passages of {cut.least} characters or more in {task.documents}, found none.",
            "Lower passages.least, or give longer documents.",
        )
    most = min(task.generation.most_passages or len(found), len(found))
    asked = [found[place * len(found) // most] for place in range(most)]
    return Material(documents, skipped, {p.id: p for p in found}, asked)


@dataclass
class _Run:
    """What the steps of a run work with."""

    task: QATask
    material: Material
    interview: Interview
    client: LLMClient
    cache: Cache
    tagger: Tagger
    failures: Counter[str] = field(default_factory=Counter)

    def step(self, step: Step, make: Callable[..., Any], data: Any) -> Any:
        """A step that asks: ``make(run, data, unanswered)``.

        It is made again next time where something got no answer.
        """
        unanswered: list[str] = []
        return self.cache.step(
            step,
            lambda **_: make(self, data, unanswered),
            unanswered=unanswered,
            interview=self.interview,
            curation=self.task.curation,
            passages=self.material.passages,
            data=data,
        )

    def ask(
        self, requests: Mapping[str, Request], purpose: str, unanswered: list[str]
    ) -> dict[str, Answer]:
        """Asks under names; those without an answer that can be read are noted."""
        asked = self.client.ask([*requests.values()], purpose)
        if purpose == "generate":
            asked.check([*requests.values()])
        self.failures.update(asked.failures.values())
        found = {n: asked.answers[r.id] for n, r in requests.items() if r.id in asked.answers}
        unread = [r.id for n, r in requests.items() if n in found and why_unreadable(r, found[n])]
        unanswered += [*asked.failures, *unread]
        return found

    def replies(
        self, requests: Mapping[str, Request], purpose: str, unanswered: list[str]
    ) -> dict[str, str]:
        """As `ask`, with what the answers say; without those that cannot be read."""
        answers = self.ask(requests, purpose, unanswered)
        said = {name: read_reply(requests[name], answer) for name, answer in answers.items()}
        return {name: reply for name, reply in said.items() if reply}

    def drawn(self, questions: Sequence[Question], share: float, what: str) -> list[Question]:
        """A share of questions; the same ones whatever becomes of the others."""
        number = round(share * len(questions))
        order = sorted(questions, key=lambda q: digest([self.task.seed, what, q.id]))
        return order[:number]


def run(
    task: QATask,
    out: str | Path | None = None,
    *,
    generator: Generator | None = None,
    elsewhere: Elsewhere = HERE,
    listener: Listener | None = None,
    progress: bool = True,
) -> Path:
    """Makes questions on a task's documents, or goes on where an earlier run of it stopped.

    Arguments are those of `japagen.pipeline.run.run`.

    Returns:
        The run directory: ``questions.jsonl``, ``passages.jsonl``, ``qa.json``, ``report.html``.

    Raises:
        JapagenError: For everything the user can put right.
    """
    material = read_material(task)
    if task.retrieval.encoder:
        from japagen.training.encoder import check_encoder

        check_encoder(task.retrieval.encoder)
    prompts = PromptLibrary(task.generation.prompts)
    directory = RunDirectory(out or elsewhere.directory(task.name), task.name)
    told = listener or Logged(bars=progress)
    try:
        for skipped in material.skipped:
            told.note(f"Left out: {skipped.reason}")
        ledger = directory.file("ledger.sqlite")
        with closing(LLMClient(task, generator, ledger, told, elsewhere)) as client:
            interview = Interview(task, prompts, client.info)
            write_text(directory.file("task.yaml"), task.to_yaml())
            write_lines(directory.file(PASSAGES), material.passages.values())
            cache, tagger = Cache(directory, told), Tagger(task.japanese.user_dictionary)
            _go(_Run(task, material, interview, client, cache, tagger))
    finally:
        directory.release()
    return directory.path


def _go(run: _Run) -> None:
    from japagen.reporting.qa import render_report

    passages, directory = run.material.passages, run.cache.directory
    questions = run.step(_QUESTIONS, _written, [p.id for p in run.material.asked])
    questions = run.step(_ANSWERS, _answered, questions)
    questions = run.step(_VARIANTS, _varied, questions)
    chosen = run.step(_CHOICES, _chosen, kept(questions, "multiple_choice"))
    # Embedding needs the memory, and asks nothing.
    run.client.close()
    scores = _searched(run, kept(questions, "extractive"))
    summary = _summary(run, questions, chosen, scores)
    write_json(directory.file(QASummary.FILE), summary.model_dump(mode="json"))
    page = render_report(summary, questions, passages, language="ja")
    write_text(directory.file("report.html"), page)


def _written(run: _Run, asked: Sequence[str], unanswered: list[str]) -> list[Question]:
    """Questions as they were written, checked for what they say."""
    passages, settings = run.material.passages, run.task.curation
    requests = {name: run.interview.write(passages[name]) for name in asked}
    answers = run.ask(requests, "generate", unanswered)
    found: list[Question] = []
    for name, request in requests.items():
        if name in answers:
            found += read_questions(request, answers[name], passages[name])
        else:
            found.append(not_written(request, passages[name]))
    distinct = {q.id: q for q in found}.values()
    checked = [
        q if q.rejected else check_question(q, passages[q.passage_id].text, settings, run.tagger)
        for q in distinct
    ]
    return reject_alike(checked, settings.max_similarity)


def _answered(run: _Run, questions: Sequence[Question], unanswered: list[str]) -> list[Question]:
    """Questions asked again with their passage, and those that pass without it."""
    settings, passages = run.task.curation, run.material.passages
    found = {q.id: q for q in questions}
    requests = {q.id: run.interview.answer(q, passages[q.passage_id]) for q in kept(questions)}
    replies = run.replies(requests, "round_trip", unanswered)
    for name in requests:
        found[name] = _judged(found[name], replies, check_round_trip, settings.least_round_trip)
    requests = {q.id: run.interview.answer(q, None) for q in kept(found.values())}
    replies = run.replies(requests, "closed_book", unanswered)
    for name in requests:
        found[name] = _judged(found[name], replies, check_closed_book, settings.max_closed_book)
    return [*found.values()]


def _judged(
    question: Question, replies: Mapping[str, str], check: Callable[..., Question], *bound: float
) -> Question:
    """A question with what was replied to it, if anything was."""
    if question.id not in replies:
        return replace(question, rejected=NOT_ANSWERED)
    return check(question, replies[question.id], *bound)


def _varied(run: _Run, questions: Sequence[Question], unanswered: list[str]) -> list[Question]:
    """The questions, and those that are made of the kept ones."""
    return [
        *questions,
        *_with_options(run, kept(questions), unanswered),
        *_on_neighbours(run, kept(questions), unanswered),
    ]


def _with_options(
    run: _Run, questions: Sequence[Question], unanswered: list[str]
) -> list[Question]:
    """Multiple-choice questions, which the passage has to answer again."""
    settings, passages = run.task.generation, run.material.passages
    short = [q for q in questions if len(q.answer) <= _LONGEST_OPTION]
    drawn = run.drawn(short, settings.multiple_choice, "multiple_choice")
    requests = {q.id: run.interview.distract(q, passages[q.passage_id]) for q in drawn}
    answers = run.ask(requests, "distractors", unanswered)
    found = {}
    for q in drawn:
        order = list(range(settings.options))
        random.Random(f"{run.task.seed}/{q.id}").shuffle(order)
        wrong = read_options(requests[q.id], answers[q.id]) if q.id in answers else ()
        made = multiple_choice(q, wrong, order)
        found[made.id] = (
            check_options(made, settings.options, run.tagger)
            if q.id in answers
            else replace(made, rejected=NOT_ANSWERED)
        )
    requests = {q.id: run.interview.choose(q, passages[q.passage_id]) for q in kept(found.values())}
    answers = run.ask(requests, "choices", unanswered)
    replies = {name: read_choice(found[name], answer) for name, answer in answers.items()}
    for name in requests:
        found[name] = _judged(found[name], replies, check_round_trip, 1.0)
    return [*found.values()]


def _on_neighbours(
    run: _Run, questions: Sequence[Question], unanswered: list[str]
) -> list[Question]:
    """Questions asked of the passage that looks most like answering them, and does not."""
    passages = run.material.passages
    names, texts = [*passages], [p.text for p in passages.values()]
    search = BM25(texts, run.tagger)
    found = {}
    for q in run.drawn(questions, run.task.generation.unanswerable, "unanswerable"):
        right = set(relevant(q, passages))
        scores = search.scores(q.question)
        near = [names[place] for place in np.argsort(-scores, kind="stable") if scores[place] > 0]
        others = (
            n for n in near if n not in right and not holds_answer(passages[n].text, q.answer)
        )
        if neighbour := next(others, None):
            made = unanswerable(q, neighbour)
            found[made.id] = made
    requests = {q.id: run.interview.answer(q, passages[q.passage_id]) for q in found.values()}
    replies = run.replies(requests, "unanswerable", unanswered)
    return [_judged(q, replies, check_unanswerable) for q in found.values()]


def _chosen(run: _Run, questions: Sequence[Question], unanswered: list[str]) -> dict[str, str]:
    """Question id to the option that is chosen without the passage."""
    requests = {q.id: run.interview.choose(q, None) for q in questions}
    answers = run.ask(requests, "options_alone", unanswered)
    return {q.id: read_choice(q, answers[q.id]) for q in questions if q.id in answers}


def _searched(run: _Run, questions: Sequence[Question]) -> dict[str, Any]:
    """How well BM25 and the encoder find the passages of questions."""
    name, identity = run.task.retrieval.encoder, None
    if name:
        from japagen.training.encoder import encoder_identity

        identity = encoder_identity(name)
    found: dict[str, Any] = run.cache.step(
        _RETRIEVAL,
        _scores,
        uses={"encoder": name, "tagger": run.tagger},
        questions=questions,
        passages=run.material.passages,
        identities=[identity, run.tagger.identity],
    )
    return found


def _scores(
    questions: Sequence[Question],
    passages: Mapping[str, Passage],
    identities: Sequence[str | None],
    encoder: str | None,
    tagger: Tagger,
) -> dict[str, Any]:
    if not questions:
        return {"retrieval": [], "trivial": None}
    right = right_passages(questions, passages)
    queries, texts = [q.question for q in questions], [p.text for p in passages.values()]
    search = BM25(texts, tagger)
    words = np.stack([search.scores(query) for query in queries])
    found = [retrieval_score("bm25", words, right)]
    if encoder:
        from japagen.training.encoder import load_encoder

        vectors = encoder_scores(queries, texts, load_encoder(encoder))
        found.append(retrieval_score(encoder, vectors, right))
    rows = [score.model_dump(mode="json") for score in found]
    return {"retrieval": rows, "trivial": trivial_share(words, right)}


def _summary(
    run: _Run, questions: Sequence[Question], chosen: Mapping[str, str], scores: Mapping[str, Any]
) -> QASummary:
    task, material, info = run.task, run.material, run.client.info
    made, passed = Counter(q.kind for q in questions), Counter(q.kind for q in kept(questions))
    rejections: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for q in questions:
        if q.rejected:
            rejections[q.kind][q.rejected.filter] += 1
    return QASummary(
        japagen=japagen.__version__,
        created=run.cache.directory.created,
        task=task.name,
        description=task.description,
        generator=info.name,
        terms=info.terms.summary,
        documents=[document.name for document in material.documents],
        skipped={skipped.name: skipped.reason for skipped in material.skipped},
        passages=len(material.passages),
        asked=len(material.asked),
        characters=sum(len(document.text) for document in material.documents),
        made={kind: made[kind] for kind in KINDS},
        kept={kind: passed[kind] for kind in KINDS},
        rejections={kind: dict(counts.most_common()) for kind, counts in rejections.items()},
        failures=dict(run.failures),
        retrieval=[RetrievalScore.model_validate(row) for row in scores["retrieval"]],
        trivial=scores["trivial"],
        artefacts=artefacts(kept(questions, "multiple_choice"), chosen),
        cost=dict(run.client.cost()[0]),
    )


def preview(task: QATask, number: int) -> list[dict[str, Any]]:
    """Asks for the questions of a few passages; keeps nothing.

    Returns:
        For each passage: ``passage`` (its id), ``title``, ``prompt`` as sent, and ``questions``
        (question, answer, and why it would be rejected) or the ``error``.
    """
    material = read_material(task)
    with closing(load_generator(task.generator)) as generator:
        interview = Interview(task, PromptLibrary(task.generation.prompts), generator.info)
        requests = {interview.write(p).id: p for p in material.asked[:: _every(material, number)]}
        asked = [interview.write(p) for p in requests.values()]
        sent, answers, failures = ask_unrecorded(task, asked, generator)
    tagger, rows = Tagger(task.japanese.user_dictionary), []
    for request in sent:
        passage, answer = requests[request.id], answers.get(request.id)
        found = read_questions(request, answer, passage) if answer else []
        checked = (
            q if q.rejected else check_question(q, passage.text, task.curation, tagger)
            for q in found
        )
        questions = [
            {
                "question": q.question,
                "answer": q.answer,
                "rejected": q.rejected and f"{q.rejected.filter} ({q.rejected.detail})",
            }
            for q in checked
        ]
        shown = {"passage": passage.id, "title": passage.title, "prompt": prompt_text(request)}
        rows.append({**shown, "questions": questions, "error": failures.get(request.id, "")})
    return rows


def _every(material: Material, number: int) -> int:
    return -(-len(material.asked) // number)


def plan(task: QATask, out: Path | None = None, number: int | None = None) -> dict[str, Any]:
    """Says what a run would take at most: of questions that are rejected no more is asked.

    Returns:
        ``steps``, their sums and the other figures of `japagen.pipeline.estimate.estimate`, and
        ``documents``, ``skipped`` (name to reason), ``passages``, ``asked`` and ``questions``.
    """
    material, settings = read_material(task), task.generation
    with closing(load_generator(task.generator)) as generator:
        BudgetTracker(settings.budget, task.generator.price)
        interview = Interview(task, PromptLibrary(settings.prompts), generator.info)
        planned = [interview.write(p) for p in material.asked]
        dictionary = task.japanese.user_dictionary
        outgoing = prepare(planned, generator.info, task.privacy, dictionary)
        writing, masked = outgoing.requests, [*map(Counter, outgoing.masked.values())]
        past = recorded(writing, (), generator, out or Path("runs") / task.name)
        waiting = [r for r in writing if r.id not in past.answers]
        rate = past.rate or measured(waiting, generator, number)
        questions = settings.per_passage * len(material.asked)
        choices = round(settings.multiple_choice * questions)
        some = [
            (Question("", "extractive", p.id, *_STAND_IN, 0, options=_STAND_IN * 2), p)
            for p in material.asked[:: _every(material, _PROMPTS)]
        ]
        with_passage = [interview.answer(q, p) for q, p in some]
        steps = {
            "generate": (len(writing), writing),
            "round_trip": (questions, with_passage),
            "closed_book": (questions, [interview.answer(q, None) for q, _ in some]),
            "distractors": (choices, [interview.distract(q, p) for q, p in some]),
            "choices": (choices, [interview.choose(q, p) for q, p in some]),
            "unanswerable": (round(settings.unanswerable * questions), with_passage),
            "options_alone": (choices, [interview.choose(q, None) for q, _ in some]),
        }
        rows = [
            _cost(name, many, prompts, past.answers, generator, rate).to_dict(task)
            for name, (many, prompts) in steps.items()
            if many
        ]
    return {
        **totals(task, generator, rows, rate),
        "documents": [document.name for document in material.documents],
        "skipped": {skipped.name: skipped.reason for skipped in material.skipped},
        "passages": len(material.passages),
        "asked": len(material.asked),
        "questions": questions,
        "shared_prompt_tokens": rows[0]["prompt_tokens"],
        **({"masked": sum(map(Counter.total, masked))} if masked else {}),
    }


def _cost(
    name: str,
    number: int,
    prompts: Sequence[Request],
    answered: Collection[str],
    generator: Generator,
    rate: Rate | None,
) -> StepCost:
    """A step of ``number`` requests like the given ones."""
    tokens = sum(generator.count_tokens(prompt_text(r)) for r in prompts) / len(prompts)
    known = sum(request.id in answered for request in prompts)
    texts, written = prompts[0].texts, rate and not prompts[0].options
    return StepCost(
        name,
        requests=number,
        expected=number,
        answered=known,
        prompt_tokens=tokens * number,
        waiting_tokens=tokens * (number - known),
        max_tokens=prompts[0].sampling.max_tokens,
        completion=texts * rate.completion_tokens if rate and written else None,
        seconds=texts * rate.seconds if rate else None,
    )


def summary(path: Path) -> QASummary:
    """What a finished run came to."""
    return QASummary.load(path)


def report(path: Path, language: Literal["ja", "en"]) -> str:
    """The HTML report of a finished run."""
    from japagen.reporting.qa import render_report

    questions = load_questions(path / QUESTIONS)
    return render_report(summary(path), questions, read_passages(path), language=language)


def export(
    path: Path, output: Path, form: str | None, *, rejected: bool, overwrite: bool
) -> list[Path]:
    """Writes the questions of a run with their card."""
    from japagen.reporting.qa import question_card

    return export_rows(
        QA_EXPORTS,
        form or "jsonl",
        output,
        load_questions(path / QUESTIONS),
        read_passages(path),
        card=question_card(summary(path)),
        rejected=rejected,
        overwrite=overwrite,
    )
