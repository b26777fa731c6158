from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from japagen.curation.rewriting import rewrite_by_model, rewrite_by_rules, why_not
from japagen.examples import Example
from japagen.generators.base import Answer, Request
from japagen.japanese.register_detection import RegisterAnalyzer
from japagen.japanese.registers import Register
from japagen.prompts import builtin_prompts
from japagen.tasks.tasks import Task
from tests.scripted import ScriptedGenerator

ANALYZER = RegisterAnalyzer()
MISS = Example(
    "荷物がまだ届かない。",
    "配送",
    id="s-1",
    register_asked=Register.of("polite"),
    register_seen=Register.of("plain"),
    shot_ids=("g-1",),
)


def test_rules_rewrite_what_morphology_decides() -> None:
    (made,) = rewrite_by_rules([(MISS, "polite")], ANALYZER)
    assert made.text == "荷物がまだ届きません。"
    assert made.register is not None
    assert made.register.name == "polite"
    assert made.generator == "rules"


@pytest.mark.parametrize(
    ("example", "target", "why"),
    [
        (MISS, "honorific", "no rules"),
        (Example("荷物です。", text_pair="箱です。"), "plain", "pairs are not rewritten"),
        (Example("荷物をお届けいただけますか。"), "plain", ""),
    ],
)
def test_rules_say_why_they_refuse(example: Example, target: str, why: str) -> None:
    (made,) = rewrite_by_rules([(example, target)], ANALYZER)
    assert made.text == ""
    assert made.refused
    assert why in made.refused


@pytest.mark.parametrize(
    ("before", "after", "target", "why"),
    [
        ("荷物がまだ届かない。", "荷物がまだ届きません。", "polite", ""),
        ("荷物の場所を教えてほしい。", "お荷物の場所をお教えいただけますか。", "honorific", ""),
        ("３個頼んだ荷物が届かない。", "3個頼んだ荷物が届きません。", "polite", ""),
        ("荷物がまだ届かない。", "荷物がまだ届かないよ。", "polite", "reads as casual"),
        ("3月1日に頼んだ。", "3月2日に頼みました。", "polite", "numbers changed"),
        ("荷物がまだ届かない。", "請求書がまだ届きません。", "polite", "content changed"),
        ("荷物がない。", "荷物がありません。どこを探しても見当たりません。", "polite", "length"),
    ],
)
def test_a_rewritten_text_has_to_say_the_same(
    before: str, after: str, target: str, why: str
) -> None:
    found = why_not(before, after, target, ANALYZER)
    assert bool(found) == bool(why)
    assert why in found


def _send(answers: Sequence[str], asked: list[Request]) -> object:
    texts = iter(answers)

    def send(requests: Sequence[Request]) -> Mapping[str, Answer]:
        asked.extend(requests)
        return {r.id: Answer(r.id, text, "stop") for r, text in zip(requests, texts, strict=False)}

    return send


@pytest.mark.parametrize("kind", ["document", "chat"])
def test_the_first_attempt_that_stands_the_check_is_taken(task: Task, kind: str) -> None:
    curation = task.curation.model_copy(update={"rewrite_attempts": 3})
    task = task.model_copy(update={"curation": curation})
    lines = ["荷物がまだ届かない。", "荷物がまだ届いていません。", "荷物がまだ届きません。"]
    if kind == "chat":
        lines = [f'{{"text": "{line}"}}' for line in lines]
    asked: list[Request] = []
    info = ScriptedGenerator(kind=kind).info  # type: ignore[arg-type]
    (made,) = rewrite_by_model(
        [(MISS, "polite")],
        task,
        builtin_prompts(),
        info,
        ANALYZER,
        _send(lines, asked),  # type: ignore[arg-type]
    )
    assert made.text == "荷物がまだ届いていません。"
    assert made.request_id == asked[1].id
    assert made.prompt_id == asked[1].template
    assert len({r.id for r in asked}) == 3
    assert asked[0].shot_ids == MISS.shot_ids
    prompt = asked[0].prompt if isinstance(asked[0].prompt, str) else asked[0].prompt[1].content
    assert "昨日店に行ったが、まだ開いていなかった。" in prompt
    assert "昨日お店に行きましたが、まだ開いていませんでした。" in prompt
    assert MISS.text in prompt


def test_unreadable_and_missing_answers_are_refused(task: Task) -> None:
    info = ScriptedGenerator(kind="chat").info
    wanted = [(MISS, "polite"), (MISS, "honorific")]
    made = rewrite_by_model(
        wanted,
        task,
        builtin_prompts(),
        info,
        ANALYZER,
        _send(["JSON ではない"], []),  # type: ignore[arg-type]
    )
    assert [m.refused for m in made] == ["unreadable", "no answer"]
    assert not any(m.text for m in made)
