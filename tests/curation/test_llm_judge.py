from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from japagen.config.task import Task
from japagen.curation.llm_judge import (
    FOLDS,
    letters,
    plan_questions,
    plan_zero_shot,
    read_judgement,
    requests,
    to_vote,
    weighing_prompts,
)
from japagen.data.dataset import Dataset, Example
from japagen.errors import JapagenError
from japagen.llm.backend import Answer, GeneratorInfo
from japagen.llm.prompts import PromptLibrary

GOLD = Dataset.of(
    Example(f"{label}の話{i}。", label, id=f"{label}{i}")
    for i in range(6)
    for label in ("配送", "返品")
)
TEXTS = Dataset.of([Example("まだ\n届きません。", "配送"), Example("返したい。", "配送")])


@pytest.fixture
def task(raw_task: dict[str, Any]) -> Task:
    return Task.parse(raw_task)


def test_no_prompt_shows_the_gold_that_it_judges() -> None:
    questions = plan_questions(TEXTS, GOLD, 0)
    gold = [q for q in questions if q.gold]
    assert sorted(q.row for q in gold) == list(range(len(GOLD)))
    for question in gold:
        assert question.text not in [text for text, _ in question.shots]
    for fold in range(FOLDS):
        own = [q for q in questions if q.fold == fold]
        assert len({q.shots for q in own}) == 1
        assert [q.row for q in own if not q.gold] == [0, 1]
        assert len(own[0].shots) + sum(q.gold for q in own) == len(GOLD)
    assert [q.fold for q in questions] == sorted(q.fold for q in questions)


def test_long_shots_leave_room_for_the_text_and_stay_balanced() -> None:
    gold = Dataset.of(
        Example(f"{i}" + "長" * 500, label) for i in range(30) for label in ("配送", "返品")
    )
    for question in plan_questions(TEXTS, gold, 0):
        labels = [label for _, label in question.shots]
        assert labels.count("配送") == labels.count("返品") > 0
        assert sum(len(text) for text, _ in question.shots) <= 2200


def test_documents_end_where_the_label_comes(task: Task) -> None:
    questions = plan_questions(TEXTS, GOLD, 0)
    found = weighing_prompts(questions, task, PromptLibrary(), list(task.labels))
    assert len(found) == len(questions)
    for question, document in zip(questions, found, strict=True):
        assert document.endswith(f"：{question.text}\n分類：")
        assert document.count("\n分類：") == len(question.shots) + 1
    assert "まだ 届きません。" in found[-2]


def test_letters_stand_for_names_that_begin_alike(task: Task) -> None:
    names = letters(list(task.labels))
    document = weighing_prompts(plan_questions(TEXTS, GOLD, 0), task, PromptLibrary(), names)[0]
    assert f"- A：{next(iter(task.labels))}。" in document
    assert "分類：A\n" in document
    with pytest.raises(JapagenError, match="at most 26 labels"):
        letters([str(i) for i in range(27)])


def test_a_chat_model_is_asked_for_a_label_as_json(task: Task) -> None:
    info = GeneratorInfo("x", "x:1", "chat", True)
    questions = plan_questions(TEXTS, GOLD, 0)
    asked = requests(questions, task, PromptLibrary(), info)
    assert len({r.id for r in asked}) == len(questions)
    assert all(r.sampling.temperature == 0 for r in asked)
    said = asked[-1].prompt[-1].content
    assert '{"label": "分類の名前"}' in said
    assert "返したい。" in said


def test_without_shots_each_text_is_asked_about_once_and_stands_last(task: Task) -> None:
    questions = plan_zero_shot(TEXTS, GOLD)
    assert [(q.gold, q.row) for q in questions] == [
        *((True, row) for row in range(len(GOLD))),
        *((False, row) for row in range(len(TEXTS))),
    ]
    names = letters(list(task.labels))
    turns = weighing_prompts(questions, task, PromptLibrary(), names, zero_shot=True)
    system, user = turns[-1]
    for letter, (label, description) in zip(names, task.labels.items(), strict=True):
        assert f"{letter}：{label}。{description}\n" in user.content
    assert user.content.endswith("：返したい。")
    before = user.content.removesuffix("返したい。")
    for question, (first, last) in zip(questions, turns, strict=True):
        assert first == system
        assert last.content == before + question.text


def test_one_prompt_is_calibrated_on_all_that_it_judged() -> None:
    questions = plan_zero_shot(TEXTS, GOLD)
    scores = np.random.default_rng(0).normal(size=(len(questions), 2)) + np.array([3.0, 0.0])
    found = to_vote(questions, scores.tolist(), len(GOLD), len(TEXTS), "some-model")
    assert found.name == "some-model"
    expected = scores - scores.mean(axis=0)
    assert found.gold == pytest.approx(expected[: len(GOLD)])
    assert found.texts == pytest.approx(expected[len(GOLD) :])


@pytest.mark.parametrize(
    ("text", "likeliest"),
    [
        ('{"label": "返品"}', 1),
        ('はい。\n```json\n{"label": " 配送 "}\n```', 0),
        ('{"label": "その他"}', None),
        ('{"label": ["返品"]}', 1),
        ("返品です", 1),
        ('{"label": ["返品", "配送"]}', None),
        ("返品ではないです", None),
        ("{", None),
        ("", None),
    ],
)
def test_answers_are_read_or_count_for_nothing(text: str, likeliest: int | None) -> None:
    found = read_judgement(Answer("r", text, "stop"), ["配送", "返品"])
    assert np.exp(found).sum() == pytest.approx(1)
    if likeliest is None:
        assert found[0] == found[1]
    else:
        assert found[likeliest] > found[1 - likeliest] + 1


def test_what_a_prompt_holds_for_a_label_does_not_count() -> None:
    questions = plan_questions(TEXTS, GOLD, 0)
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(len(questions), 2))
    partial = scores + np.array([[7.0 * q.fold, 0.0] for q in questions])
    fair = to_vote(questions, scores.tolist(), len(GOLD), 2)
    found = to_vote(questions, partial.tolist(), len(GOLD), 2)
    assert found.gold == pytest.approx(fair.gold)
    assert found.texts == pytest.approx(fair.texts)
    last = [i for i, q in enumerate(questions) if not q.gold and q.row == 1]
    folds = np.array([q.fold for q in questions])
    means = [scores[folds == f].mean(axis=0) for f in range(FOLDS)]
    expected = np.mean([scores[i] - means[questions[i].fold] for i in last], axis=0)
    assert found.texts[1] == pytest.approx(expected)


def test_one_shot_of_each_of_many_labels_fits() -> None:
    gold = Dataset.of([Example(f"{n}" * 300, str(n % 40)) for n in range(80)])
    for question in plan_questions(Dataset.of([Example("短い。", "0")]), gold, 0):
        assert {label for _, label in question.shots} == {str(n) for n in range(40)}
        assert sum(len(text) for text, _ in question.shots) <= 2200
