"""The report and the card of questions on documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from japagen.data.documents import Passage
from japagen.data.qa import KINDS, QASummary, Question, QuestionKind, Rate, kept, lettered
from japagen.i18n import Language, localized
from japagen.reporting.cards import row_card
from japagen.reporting.report import render_rows, rows_table, section
from japagen.reporting.text import View, Words

_SHOWN = 10
_SIGNIFICANT = 0.05


def render_report(
    summary: QASummary,
    questions: Sequence[Question],
    passages: Mapping[str, Passage],
    *,
    language: Language = "ja",
) -> str:
    """Renders what came of a run: one HTML page without scripts or other files."""
    words = Words(language)
    sections = [
        _counts(summary, words),
        _yield(summary, words),
        _examples(questions, passages, words),
        _rejected(questions, words),
        _retrieval(summary, words),
        _artefacts(summary, words),
        _sources(summary, words),
    ]
    return render_rows("qa", summary, sections, words)


def _counts(summary: QASummary, words: Words) -> View:
    heads = [words(f"qa.{name}") for name in ("kind", "made", "kept", "share")]
    said = words(
        "qa.from",
        documents=words.count(len(summary.documents)),
        characters=words.count(summary.characters),
        passages=words.count(summary.passages),
        asked=words.count(summary.asked),
        generator=summary.generator,
    )
    rows = [
        [
            words(f"qa.{kind}"),
            words.count(summary.made[kind]),
            words.count(summary.kept[kind]),
            words.share(summary.kept[kind] / summary.made[kind]),
        ]
        for kind in KINDS
        if summary.made[kind]
    ]
    return section(words("qa.counts"), [said], rows_table(heads, rows))


def yield_rows(summary: QASummary, kind: QuestionKind, words: Words) -> list[tuple[str, str]]:
    """Filters and how many questions of a kind each rejected, the most first."""
    found = summary.rejections.get(kind, {})
    return [(words.name("filter", name), words.count(n)) for name, n in found.items()]


def _yield(summary: QASummary, words: Words) -> View:
    heads = [words("qa.filter"), words("qa.rejected_count")]
    tables = [
        rows_table(heads, yield_rows(summary, kind, words), words(f"qa.{kind}")) for kind in KINDS
    ]
    return section(words("qa.yield"), [words("qa.yield.note")], *tables)


def _examples(questions: Sequence[Question], passages: Mapping[str, Passage], words: Words) -> View:
    heads = [words(f"qa.{name}") for name in ("question", "answer", "passage")]
    tables = []
    for kind in KINDS:
        found = kept(questions, kind)
        shown = found[:: max(1, len(found) // _SHOWN)][:_SHOWN]
        rows = [(q.question, _answer(q, words), passages[q.passage_id].text) for q in shown]
        tables.append(rows_table(heads, rows, words(f"qa.{kind}"), texts=True))
    return section(words("qa.examples"), [words("qa.examples.note")], *tables)


def _answer(question: Question, words: Words) -> str:
    if not question.options:
        return question.answer or words("qa.no_answer")
    return "\n".join(
        f"{'◯' if option == question.answer else '　'} {letter}. {option}"
        for letter, option in lettered(question.options)
    )


def _rejected(questions: Sequence[Question], words: Words) -> View:
    """Of every filter the first few questions."""
    heads = [words(f"qa.{name}") for name in ("filter", "question", "answer", "why")]
    seen: dict[str, list[Sequence[str]]] = {}
    for q in questions:
        if q.rejected and q.question:
            why = f"{q.rejected.detail}\n{q.rejected.value:g} / {q.rejected.threshold:g}"
            name = words.name("filter", q.rejected.filter)
            seen.setdefault(name, []).append((name, q.question, _answer(q, words), why))
    rows = [row for found in seen.values() for row in found[:3]]
    return section(words("qa.rejected"), [], rows_table(heads, rows, texts=True))


def retrieval_rows(summary: QASummary, words: Words) -> list[list[str]]:
    """A row for each retriever: recall at every rank, and the mean reciprocal rank."""
    return [
        [
            words.name("qa.retriever", score.retriever),
            *map(words.number, score.recall.values()),
            words.number(score.mrr),
        ]
        for score in summary.retrieval
    ]


def _retrieval(summary: QASummary, words: Words) -> View:
    if not summary.retrieval:
        return section(words("qa.retrieval"), [])
    score = summary.retrieval[0]
    ranks = [words("qa.recall", k=k) for k in score.recall]
    notes = [
        words("qa.retrieval.note", n=words.count(score.n), passages=summary.passages),
        words("qa.trivial", share=words.share(summary.trivial)),
    ]
    heads = [words("qa.retriever"), *ranks, words("qa.mrr")]
    return section(words("qa.retrieval"), notes, rows_table(heads, retrieval_rows(summary, words)))


def artefact_rows(rates: Sequence[Rate], words: Words) -> list[Sequence[str]]:
    """A row for each way of guessing: hits, their share and its interval, chance, and p."""
    return [
        (
            words(f"qa.guess.{rate.name}"),
            f"{rate.hits} / {rate.n}",
            f"{words.share(rate.hits / rate.n)} "
            f"[{words.share(rate.low)}, {words.share(rate.high)}]",
            words.share(rate.chance),
            words.number(rate.p),
        )
        for rate in rates
    ]


def _artefacts(summary: QASummary, words: Words) -> View:
    if not summary.artefacts:
        return section(words("qa.artefacts"), [])
    heads = [words(f"qa.{name}") for name in ("guess", "hits", "share", "chance", "p")]
    found = [rate for rate in summary.artefacts if rate.p < _SIGNIFICANT]
    named = "、".join(words(f"qa.guess.{rate.name}") for rate in found)
    verdict = words("qa.artefacts.some", names=named) if found else words("qa.artefacts.none")
    notes = [words("qa.artefacts.note"), verdict]
    return section(
        words("qa.artefacts"), notes, rows_table(heads, artefact_rows(summary.artefacts, words))
    )


def _sources(summary: QASummary, words: Words) -> View:
    heads = [words("qa.document"), words("qa.why")]
    reasons = ((name, localized(why, words.language)) for name, why in summary.skipped.items())
    documents = words("qa.documents", names="、".join(summary.documents))
    terms = words("qa.terms", terms=summary.terms)
    skipped = rows_table(heads, reasons, words("qa.skipped"), texts=True)
    return section(words("qa.sources"), [documents, terms], skipped)


def question_card(summary: QASummary) -> str:
    """The card of a run's questions: Markdown with YAML front matter, in English and Japanese."""
    words = Words("en")
    front = {
        "task_categories": ["question-answering", "text-retrieval", "multiple-choice"],
        "tags": ["synthetic", "japanese", "japagen"],
    }
    counts = [
        (words(f"qa.{kind}"), summary.made[kind], summary.kept[kind])
        for kind in KINDS
        if summary.made[kind]
    ]
    rejections = [
        (words(f"qa.{kind}"), *row) for kind in KINDS for row in yield_rows(summary, kind, words)
    ]
    total = f"{sum(summary.kept.values()):,}"
    japanese = localized(
        f"{total} Japanese questions that a language model wrote and no human has checked. "
        "Read the terms of use (Terms) and the limits (Limits).",
        "ja",
    )
    return row_card(
        "question_card.md.j2",
        summary,
        front,
        total=total,
        japanese=japanese,
        counts=counts,
        rejections=rejections,
        artefacts=artefact_rows(summary.artefacts, words),
    )
