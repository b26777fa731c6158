"""The report and the card of questions on documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from japagen.data.documents import Passage
from japagen.data.qa import KINDS, QASummary, Question, QuestionKind, Rate, kept, lettered
from japagen.i18n import Language, localized
from japagen.reporting.cards import row_card
from japagen.reporting.report import render_rows
from japagen.reporting.text import Words

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
    examples = {kind: kept(questions, kind) for kind in KINDS}
    guessed = [rate for rate in summary.artefacts if rate.p < _SIGNIFICANT]
    return render_rows(
        "qa",
        summary,
        words,
        counts=[
            (
                words(f"qa.{kind}"),
                words.count(summary.made[kind]),
                words.count(summary.kept[kind]),
                words.share(summary.kept[kind] / summary.made[kind]),
            )
            for kind in KINDS
            if summary.made[kind]
        ],
        yields=[(kind, yield_rows(summary, kind, words)) for kind in KINDS],
        examples=[
            (
                kind,
                [
                    (q.question, _answer(q, words), passages[q.passage_id].text)
                    for q in found[:: max(1, len(found) // _SHOWN)][:_SHOWN]
                ],
            )
            for kind, found in examples.items()
        ],
        rejected=_rejected(questions, words),
        retrieval=retrieval_rows(summary, words),
        ranks=[words("qa.recall", k=k) for score in summary.retrieval[:1] for k in score.recall],
        artefacts=artefact_rows(summary.artefacts, words),
        guessed="、".join(words(f"qa.guess.{rate.name}") for rate in guessed),
        skipped=[(name, words.say(why)) for name, why in summary.skipped.items()],
    )


def yield_rows(summary: QASummary, kind: QuestionKind, words: Words) -> list[tuple[str, str]]:
    """Filters and how many questions of a kind each rejected, the most first."""
    found = summary.rejections.get(kind, {})
    return [(words.name("filter", name), words.count(n)) for name, n in found.items()]


def _answer(question: Question, words: Words) -> str:
    if not question.options:
        return question.answer or words("qa.no_answer")
    return "\n".join(
        f"{'◯' if option == question.answer else '　'} {letter}. {option}"
        for letter, option in lettered(question.options)
    )


def _rejected(questions: Sequence[Question], words: Words) -> list[Sequence[str]]:
    """Of every filter the first few questions."""
    seen: dict[str, list[Sequence[str]]] = {}
    for q in questions:
        if q.rejected and q.question:
            why = f"{q.rejected.detail}\n{q.rejected.value:g} / {q.rejected.threshold:g}"
            name = words.name("filter", q.rejected.filter)
            seen.setdefault(name, []).append((name, q.question, _answer(q, words), why))
    return [row for found in seen.values() for row in found[:3]]


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
        "reporting/question_card.md.j2",
        summary,
        front,
        total=total,
        japanese=japanese,
        counts=counts,
        rejections=rejections,
        artefacts=artefact_rows(summary.artefacts, words),
    )
