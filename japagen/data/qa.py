"""Questions on passages, their file in a run, what a run of them came to, and their exports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from japagen.data.dataset import Rejection
from japagen.data.documents import Passage
from japagen.data.export import RowSummary, read_lines, rejection_of, write_lines
from japagen.data.files import atomic_directory, digest, write_text

QuestionKind = Literal["extractive", "multiple_choice", "unanswerable"]
KINDS: tuple[QuestionKind, ...] = ("extractive", "multiple_choice", "unanswerable")
QUESTIONS, PASSAGES = "questions.jsonl", "passages.jsonl"
NO_ANSWER = "答えなし"
"""What a model is to say where a passage does not answer a question."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question on a passage.

    Attributes:
        id: Stable identifier.
        kind: ``extractive``; ``multiple_choice``, which is an extractive one with options; or
            ``unanswerable``, which is an extractive one on a passage that does not answer it.
        passage_id: The passage.
        question: The question.
        answer: The answer as it stands in the passage; empty where there is none.
        start: Where the answer begins in the passage; -1 where there is none.
        options: What to choose from, the answer among them; empty where there is nothing.
        parent_id: The question that this one was made of.
        request_id: The request that it comes from.
        round_trip: What was answered with the passage.
        closed_book: What was answered without the passage.
        rejected: Set when a filter rejected it.
    """

    id: str
    kind: QuestionKind
    passage_id: str
    question: str
    answer: str
    start: int
    options: tuple[str, ...] = ()
    parent_id: str | None = None
    request_id: str = ""
    round_trip: str | None = None
    closed_book: str | None = None
    rejected: Rejection | None = None

    @classmethod
    def read(cls, options: Sequence[str], rejected: Any = None, **row: Any) -> Question:
        """Inverse of `dataclasses.asdict`."""
        return cls(**row, options=tuple(options), rejected=rejection_of(rejected))


def question_id(kind: QuestionKind, passage: str, question: str, answer: str) -> str:
    """An id that follows from what a question says."""
    return f"q-{digest([kind, passage, question, answer])}"


def kept(questions: Iterable[Question], *kinds: QuestionKind) -> list[Question]:
    """The questions that no filter rejected, of some kinds or of all."""
    return [q for q in questions if q.rejected is None and q.kind in (kinds or KINDS)]


def read_questions(path: Path) -> list[Question]:
    """Reads questions from a file of a run; see `read_lines`."""
    return read_lines(path, Question.read)


def read_passages(run: Path) -> dict[str, Passage]:
    """Reads the passages of a run, by id; see `read_lines`."""
    return {p.id: p for p in read_lines(run / PASSAGES, Passage)}


class Rate(BaseModel):
    """A count among others.

    Attributes:
        name: What is counted.
        hits: How many.
        n: Of how many.
        chance: The share that guessing comes to.
        low: Lower end of the 95% interval of the share (Wilson).
        high: Upper end.
        p: Probability of as many hits by chance, of one side.
    """

    name: str
    hits: int
    n: int
    chance: float
    low: float
    high: float
    p: float


class RetrievalScore(BaseModel):
    """How well a retriever finds the passages of questions.

    Attributes:
        retriever: ``bm25``, or the encoder's name.
        n: How many questions.
        recall: Rank to the share of questions with a right passage up to there.
        mrr: Mean reciprocal rank of the first right passage, 0 beyond rank 10.
    """

    retriever: str
    n: int
    recall: dict[int, float]
    mrr: float


class QASummary(RowSummary):
    """What a run of questions came to.

    Attributes:
        documents: Documents read.
        skipped: What was left out: its name and the reason.
        passages: Passages that they were cut into.
        asked: Passages that questions were asked for on.
        characters: Characters of the documents.
        made: Kind to questions made.
        kept: Kind to questions kept.
        rejections: Kind to filter to questions rejected.
        failures: Requests without an answer, by reason.
        retrieval: Scores of retrievers on the extractive questions.
        trivial: Share of them that BM25 finds trivially; see `japagen.evaluation.qa`.
        artefacts: How often each way of guessing finds the right option.
    """

    FILE: ClassVar[str] = "qa.json"
    documents: list[str]
    skipped: dict[str, str]
    passages: int
    asked: int
    characters: int
    made: dict[str, int]
    kept: dict[str, int]
    rejections: dict[str, dict[str, int]]
    failures: dict[str, int]
    retrieval: list[RetrievalScore]
    trivial: float | None
    artefacts: list[Rate]


Passages = Mapping[str, Passage]


def write_jsonl(path: Path, questions: Sequence[Question], passages: Passages) -> None:
    """Writes every question with its passage, and the filter that rejected it, if one did."""
    rows = ({**asdict(q), "context": passages[q.passage_id].text} for q in questions)
    write_lines(path, rows)


def write_squad(path: Path, questions: Sequence[Question], passages: Passages) -> None:
    """Writes SQuAD 2.0, as JSQuAD does too: an article a document, a paragraph a passage.

    Options have no place there, and multiple-choice questions none of their own.
    """
    articles: dict[str, dict[str, list[Any]]] = {}
    for q in questions:
        if q.kind == "multiple_choice":
            continue
        answers = [{"text": q.answer, "answer_start": q.start}] if q.start >= 0 else []
        row = {
            "id": q.id,
            "question": q.question,
            "is_impossible": not answers,
            "answers": answers,
        }
        article = articles.setdefault(passages[q.passage_id].document, {})
        article.setdefault(q.passage_id, []).append(row)
    data = [
        {
            "title": document,
            "paragraphs": [{"context": passages[i].text, "qas": qas} for i, qas in found.items()],
        }
        for document, found in articles.items()
    ]
    write_text(path, json.dumps({"version": "v2.0", "data": data}, ensure_ascii=False) + "\n")


def write_beir(path: Path, questions: Sequence[Question], passages: Passages) -> None:
    """Writes a directory in the layout of BEIR: corpus, queries and qrels.

    Queries are the extractive questions. Where passages overlap, each that holds the whole answer
    is relevant.
    """
    asked = [q for q in questions if q.kind == "extractive"]
    with atomic_directory(path) as made:
        (made / "qrels").mkdir()
        corpus = ({"_id": p.id, "title": p.title, "text": p.text} for p in passages.values())
        write_lines(made / "corpus.jsonl", corpus)
        queries = ({"_id": q.id, "text": q.question} for q in asked)
        write_lines(made / "queries.jsonl", queries)
        lines = [f"{q.id}\t{name}\t1" for q in asked for name in relevant(q, passages)]
        write_text(made / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\n" + "\n".join(lines))


def relevant(question: Question, passages: Passages) -> list[str]:
    """The passages that hold a question's answer at its place in the document, its own first."""
    own = passages[question.passage_id]
    start = own.start + question.start
    end = start + len(question.answer)
    others = (
        p.id
        for p in passages.values()
        if p.document == own.document and p.start <= start and end <= p.end and p.id != own.id
    )
    return [own.id, *others]


def write_chat(path: Path, questions: Sequence[Question], passages: Passages) -> None:
    """Writes chat messages, one conversation a line; the passage is part of the question."""
    rows = []
    for q in questions:
        options = "".join(f"\n{letter}. {text}" for letter, text in lettered(q.options))
        asked = f"{passages[q.passage_id].text}\n\n質問：{q.question}{options}"
        right = next((f"{k}. {text}" for k, text in lettered(q.options) if text == q.answer), "")
        turns = [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": right or q.answer or NO_ANSWER},
        ]
        rows.append({"id": q.id, "messages": turns})
    write_lines(path, rows)


def lettered(options: Sequence[str]) -> list[tuple[str, str]]:
    """Options, each behind a letter."""
    return list(zip("ABCDEFGH", options, strict=False))
