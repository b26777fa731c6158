from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from japagen.data.dataset import Rejection
from japagen.data.documents import Passage
from japagen.data.export import export_rows, write_lines
from japagen.data.qa import (
    NO_ANSWER,
    QASummary,
    Question,
    kept,
    read_passages,
    read_questions,
    relevant,
)
from japagen.data.registry import QA_EXPORTS
from japagen.errors import DamagedError, JapagenError

TEXT = "修理は福岡で受け付ける。送料は605円である。保証は一年である。"
PASSAGES = {
    "d#1": Passage("d#1", "d", "修理", 0, 22, TEXT[:22]),
    "d#2": Passage("d#2", "d", "修理", 12, len(TEXT), TEXT[12:]),
    "e#1": Passage("e#1", "e", "", 0, 8, "色は青と白である。"[:8]),
}
ASKED = Question("q-1", "extractive", "d#1", "送料はいくらですか。", "605円", 15)
QUESTIONS = [
    ASKED,
    replace(
        ASKED,
        id="q-2",
        kind="multiple_choice",
        options=("500円", "605円", "880円", "無料"),
        parent_id="q-1",
    ),
    Question("q-3", "unanswerable", "e#1", "送料はいくらですか。", "", -1, parent_id="q-1"),
    replace(ASKED, id="q-4", rejected=Rejection("closed_book", 1, 0.7, "605円")),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    write_lines(folder / "questions.jsonl", QUESTIONS)
    write_lines(folder / "passages.jsonl", PASSAGES.values())
    return folder


def _exported(run: Path, form: str, name: str, *, rejected: bool = False) -> Path:
    path, card = export_rows(
        QA_EXPORTS,
        form,
        run / name,
        read_questions(run / "questions.jsonl"),
        read_passages(run),
        card="# card\n",
        rejected=rejected,
        overwrite=False,
    )
    assert card.read_text("utf-8") == "# card\n"
    return path


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_rows_come_back_as_they_were(run: Path) -> None:
    assert read_questions(run / "questions.jsonl") == QUESTIONS
    assert read_passages(run) == PASSAGES
    assert [q.id for q in kept(QUESTIONS, "extractive")] == ["q-1"]
    (run / "questions.jsonl").write_text('{"id": 1}\n', "utf-8")
    with pytest.raises(DamagedError):
        read_questions(run / "questions.jsonl")


def test_squad_has_offsets_and_what_has_no_answer(run: Path) -> None:
    found = json.loads(_exported(run, "squad", "a.json").read_text("utf-8"))
    assert found["version"] == "v2.0"
    asked = [
        (paragraph["context"], qa)
        for article in found["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]
    assert [qa["id"] for _, qa in asked] == ["q-1", "q-3"]
    (context, first), (_, second) = asked
    (answer,) = first["answers"]
    start = answer["answer_start"]
    assert context[start : start + len(answer["text"])] == answer["text"] == "605円"
    assert (first["is_impossible"], second["is_impossible"], second["answers"]) == (False, True, [])


def test_beir_marks_every_passage_that_holds_the_answer(run: Path) -> None:
    folder = _exported(run, "beir", "beir")
    assert [row["_id"] for row in _lines(folder / "corpus.jsonl")] == [*PASSAGES]
    assert _lines(folder / "queries.jsonl") == [{"_id": "q-1", "text": ASKED.question}]
    assert (folder / "qrels" / "test.tsv").read_text("utf-8").splitlines() == [
        "query-id\tcorpus-id\tscore",
        "q-1\td#1\t1",
        "q-1\td#2\t1",
    ]
    assert relevant(ASKED, PASSAGES) == ["d#1", "d#2"]


def test_chat_has_the_passage_the_options_and_the_answer(run: Path) -> None:
    rows = {str(row["id"]): row["messages"] for row in _lines(_exported(run, "chat", "c.jsonl"))}
    said = {name: turns[-1]["content"] for name, turns in rows.items()}  # type: ignore[index]
    assert said == {"q-1": "605円", "q-2": "B. 605円", "q-3": NO_ANSWER}
    asked = str(rows["q-2"][0]["content"])  # type: ignore[index]
    assert asked.startswith(PASSAGES["d#1"].text)
    assert asked.endswith("質問：送料はいくらですか。\nA. 500円\nB. 605円\nC. 880円\nD. 無料")


def test_jsonl_may_hold_what_was_rejected_and_why(run: Path) -> None:
    rows = _lines(_exported(run, "jsonl", "all.jsonl", rejected=True))
    assert rows[-1]["rejected"] == {
        "filter": "closed_book",
        "value": 1,
        "threshold": 0.7,
        "detail": "605円",
    }
    assert rows[0]["context"] == PASSAGES["d#1"].text


@pytest.mark.parametrize(
    ("form", "name", "rejected", "message"),
    [
        ("squad", "a.jsonl", False, r"Expected a path that ends in \.json"),
        ("beer", "a", False, r"Unknown export format of questions 'beer' \(did you mean 'beir'"),
        ("chat", "a.jsonl", True, "Expected --rejected with the format jsonl, found chat"),
        ("squad", "taken.json", False, "is there already"),
    ],
)
def test_a_wrong_export_is_refused(
    run: Path, form: str, name: str, rejected: bool, message: str
) -> None:
    (run / "taken.json").write_text("", "utf-8")
    with pytest.raises(JapagenError, match=message):
        _exported(run, form, name, rejected=rejected)


def test_nothing_kept_is_nothing_to_export(run: Path) -> None:
    write_lines(run / "questions.jsonl", QUESTIONS[-1:])
    with pytest.raises(JapagenError, match="found none that the filters kept"):
        _exported(run, "squad", "a.json")


def test_a_run_that_is_not_finished_says_so(run: Path) -> None:
    with pytest.raises(JapagenError, match=r"has no qa\.json yet"):
        QASummary.load(run)
    (run / QASummary.FILE).write_text("{}", "utf-8")
    with pytest.raises(DamagedError):
        QASummary.load(run)
