from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from japagen.config.qa import QATask
from japagen.data.documents import Passage
from japagen.data.qa import Question
from japagen.errors import JapagenError
from japagen.generation.qa import (
    Interview,
    read_choice,
    read_options,
    read_questions,
    read_reply,
)
from japagen.llm.backend import Answer, Request, prompt_texts
from japagen.llm.prompts import PromptLibrary
from tests.scripted import ScriptedGenerator

PASSAGE = Passage("d#1", "d", "保証", 0, 11, "保証の期間は一年です。")
TASK = QATask(kind="qa", name="t", documents=Path("docs"), description="家電の説明書")
INTERVIEW = Interview(TASK, PromptLibrary(), ScriptedGenerator(kind="chat").info)
QUESTION = Question("q", "extractive", "d#1", "保証は何年ですか。", "一年", 6)


def _answer(request: Request, said: object, finish: str = "stop") -> Answer:
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    return Answer(request.id, text, finish)  # type: ignore[arg-type]


def _user(request: Request) -> str:
    return prompt_texts(request.prompt)[-1]


def test_questions_are_asked_for_with_the_passage_and_in_a_list() -> None:
    request = INTERVIEW.write(PASSAGE)
    assert request.texts == 2 * TASK.generation.per_passage
    shown = _user(request)
    assert all(text in shown for text in (PASSAGE.text, "家電の説明書", "見出し：保証", "3組"))
    assert request.sampling.temperature == TASK.generation.temperature


def test_answers_are_greedy_and_without_a_passage_none_is_shown() -> None:
    with_passage, without = INTERVIEW.answer(QUESTION, PASSAGE), INTERVIEW.answer(QUESTION, None)
    assert PASSAGE.text in _user(with_passage)
    assert PASSAGE.text not in "".join(prompt_texts(without.prompt))
    assert QUESTION.question in _user(without)
    assert with_passage.sampling.temperature == without.sampling.temperature == 0
    assert with_passage.id != without.id


def test_a_base_model_is_refused() -> None:
    with pytest.raises(JapagenError, match="Expected a chat model to ask questions"):
        Interview(TASK, PromptLibrary(), ScriptedGenerator(kind="document").info)


def test_questions_are_read_with_the_answers_behind_them() -> None:
    request = INTERVIEW.write(PASSAGE)
    said = {"texts": ["期間は何年ですか。", "一年", "いつからですか。", "購入日"]}
    found = read_questions(request, _answer(request, said), PASSAGE)
    assert [(q.question, q.answer) for q in found] == [
        ("期間は何年ですか。", "一年"),
        ("いつからですか。", "購入日"),
    ]
    assert all(q.rejected is None and q.request_id == request.id for q in found)
    assert len({q.id for q in found}) == 2


def test_a_pair_that_is_cut_off_is_left_out() -> None:
    request = INTERVIEW.write(PASSAGE)
    said = '{"texts": ["期間は何年ですか。", "一年", "いつから'
    found = read_questions(request, _answer(request, said, "length"), PASSAGE)
    assert [(q.question, q.rejected) for q in found] == [("期間は何年ですか。", None)]


@pytest.mark.parametrize(
    ("said", "finish", "filter_"),
    [
        ("申し訳ありません。", "stop", "unreadable"),
        ('{"texts": ["質問だけで', "length", "truncated"),
        ({"texts": ["質問だけですか。"]}, "stop", "unreadable"),
    ],
)
def test_an_answer_without_a_pair_is_a_rejected_row(
    said: object, finish: str, filter_: str
) -> None:
    request = INTERVIEW.write(PASSAGE)
    (found,) = read_questions(request, _answer(request, said, finish), PASSAGE)
    assert found.rejected is not None
    assert found.rejected.filter == filter_


def test_replies_options_and_choices_are_read() -> None:
    asked = INTERVIEW.answer(QUESTION, PASSAGE)
    assert read_reply(asked, _answer(asked, {"text": "一年"})) == "一年"
    assert read_reply(asked, _answer(asked, "分からない")) == ""
    wrong = INTERVIEW.distract(QUESTION, PASSAGE)
    assert wrong.texts == 3
    assert read_options(wrong, _answer(wrong, {"texts": ["二年", "三年", "五年"]})) == [
        "二年",
        "三年",
        "五年",
    ]
    options = replace(QUESTION, options=("二年", "一年", "三年", "五年"))
    chosen = INTERVIEW.choose(options, None)
    assert "B. 一年" in _user(chosen)
    assert read_choice(options, _answer(chosen, {"label": "B"})) == "一年"
    assert read_choice(options, _answer(chosen, {"label": "F"})) == ""


def test_what_answers_depend_on_is_compared_and_the_budget_is_not() -> None:
    def changed(**values: object) -> Interview:
        settings = TASK.generation.model_copy(update=values)
        return replace(INTERVIEW, task=TASK.model_copy(update={"generation": settings}))

    assert changed(most_passages=3).fingerprint == INTERVIEW.fingerprint
    assert changed(per_passage=2).fingerprint != INTERVIEW.fingerprint
